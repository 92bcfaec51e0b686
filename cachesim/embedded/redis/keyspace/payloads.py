"""Payloads of DUMP and of FUNCTION DUMP: their frame, lengths and strings.

A payload ends with the version of its format and a checksum. Long strings may be compressed with
LZF; this module reads such strings, and writes them as they are, as Redis does with
`rdbcompression no`.
"""

import struct

from cachesim.protocols.resp import Error

_VERSION = 10  # of the format, Redis 7.0's
BAD = "ERR DUMP payload version or checksum are wrong"
LONGEST = 64 << 20
"""The most bytes that a compressed string may have."""


class MalformedError(Exception):
    """A payload has an intact checksum, but not the form that its type needs."""


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (0x95AC9329AC4BC9B5 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc64(data: bytes) -> int:
    """Return Redis's CRC-64 (Jones, reflected)."""
    value = 0
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value


def length_of(count: int) -> bytes:
    """Return a length as payloads have it."""
    if count < 1 << 6:
        return bytes((count,))
    if count < 1 << 14:
        return struct.pack(">H", 0x4000 | count)
    if count < 1 << 32:
        return b"\x80" + struct.pack(">I", count)
    return b"\x81" + struct.pack(">Q", count)


def string_of(text: bytes) -> bytes:
    """Return a string as payloads have it."""
    return length_of(len(text)) + text


def sealed(body: bytes) -> bytes:
    """Return a payload with its version and its checksum."""
    body += struct.pack("<H", _VERSION)
    return body + struct.pack("<Q", crc64(body))


def opened(payload: bytes) -> bytes:
    """Return what is in a payload.

    Raises:
        Error: it is damaged, or from a later version.
    """
    body, version, crc = payload[:-10], payload[-10:-8], payload[-8:]
    if (
        len(payload) < 10
        or struct.unpack("<H", version)[0] > _VERSION
        or struct.unpack("<Q", crc)[0] != crc64(body + version)
    ):
        raise Error(BAD)
    return body


class Reader:
    """Reads a payload from its beginning.

    Every method raises `MalformedError` if the payload ends too early or has another form.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Whether everything was read."""
        return self._at >= len(self._body)

    def take(self, count: int) -> bytes:
        """Read some bytes."""
        end = self._at + count
        if count < 0 or end > len(self._body):
            raise MalformedError
        self._at, begin = end, self._at
        return self._body[begin:end]

    def number(self, form: str) -> int:
        """Read a number in a format of `struct`."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def length(self) -> int:
        """Read a length."""
        length, is_plain = self._length()
        if not is_plain:
            raise MalformedError
        return length

    def _length(self) -> tuple[int, bool]:
        """Return a length, or the form of a string that has none."""
        first = self.take(1)[0]
        form = first >> 6
        if form == 0:
            return first & 0x3F, True
        if form == 1:
            return (first & 0x3F) << 8 | self.take(1)[0], True
        if form == 3:
            return first & 0x3F, False
        wide = {0x80: ">I", 0x81: ">Q"}.get(first)
        if wide is None:
            raise MalformedError
        return self.number(wide), True

    def string(self) -> bytes:
        """Read a string: plain, compressed, or a small integer."""
        length, is_plain = self._length()
        if is_plain:
            return self.take(length)
        if length == 3:
            packed, whole = self.length(), self.length()
            return inflated(self.take(packed), whole)
        form = {0: "<b", 1: "<h", 2: "<i"}.get(length)
        if form is None:
            raise MalformedError
        return b"%d" % self.number(form)


def inflated(data: bytes, length: int) -> bytes:
    """Decompress LZF.

    Args:
        length: the number of bytes that come out.

    Raises:
        MalformedError: it is not LZF, or has another length.
    """
    if length > LONGEST:
        raise MalformedError
    found = bytearray()
    at = 0
    try:
        while at < len(data) and len(found) <= length:
            control = data[at]
            at += 1
            if control < 32:  # bytes that follow as they are
                found += data[at : at + control + 1]
                at += control + 1
                continue
            count = control >> 5
            if count == 7:
                count += data[at]
                at += 1
            begin = len(found) - ((control & 31) << 8) - data[at] - 1
            at += 1
            if begin < 0:
                raise MalformedError
            for place in range(begin, begin + count + 2):  # it may repeat what it makes
                found.append(found[place])
    except IndexError:
        raise MalformedError from None
    if len(found) != length:
        raise MalformedError
    return bytes(found)
