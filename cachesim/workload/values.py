"""What the workload stores: JSON as the architecture has it, with the version of the value in it.

A version is who wrote the value, and a number that grows with each write of the key.
"""

import json
import re
import zlib
from datetime import UTC, datetime
from typing import NamedTuple

SESSION_TTL = 604_800
"""Seconds: 7 days."""
SESSION_SIZE = 2_000
"""Bytes, about."""
ANSWER_SIZE = 5_000
"""Bytes, about: in production 2 million answers have 10 GB."""
PREFIX = 512
"""Bytes at the begin of a session that have its version."""
ENDPOINTS = {
    "products:list": 300,
    "users:profile": 60,
    "products:detail": 600,
    "prices:current": 120,
    "catalog:categories": 3600,
}
"""The TTL of each endpoint's answers, in seconds."""


class Version(NamedTuple):
    """The version of a value."""

    writer: str
    number: int


def version_of(value: str | bytes | None) -> Version | None:
    """Return the version of a stored value. None: there is no value, or none of the workload's."""
    if value is None:
        return None
    try:
        found = json.loads(value)["metadata"]
        return Version(found["writer"], found["version"])
    except (ValueError, KeyError, TypeError):
        return None


def version_in(begin: str) -> Version | None:
    """Return the version that the first `PREFIX` bytes of a session tell. None: none."""
    found = _VERSION.search(begin)
    return Version(found[1], int(found[2])) if found else None


def session_key(id: str) -> str:
    """Return the key of a session."""
    return f"session:{id}"


def session(user: str, created_at: str, version: Version) -> str:
    """Return the value of a session.

    Args:
        created_at: as `now` returns it.
    """
    return _SESSION % (user, created_at, now(), version.writer, version.number)


def now() -> str:
    """Return the time as it is stored."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def answer_key(number: int) -> tuple[str, int]:
    """Return the key of an answer of the API, and its TTL in seconds.

    Args:
        number: of the endpoint and its parameters, from 0.
    """
    endpoint = _ENDPOINTS[number % len(_ENDPOINTS)]
    return f"api:{endpoint}:{zlib.crc32(b'%d' % number):08x}", ENDPOINTS[endpoint]


def answer(version: Version) -> bytes:
    """Return the value of an answer of the API."""
    return _ANSWER % (version.writer.encode(), version.number)


_ENDPOINTS = tuple(ENDPOINTS)
_VERSION = re.compile(r'"writer": "([^"]*)", "version": (\d+)')
_SESSION = (
    '{"user_id": "%s", "created_at": "%s", "last_activity": "%s", "ip": "192.168.1.100", '
    '"user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", '
    '"permissions": ["read", "write"], "metadata": {"writer": "%s", "version": %d, "cart": "'
    + "x" * (SESSION_SIZE - 330)
    + '"}}'
)
_ANSWER = (
    b'{"products": ["' + b"x" * (ANSWER_SIZE - 100) + b'"], "total": 150, '
    b'"metadata": {"writer": "%s", "version": %d}}'
)
