"""What a node says it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """Of a server.

    Attributes:
        name: where a server's name is asked for.
        number: its own version.
        redis: the version of Redis that it says it is compatible with.
    """

    name: str
    number: str
    redis: str


_VERSIONS = {
    "redis": Version("redis", "7.0.15", "7.0.15"),
    "valkey": Version("valkey", "8.1.1", "7.2.4"),
}


def version_of(engine: str) -> Version:
    """The version that a setting `engine` stands for."""
    return _VERSIONS[engine]
