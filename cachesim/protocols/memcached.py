"""Parses requests of Memcached's text and meta protocols, as Memcached does.

Limits are those of Memcached 1.6.18, which however does not limit the line of a `get`.
"""

import re
from typing import Final

MAX_KEY: Final = 250
"""The most bytes of a key."""
_LINE = 2048
"""The most bytes of an unfinished line. No Memcached client sends more."""
_READ = 16 * 1024
"""The bytes within which Memcached looks for a line's end."""
_GET_LINE = 4 * 1024 * 1024
"""The most bytes of the line of a `get`."""
_PIECE = 2048
"""The bytes of such a line that are taken at once."""
_KEYS = 24
"""The number of keys in a part of a `get`."""
_META_WORDS = 19
_BATCH = 200
"""Roughly the number of requests that are returned at once."""

Request = tuple[list[bytes], bytes | None]
"""The words of a line, and the value after it with its line end, or None.

A `get` with many keys is returned in parts. All but the last have the value `PART`.
"""

PART: Final = b"part"

_LONG_KEY = re.compile(rb"[^ ]{%d}" % (MAX_KEY + 1))
# Possessive quantifiers only, as clients may send megabytes.
_NUMBER = re.compile(rb"[ \t-\r]*+([+-]?+)(?=[0-9])0*+([0-9]{0,20}+)(?=[ \t-\r\0]|\Z)")
_STORING = dict.fromkeys((b"set", b"add", b"replace", b"append", b"prepend"), 5) | {b"cas": 6}
"""The commands with a value, and the number of words in their lines."""
_WITH_VALUE = frozenset((*_STORING, b"ms"))
_GETTING = {b"get": 1, b"gets": 1, b"bget": 1, b"gat": 2, b"gats": 2}
"""The commands with many keys, and the number of words before the keys."""


def unsigned(text: bytes) -> int | None:
    """Parse an unsigned number of 64 bits as C does: a blank may end it. None if there is none."""
    if text.isdigit() and len(text) < 20:
        return int(text)
    match = _NUMBER.match(text)
    if match is None:
        return None
    number = int(match[2] or b"0")
    if number >= 2**64:
        return None
    if match[1] == b"-":
        number = -number % 2**64
        return number if number < 2**63 else None
    return number


def unsigned32(text: bytes) -> int | None:
    """Parse a number like `unsigned`, and return its lower 32 bits, as Memcached does."""
    number = unsigned(text)
    return None if number is None else number & 0xFFFFFFFF


def signed32(text: bytes) -> int | None:
    """Parse a signed number of 64 bits as C does, and return its lower 32 bits."""
    if text.isdigit() and len(text) < 10:
        return int(text)
    match = _NUMBER.match(text)
    if match is None:
        return None
    number = int(match[2] or b"0")
    if match[1] == b"-":
        number = -number
    if not -(2**63) <= number < 2**63:
        return None
    return (number + 2**31) % 2**32 - 2**31


def value_size(words: list[bytes]) -> int:
    """Return the size in bytes of the value after a line, or -1 if the line is wrong.

    No value follows a wrong line; the data after it is the next line.
    """
    count = len(words)
    if words[0] == b"ms":
        if not 3 <= count <= _META_WORDS or len(words[1]) > MAX_KEY:
            return -1
        size = signed32(words[2])
    else:
        least = _STORING[words[0]]
        if not least <= count <= least + 1 or len(words[1]) > MAX_KEY:
            return -1
        if unsigned(words[2]) is None or signed32(words[3]) is None:
            return -1
        if least == 6 and unsigned(words[5]) is None:
            return -1
        size = signed32(words[4])
    return size if size is not None and 0 <= size <= 2**31 - 3 else -1


class RequestParser:
    """Parses requests from bytes in pieces of any size.

    Args:
        largest: the most bytes of a value. A request with a larger value is returned at once,
            without the value, which is dropped when it comes.

    Attributes:
        is_broken: whether no more requests can be parsed. Then the connection must be closed.
    """

    def __init__(self, largest: int = 1024 * 1024) -> None:
        self._largest = largest
        self.is_broken = False
        self._buffer = b""
        self._at = 0
        # The line with an incomplete value, and the value's size.
        self._words: list[bytes] | None = None
        self._size = 0
        # Incomplete data: a value that needs `_awaited` bytes, or a line.
        self._partial = bytearray()
        self._awaited = 0
        self._to_drop = 0
        # The long line of a `get`, and the position up to which keys were taken.
        self._long = b""
        self._long_at = 0

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not returned as requests yet."""
        return len(self._buffer) - self._at + len(self._partial) + len(self._long)

    def feed(self, data: bytes) -> None:
        """Add received data."""
        if self.is_broken:
            return
        if self._to_drop:
            dropped = min(self._to_drop, len(data))
            self._to_drop -= dropped
            data = data[dropped:]
        if self._partial:
            self._partial += data
            if len(self._partial) < self._awaited or (not self._awaited and b"\n" not in data):
                if not self._awaited and len(self._partial) > _GET_LINE:
                    self._break()
                return
            data = bytes(self._partial)
            self._partial.clear()
            self._awaited = 0
        elif self._at < len(self._buffer):
            data = self._buffer[self._at :] + data
        self._buffer, self._at = data, 0

    def take(self) -> list[Request]:
        """Return some complete requests. Call it until it returns none."""
        found: list[Request] = []
        if self._long:
            self._take_piece(found)
            return found
        if self.is_broken or self._partial:
            return found
        buffer, at = self._buffer, self._at
        length, find = len(buffer), buffer.find
        words = self._words
        is_cut = False
        while at < length and len(found) < _BATCH:
            if words is not None:  # the value comes next
                end = at + self._size + 2
                if end > length:
                    self._awaited = self._size + 2
                    break
                found.append((words, buffer[at:end]))
                words, at = None, end
                continue
            end = find(b"\n", at)
            if end < 0:
                is_cut = True
                break
            stop = end - 1 if end - at > 1 and buffer[end - 1] == 0x0D else end
            if end - at >= _READ and not self._is_get(at):
                self._break()
                return found
            line = buffer[at:stop]
            is_long = end - at > _LINE and self._is_get(at)
            at = end + 1
            if 0 in line:
                line = line[: line.index(0)]
            if is_long:
                self._buffer, self._at = buffer, at
                self._begin_long(line, found)
                return found
            line_words = line.split(b" ")
            if b"" in line_words:
                line_words = [word for word in line_words if word]
                if not line_words:
                    found.append((line_words, None))
                    continue
            name = line_words[0]
            if name in _WITH_VALUE:
                size = value_size(line_words)
                if 0 <= size <= self._largest:
                    words, self._size = line_words, size
                    continue
                found.append((line_words, None))
                if size >= 0:
                    here = min(size + 2, length - at)
                    self._to_drop = size + 2 - here
                    at += here
            elif len(line_words) > _KEYS and name in _GETTING:
                _split(line_words, found)
            else:
                found.append((line_words, None))
        self._buffer, self._at, self._words = buffer, at, words
        self._keep(is_cut)
        return found

    def _take_piece(self, found: list[Request]) -> None:
        """Take the next keys of the long line of a `get`."""
        line, at = self._long, self._long_at
        name = line[:4].rstrip(b" ")
        while not found:
            end = line.find(b" ", at + _PIECE)
            keys = [key for key in line[at : None if end < 0 else end].split(b" ") if key]
            parts = range(0, len(keys), _KEYS)
            found += [([name, *keys[first : first + _KEYS]], PART) for first in parts]
            self._long_at = at = end
            if end < 0:
                self._long = b""
                found[-1] = (found[-1][0], None)

    def _begin_long(self, line: bytes, found: list[Request]) -> None:
        """Begin to take the long line of a `get`."""
        line = line.strip(b" ")
        name = line[:4].rstrip(b" ")
        bad_key = _LONG_KEY.search(line)
        if line == name or bad_key is not None:  # the whole reply is an error
            start = bad_key.start() if bad_key and bad_key.start() < _READ else len(name)
            words = [word for word in line[:start].split(b" ") if word]
            found.append((words if bad_key is None else [*words, bad_key[0]], None))
        else:
            self._long, self._long_at = line, len(name)
            self._take_piece(found)

    def _keep(self, is_cut: bool) -> None:
        """Keep the rest of the data; more can be added without copying it each time.

        Args:
            is_cut: whether the rest is a line without its end.
        """
        rest = len(self._buffer) - self._at
        if rest == 0:
            self._buffer, self._at = b"", 0
        elif self._awaited:
            self._hold()
        elif is_cut and rest > _LINE:
            if self._is_get(self._at):
                self._hold()
            else:
                self._break()

    def _hold(self) -> None:
        self._partial += self._buffer[self._at :]
        self._buffer, self._at = b"", 0

    def _is_get(self, at: int) -> bool:
        """Return whether a line may be long."""
        start = self._buffer[at : at + 106]
        line = start.lstrip(b" ")
        return len(start) - len(line) <= 100 and line.startswith((b"get ", b"gets "))

    def _break(self) -> None:
        self.is_broken = True
        self._buffer, self._at = b"", 0
        self._partial.clear()


def _split(words: list[bytes], found: list[Request]) -> None:
    """Split a `get` of many keys into parts, so that the replies are not made all at once."""
    start = _GETTING[words[0]]
    if max(map(len, words)) > MAX_KEY or (start == 2 and signed32(words[1]) is None):
        found.append((words, None))  # the whole reply is an error
        return
    head = words[:start]
    last = (len(words) - start - 1) // _KEYS * _KEYS + start
    found += [([*head, *words[at : at + _KEYS]], PART) for at in range(start, last, _KEYS)]
    found.append(([*head, *words[last:]], None))
