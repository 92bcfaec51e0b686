"""Redis's glob patterns, matched without exponential backtracking."""

import functools
from collections.abc import Callable

_ANY = 0
_ONE = 1
_Part = tuple[int, frozenset[int], bool]
"""A part of a pattern: `_ANY` or `_ONE`, its bytes, and whether they are negated."""


@functools.lru_cache(maxsize=1024)
def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Return a function that tells whether a whole string matches a pattern.

    A regular expression would try all ways to split the string between several `*`. Going back
    to the last `*` is enough.
    """
    if pattern == b"*":
        return lambda _: True
    if not any(char in pattern for char in b"*?[\\"):
        return pattern.__eq__
    parts = _parts(pattern)
    if parts[-1][0] is _ANY and not any(char in pattern[:-1] for char in b"*?[\\"):
        prefix = pattern[:-1]
        return lambda text: text.startswith(prefix)
    return functools.partial(_matches, parts)


def _parts(pattern: bytes) -> list[_Part]:
    parts: list[_Part] = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at]
        if char == 0x2A:  # *
            if not parts or parts[-1][0] is not _ANY:
                parts.append((_ANY, frozenset(), False))
        elif char == 0x3F:  # ?
            parts.append((_ONE, frozenset(), True))
        elif char == 0x5B:  # [
            at, chars, negated = _class(pattern, at + 1)
            parts.append((_ONE, chars, negated))
        else:
            if char == 0x5C and at + 1 < end:  # a backslash
                at += 1
            parts.append((_ONE, frozenset({pattern[at]}), False))
        at += 1
    return parts


def _class(pattern: bytes, at: int) -> tuple[int, frozenset[int], bool]:
    """Return the end of a class such as `abc]` or `^a-z]`, its bytes, and whether it is negated."""
    end = len(pattern)
    negated = at < end and pattern[at] == 0x5E
    if negated:
        at += 1
    chars: set[int] = set()
    while True:
        if at + 1 < end and pattern[at] == 0x5C:
            at += 1
            chars.add(pattern[at])
        elif at >= end:
            at -= 1
            break
        elif pattern[at] == 0x5D:
            break
        elif at + 2 < end and pattern[at + 1] == 0x2D:
            low, high = sorted((pattern[at], pattern[at + 2]))
            chars.update(range(low, high + 1))
            at += 2
        else:
            chars.add(pattern[at])
        at += 1
    return at, frozenset(chars), negated


def _matches(parts: list[_Part], text: bytes) -> bool:
    at = part = 0
    # The index of the last *, and the end of the text that it has matched so far.
    star, taken = -1, 0
    while at < len(text):
        if part < len(parts):
            kind, chars, negated = parts[part]
            if kind is _ANY:
                star, taken = part, at
                part += 1
                continue
            if (text[at] in chars) is not negated:
                at += 1
                part += 1
                continue
        if star < 0:
            return False
        taken += 1
        at, part = taken, star + 1
    return all(kind is _ANY for kind, _, _ in parts[part:])
