"""The versions that a node reports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """The version of a server.

    Attributes:
        name: the server's name.
        number: the server's own version.
        redis: the version of Redis that it claims to be compatible with.
    """

    name: str
    number: str
    redis: str


_VERSIONS = {
    "redis": Version("redis", "7.0.15", "7.0.15"),
    "valkey": Version("valkey", "8.1.1", "7.2.4"),
}


def version_of(engine: str) -> Version:
    """Return the version of an engine: `redis` or `valkey`."""
    return _VERSIONS[engine]
