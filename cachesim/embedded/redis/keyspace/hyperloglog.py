"""HyperLogLogs: strings with the same bytes, and so the same estimates, as in Redis.

A string begins with `HYLL`, the encoding, and the last estimate. There are 16,384 registers of 6
bits. The sparse encoding is a run-length code: ZERO `00llllll`, XZERO `01llllll llllllll`, VAL
`1vvvvvll`; lengths and values are stored minus one.
"""

import math
from typing import Final

from cachesim.protocols.resp import Error

WRONG: Final = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED: Final = "INVALIDOBJ Corrupted HLL object detected"
REGISTERS: Final = 1 << 14
_HEADER = 16
_DENSE_SIZE = _HEADER + REGISTERS * 6 // 8
_RANKS = 50  # bits of a hash besides the register's number
_HIGHEST_SPARSE = 32
_LONGEST_ZERO, _LONGEST_VALUE = 64, 4
_DENSE, _SPARSE = 0, 1
_WORD = (1 << 64) - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xADC83B19


def murmur(data: bytes) -> int:
    """Return the MurmurHash64A of an element, with Redis's seed."""
    value = _SEED ^ (len(data) * _MULTIPLIER & _WORD)
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        part = int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER & _WORD
        part = (part ^ part >> 47) * _MULTIPLIER & _WORD
        value = (value ^ part) * _MULTIPLIER & _WORD
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _WORD
    value = (value ^ value >> 47) * _MULTIPLIER & _WORD
    return value ^ value >> 47


class HyperLogLog:
    """A HyperLogLog that can be changed.

    Args:
        data: the string; None for an empty HyperLogLog.
        largest: the most bytes of the sparse encoding, `hll-sparse-max-bytes`.

    Raises:
        Error: the string is no HyperLogLog.
    """

    def __init__(self, data: bytes | None = None, largest: int = 3000) -> None:
        if data is None:
            data = b"HYLL\x01" + bytes(11) + b"\x7f\xff"
        if (
            len(data) < _HEADER
            or data[:4] != b"HYLL"
            or data[4] > _SPARSE
            or (data[4] == _DENSE and len(data) != _DENSE_SIZE)
        ):
            raise Error(WRONG)
        self._data = bytearray(data)
        self._largest = largest
        # Where a search may begin: an opcode's position, its first register, the next one's first.
        self._near = _HEADER, 0, 0

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    @property
    def is_dense(self) -> bool:
        """Whether the encoding is dense."""
        return self._data[4] == _DENSE

    # --- the estimate -------------------------------------------------------------------------

    @property
    def cached(self) -> int | None:
        """The estimate that is stored in the string, or None if it is outdated."""
        return None if self._data[15] & 0x80 else int.from_bytes(self._data[8:16], "little")

    def cache(self, count: int) -> None:
        """Store an estimate in the string."""
        self._data[8:16] = count.to_bytes(8, "little")

    def outdate(self) -> None:
        """Mark the stored estimate as outdated."""
        self._data[15] |= 0x80

    # --- registers ----------------------------------------------------------------------------

    def registers(self) -> bytearray:
        """Return the values of all registers.

        Raises:
            Error: the string is damaged.
        """
        data = self._data
        if self.is_dense:
            values = bytearray()
            for at in range(_HEADER, _DENSE_SIZE, 3):
                four = data[at] | data[at + 1] << 8 | data[at + 2] << 16
                values += bytes((four & 63, four >> 6 & 63, four >> 12 & 63, four >> 18))
            return values
        values = bytearray()
        at = _HEADER
        while at < len(data):
            code, length, size = self._opcode(at)
            if len(values) + length > REGISTERS:
                if not code:
                    raise Error(CORRUPTED)
                break
            values += bytes((code,)) * length
            at += size
        if len(values) != REGISTERS or at > len(data):
            raise Error(CORRUPTED)
        return values

    def _opcode(self, at: int) -> tuple[int, int, int]:
        """Return the value of an opcode, its registers, and its bytes."""
        first = self._data[at]
        if first & 0x80:
            return (first >> 2 & 31) + 1, (first & 3) + 1, 1
        if first & 0x40:
            second = self._data[at + 1] if at + 1 < len(self._data) else 0
            return 0, ((first & 63) << 8 | second) + 1, 2
        return 0, (first & 63) + 1, 1

    def add(self, element: bytes) -> bool:
        """Count an element. Return whether this changes a register."""
        value = murmur(element)
        rank = value >> 14 | 1 << _RANKS
        return self.raise_to(value & REGISTERS - 1, (rank & -rank).bit_length())

    def raise_to(self, register: int, value: int) -> bool:
        """Raise a register to a value, if it is lower. Return whether it has changed.

        Raises:
            Error: the string is damaged.
        """
        if self.is_dense:
            return self._raise_dense(register, value)
        if value > _HIGHEST_SPARSE:
            self.make_dense()
            return self._raise_dense(register, value)
        return self._raise_sparse(register, value)

    def make_dense(self) -> None:
        """Change to the dense encoding.

        Raises:
            Error: the string is damaged.
        """
        if self.is_dense:
            return
        values = self.registers()
        self._data[4] = _DENSE
        del self._data[_HEADER:]
        for at in range(0, REGISTERS, 4):
            one, two, three, four = values[at : at + 4]
            self._data += (one | two << 6 | three << 12 | four << 18).to_bytes(3, "little")

    def _raise_dense(self, register: int, value: int) -> bool:
        at, shift = _HEADER + register * 6 // 8, register * 6 % 8
        two = int.from_bytes(self._data[at : at + 2], "little")
        if two >> shift & 63 >= value:
            return False
        size = min(2, _DENSE_SIZE - at)
        two = two & ~(63 << shift) | value << shift
        self._data[at : at + size] = two.to_bytes(size, "little")
        return True

    def _raise_sparse(self, register: int, value: int) -> bool:
        data = self._data
        at, first, next_first = self._near
        if register < next_first:
            at = _HEADER
            first = 0
        before_previous: tuple[int, int] | None = None
        previous: tuple[int, int] | None = None
        while at < len(data):
            held, length, size = self._opcode(at)
            if register < first + length:
                break
            before_previous, previous = previous, (at, first)
            at += size
            first += length
        else:
            raise Error(CORRUPTED)
        if held >= value:
            return False
        if length == 1 and size == 1:
            data[at] = _value(value, 1)[0]
        else:
            run = _value if held else _zeros
            before, after = register - first, first + length - 1 - register
            code = run(held, before) + _value(value, 1) + run(held, after)
            if len(code) > size and len(data) + len(code) - size > self._largest:
                self.make_dense()
                return self._raise_dense(register, value)
            data[at : at + size] = code
        self._merge(_HEADER if previous is None else previous[0])
        if previous is not None and before_previous is not None:
            self._near = *before_previous, previous[1]
        else:
            self._near = _HEADER, 0, 0
        self.outdate()
        return True

    def _merge(self, at: int) -> None:
        """Merge adjacent opcodes with the same value among the next five."""
        data = self._data
        for _ in range(5):
            if at >= len(data):
                return
            held, length, size = self._opcode(at)
            if held and at + 1 < len(data) and data[at + 1] & 0x80:
                other, more, _size = self._opcode(at + 1)
                if held == other and length + more <= _LONGEST_VALUE:
                    data[at : at + 2] = _value(held, length + more)
                    continue
            at += size


def _value(value: int, length: int) -> bytes:
    return bytes((0x80 | value - 1 << 2 | length - 1,)) if length else b""


def _zeros(_value: int, length: int) -> bytes:
    if length > _LONGEST_ZERO:
        return bytes((0x40 | length - 1 >> 8, length - 1 & 255))
    return bytes((length - 1,)) if length else b""


def estimate(registers: bytes | bytearray) -> int:
    """Return an estimate of the number of different elements, by Ertl's algorithm."""
    counts = [registers.count(value) for value in range(_RANKS + 2)]
    sum_ = REGISTERS * _tau((REGISTERS - counts[_RANKS + 1]) / REGISTERS)
    for count in counts[_RANKS:0:-1]:
        sum_ = (sum_ + count) * 0.5
    sum_ += REGISTERS * _sigma(counts[0] / REGISTERS)
    return math.floor(0.721347520444481703680 * REGISTERS * REGISTERS / sum_ + 0.5)


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3
