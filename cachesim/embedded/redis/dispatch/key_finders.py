"""How Redis finds keys without key specifications, or if these don't fit the arguments."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


def mapping(flat: Sequence[Any]) -> dict[str, Any]:
    """Return a map that RESP2 shows as alternating keys and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def counted(specs: Sequence[Any]) -> Callable[[Sequence[bytes]], Iterable[int]] | None:
    """Return how Redis finds keys after their number if a key specification refuses that.

    It reads the number as C's atoi does, so `1.5` and `1x` are 1.
    """
    if not specs or mapping(specs[-1]["find_keys"])["type"] != "keynum":
        return None
    begins = [mapping(mapping(spec["begin_search"])["spec"]) for spec in specs]
    number_at = int(begins[-1]["index"])

    def find(arguments: Sequence[bytes]) -> Iterator[int]:
        found = re.match(rb"\s*[+-]?\d+", arguments[number_at])
        number = int(found[0]) if found else 0
        if 1 <= number < len(arguments) - number_at:
            yield from range(number_at + 1, number_at + 1 + number)
            yield from (int(begin["index"]) for begin in begins[:-1])

    return find


def sort_store(arguments: Sequence[bytes]) -> Iterator[int]:
    """Find the key after the last STORE of a SORT."""
    found, at = 0, 2
    skipped = {b"limit": 2, b"get": 1, b"by": 1}
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"store" and at + 1 < len(arguments):
            found = at + 1
            at += 1
        at += skipped.get(word, 0) + 1
    if found:
        yield found


def _stream_keys(arguments: Sequence[bytes]) -> Iterator[int]:
    """Find the keys of XREAD or XREADGROUP, after STREAMS. Wrong arguments have none."""
    skipped = {b"block": 2, b"count": 2, b"group": 3, b"noack": 1}
    at = 1
    while at < len(arguments) and (width := skipped.get(arguments[at].lower())):
        at += width
    if at < len(arguments) and arguments[at].lower() == b"streams":
        count = len(arguments) - at - 1
        if count % 2 == 0:
            yield from range(at + 1, at + 1 + count // 2)


def _georadius_keys(arguments: Sequence[bytes]) -> Iterator[int]:
    """Find the key of a GEORADIUS, and the one after the last STORE or STOREDIST."""
    yield 1
    target, at = 0, 5
    while at < len(arguments):
        if arguments[at].lower() in (b"store", b"storedist") and at + 1 < len(arguments):
            at += 1
            target = at
        at += 1
    if target:
        yield target


def migrate_keys(arguments: Sequence[bytes]) -> Iterator[int]:
    """Find the key of a MIGRATE, or those after KEYS."""
    skipped = {b"auth": 1, b"auth2": 2}
    at = 6
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"keys":
            if not arguments[3]:
                yield from range(at + 1, len(arguments))
            return
        at += 1 + skipped.get(word, 0)
    yield 3


CALLBACKS: Mapping[str, Callable[[Sequence[bytes]], Iterable[int]]] = {
    "georadius": _georadius_keys,
    "georadiusbymember": _georadius_keys,
    "xread": _stream_keys,
    "xreadgroup": _stream_keys,
}
"""How Redis finds keys to know their slots, or if the key specifications don't fit."""
