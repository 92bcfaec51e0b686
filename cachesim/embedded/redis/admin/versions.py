"""The versions that a node may have, and how they differ."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """The version of a server.

    Attributes:
        name: the server's name.
        number: the server's own version.
        redis: the version of Redis that it claims to be compatible with.
        releases: the releases since Redis 7.0 whose commands and behaviour it has: `7.2`, `7.4`,
            `8.0`, `valkey`.
    """

    name: str
    number: str
    redis: str
    releases: frozenset[str] = frozenset()


_REDIS = {
    "7.0": Version("redis", "7.0.15", "7.0.15"),
    "7.2": Version("redis", "7.2.8", "7.2.8", frozenset({"7.2"})),
    "7.4": Version("redis", "7.4.3", "7.4.3", frozenset({"7.2", "7.4"})),
    "8.0": Version("redis", "8.0.2", "8.0.2", frozenset({"7.2", "7.4", "8.0"})),
}
_VALKEY = Version("valkey", "8.1.1", "7.2.4", frozenset({"7.2", "valkey"}))


def version_of(engine: str, release: str) -> Version:
    """Return the version of an engine, `redis` or `valkey`.

    Args:
        release: Redis's release: `7.0`, `7.2`, `7.4` or `8.0`. Valkey is 8.1.
    """
    return _VALKEY if engine == "valkey" else _REDIS[release]
