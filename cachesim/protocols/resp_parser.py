"""Parses RESP requests, including inline requests, as Redis and Valkey do.

Limits and error texts are those of Redis 7.0.15, but no limit lets a client fill the memory; see
`Limits`.
"""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Final, cast

_CRLF = b"\r\n"


@dataclass(frozen=True)
class Limits:
    """The largest request that a parser takes.

    Attributes:
        inline: the most bytes of an inline request, and of the line of a count.
        arguments: the largest number of arguments.
        bulk: the most bytes of one argument. Redis takes 512 MB.
        query: the most bytes of one request.
    """

    inline: int = 64 * 1024
    arguments: int = 1024 * 1024
    bulk: int = 64 * 1024 * 1024
    query: int = 256 * 1024 * 1024


UNAUTHENTICATED: Final = Limits(arguments=10, bulk=16384)
"""Redis's limits for a client that has not authenticated yet."""
_QUICK_SIZE = 64 * 1024
"""The most bytes that are split at once. With larger arguments, splitting gains nothing."""


class _Sizes(dict[bytes, int]):
    """The sizes in lines such as `$5`; -1 for a line that is no size."""

    def __missing__(self, line: bytes) -> int:
        digits = line[1:]
        if line[:1] != b"$" or not digits.isdigit() or len(digits) > 9:
            return -1
        return int(digits) if digits[:1] != b"0" or digits == b"0" else -1


_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")
_EMPTY_REQUESTS = re.compile(rb"(?:\*0\r\n)*")
_SIZES = _Sizes({b"$%d" % size: size for size in range(256)})
_COUNTS = {b"*%d" % count: count for count in range(1, 64)}


class RequestParser:
    """Parses requests (lists of arguments) from bytes in pieces of any size.

    Attributes:
        error: the protocol error that ended the stream, without `ERR`; no request follows it.
        limits: the limits; they can be changed between requests.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.error: str | None = None
        self._buffer = b""
        self._at = 0
        self._fed = 0
        # The incomplete request: its position in the stream, its arguments so far, how many are
        # missing, and the size of the next argument; -1 if that line has not come yet.
        self._begun = 0
        self._arguments: list[bytes] = []
        self._missing = 0
        self._size = -1
        self._held = 0
        # An argument larger than the buffer: its beginning, and how many bytes are missing. It
        # grows without being copied for each piece.
        self._partial = BytesIO()
        self._awaited = 0
        # A request that such an argument has completed.
        self._whole: list[list[bytes]] = []
        self._whole_size = 0

    @property
    def buffered(self) -> int:
        """The bytes that were fed and not returned as requests yet."""
        if self._missing:
            return self._fed - self._begun
        return self._whole_size + len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Add received data."""
        self._fed += len(data)
        if self._awaited:
            left = self._size - self._partial.tell()
            self._partial.write(data if left >= len(data) else memoryview(data)[:left])
            if self._awaited > len(data):
                self._awaited -= len(data)
                return
            self._buffer = data[self._awaited :]
            self._end_partial()
        elif self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
        else:
            self._buffer = data
        self._at = 0

    def _end_partial(self) -> None:
        self._arguments.append(self._partial.getvalue())
        self._partial = BytesIO()
        self._awaited, self._size = 0, -1
        self._missing -= 1
        if not self._missing:
            self._whole_size = self._fed - self._begun - len(self._buffer)
            self._whole.append(self._arguments)
            self._arguments, self._held = [], 0

    def take(self, most: int = 1 << 30) -> list[list[bytes]]:
        """Return the complete requests.

        Args:
            most: the largest number of requests. The rest is kept for the next call.
        """
        if self.error is not None or self._awaited:
            return []
        found, self._whole, self._whole_size = self._whole, [], 0
        rest = len(self._buffer) - self._at
        if not self._missing and most > 1 and rest <= _QUICK_SIZE <= self.limits.bulk:
            self._take_quickly(found, most)
        while len(found) < most and self._at < len(self._buffer):
            if not (self._continue(found) if self._missing else self._begin(found)):
                break
        if self.error is not None or self._at == len(self._buffer):
            self._buffer, self._at = b"", 0
        return found

    def _take_quickly(self, found: list[list[bytes]], most: int) -> None:
        """Take requests by splitting at line ends, up to one with a line end in an argument."""
        rest = self._buffer[self._at :] if self._at else self._buffer
        lines = rest.split(_CRLF)
        last = len(lines) - 1  # the data after the last line end
        count_of, size_of = _COUNTS.get, _SIZES.__getitem__
        limit = self.limits.arguments
        at = 0
        while at < last and len(found) < most:
            count = count_of(lines[at])
            if count is None or count > limit:
                break
            end = at + 1 + 2 * count
            if end > last:
                break
            arguments = lines[at + 2 : end : 2]
            if list(map(len, arguments)) != list(map(size_of, lines[at + 1 : end : 2])):
                break
            found.append(arguments)
            at = end
        if at:
            self._at = len(self._buffer) - len(_CRLF.join(lines[at:]))

    def _awaits_line(self, what: str) -> bool:
        """Return False, as the line is incomplete. Set the error if the line is too long."""
        if len(self._buffer) - self._at > self.limits.inline:
            self._fail(f"too big {what} count string")
        return False

    def _begin(self, found: list[list[bytes]]) -> bool:
        """Begin the next request. Return whether to go on."""
        if self._buffer[self._at] != 0x2A:  # *
            return self._inline(found)
        end = self._buffer.find(b"\r", self._at)
        if end < 0 or end + 1 >= len(self._buffer):
            return self._awaits_line("mbulk")
        count = _integer(self._buffer[self._at + 1 : end])
        if count is None or count > 1024 * 1024:
            return self._fail("invalid multibulk length")
        if count > self.limits.arguments:
            return self._fail("unauthenticated multibulk length")
        self._begun = self._fed - len(self._buffer) + self._at
        self._at = end + 2  # like Redis, without checking the second byte
        self._missing = max(0, count)
        if not self._missing:
            self._at = cast(re.Match[bytes], _EMPTY_REQUESTS.match(self._buffer, self._at)).end()
        return True

    def _continue(self, found: list[list[bytes]]) -> bool:
        """Read arguments of the incomplete request. Return whether to go on."""
        buffer, at, size = self._buffer, self._at, self._size
        find, length, arguments = buffer.find, len(buffer), self._arguments
        while self._missing:
            if size < 0:
                end = find(b"\r", at)
                if end < 0 or end + 1 >= length:
                    self._at, self._size = at, -1
                    return self._awaits_line("bulk")
                size = _SIZES[buffer[at:end]]
                if size < 0 or size > self.limits.bulk:
                    return self._fail(self._wrong_size(buffer[at:end]))
                at = end + 2
                self._held += size
                if self._held > self.limits.query:
                    return self._fail("too big query")
            end = at + size
            if length < end + 2:
                self._awaited = end + 2 - length
                self._partial.write(memoryview(buffer)[at : min(end, length)])
                self._buffer, self._at, self._size = b"", 0, size
                return False
            arguments.append(buffer[at:end])
            at = end + 2
            size = -1
            self._missing -= 1
        self._at, self._size = at, -1
        found.append(arguments)
        self._arguments, self._held = [], 0
        return True

    def _wrong_size(self, line: bytes) -> str:
        if line[:1] != b"$":
            return f"expected '$', got '{line[:1].decode('latin-1')}'"
        size = _integer(line[1:])
        if size is not None and size > self.limits.bulk <= UNAUTHENTICATED.bulk:
            return "unauthenticated bulk length"
        return "invalid bulk length"

    def _inline(self, found: list[list[bytes]]) -> bool:
        end = self._buffer.find(b"\n", self._at)
        if end < 0:
            if len(self._buffer) - self._at > self.limits.inline:
                self._fail("too big inline request")
            return False
        line = self._buffer[self._at : end]
        if len(line) > self.limits.inline:
            return self._fail("too big inline request")
        if line in (b"", b"\r"):
            # All empty lines at once, as each byte may be such a line.
            self._at = cast(re.Match[bytes], _EMPTY_LINES.match(self._buffer, end)).end()
            return True
        self._at = end + 1
        arguments = split_words(line.removesuffix(b"\r"))
        if arguments is None:
            return self._fail("unbalanced quotes in request")
        if arguments:
            found.append(arguments)
        return True

    def _fail(self, text: str) -> bool:
        self.error = f"Protocol error: {text}"
        return False


def _integer(text: bytes) -> int | None:
    """Parse a 64-bit integer as Redis does: no blanks, no plus, no leading zeros."""
    if len(text) > 20:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if b"%d" % number == text and -(2**63) <= number < 2**63 else None


_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}
_BLANKS = b" \t\n\v\f\r\0"
_HEX = frozenset(b"0123456789abcdefABCDEF")


def split_words(line: bytes) -> list[bytes] | None:
    """Split an inline request into words, with quotes as in a shell; None if a quote is open."""
    words: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _BLANKS:
            at += 1
        if at == end:
            return words
        word = bytearray()
        quote = 0
        while at < end:
            char = line[at]
            if quote == 0x22 and char == 0x5C and at + 1 < end:  # a backslash in double quotes
                digits = line[at + 2 : at + 4]
                if line[at + 1] == 0x78 and len(digits) == 2 and _HEX.issuperset(digits):
                    word.append(int(digits, 16))
                    at += 4
                    continue
                word.append(_ESCAPES.get(line[at + 1], line[at + 1]))
                at += 2
                continue
            if quote == 0x27 and char == 0x5C and line[at + 1 : at + 2] == b"'":
                word.append(0x27)
                at += 2
                continue
            if quote:
                if char == quote:
                    if at + 1 < end and line[at + 1] not in _BLANKS:
                        return None
                    at += 1
                    quote = 0
                    break
                word.append(char)
            elif char in _BLANKS:
                break
            elif char in (0x22, 0x27):
                quote = char
            else:
                word.append(char)
            at += 1
        if quote:
            return None
        words.append(bytes(word))
