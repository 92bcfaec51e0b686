"""SCAN and its family.

Elements are returned in the order of their hashes, and a cursor is such a hash. So a scan returns
every element that exists during the whole scan, whatever else is added or removed.
"""

import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection
from typing import TypeVar

from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer
from cachesim.protocols.resp import Error

_DEFAULT_COUNT = 10


def cursor_of(text: bytes) -> int:
    """Return the number of a cursor.

    Raises:
        Error: the text is no cursor.
    """
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit() or len(digits) > 20 or int(digits) >= 2**64:
        raise Error("ERR invalid cursor")
    return int(text) % 2**64  # as C parses unsigned numbers


def scan_options(words: list[bytes], *, with_type: bool = False) -> tuple[bytes | None, int, bytes]:
    """Return the pattern or None, the count, and the type or an empty text.

    Raises:
        Error: an option is malformed.
    """
    pattern: bytes | None = None
    count, kind = _DEFAULT_COUNT, b""
    for at in range(0, len(words), 2):
        word = words[at].lower()
        if at + 1 >= len(words):
            raise Error(SYNTAX)
        if word == b"count":
            count = integer(words[at + 1])
            if count < 1:
                raise Error(SYNTAX)
        elif word == b"match":
            pattern = words[at + 1]
        elif word == b"type" and with_type:
            kind = words[at + 1].lower()
        else:
            raise Error(SYNTAX)
    return pattern, count, kind


Hashed = tuple[int, bytes]


def hashed(members: Collection[bytes]) -> list[Hashed]:
    """Return elements with their hashes, in the order of a scan."""
    return sorted((zlib.crc32(member) + 1, member) for member in members)


def page(ordered: list[Hashed], cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Return the next cursor, and the elements from a cursor on."""
    begin = bisect_left(ordered, (cursor, b""))
    end = begin + count
    # Elements with the same hash are returned together, as a cursor can't tell them apart.
    while 0 < end < len(ordered) and ordered[end][0] == ordered[end - 1][0]:
        end += 1
    found = [member for _, member in ordered[begin:end]]
    return (ordered[end][0] if end < len(ordered) else 0), found


Found = TypeVar("Found", bound=Collection[bytes])


def scan_members(
    find: Callable[[], Found | None], arguments: list[bytes], *, whole: Callable[[Found], bool]
) -> tuple[int, list[bytes]]:
    """Run SSCAN and the like: return the next cursor, and elements.

    Args:
        find: returns the collection, if there is one.
        arguments: `name key cursor [MATCH pattern] [COUNT n]`.
        whole: whether to return the whole collection whatever the count, as it is small.

    Raises:
        Error: an argument is malformed, or the key has another type. Redis reads no options if
            the key is missing.
    """
    cursor = cursor_of(arguments[2])
    members = find()
    if not members:
        return 0, []
    pattern, count, _ = scan_options(arguments[3:])
    if whole(members):
        next_cursor, found = 0, list(members)
    else:
        next_cursor, found = page(hashed(members), cursor, count)
    if pattern is not None:
        found = list(filter(matcher(pattern), found))
    return next_cursor, found
