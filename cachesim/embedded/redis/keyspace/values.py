"""Values of keys: limits, errors, hashes, and numbers as Redis reads and writes them."""

import copy
import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from cachesim.protocols.resp import Error

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_POSITIVE = "ERR value is out of range, must be positive"
NOT_FLOAT = "ERR value is not a valid float"
SYNTAX = "ERR syntax error"
NO_KEY = "ERR no such key"
LOWEST, HIGHEST = -(2**63), 2**63 - 1
LONGEST_STRING = 64 * 1024 * 1024
"""The most bytes of a string. Redis allows 512 MB."""
MOST_RANDOM = 1_000_000
"""The limit of random elements with repetitions. Redis has no such limit."""
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
_LONGEST_PACKED = 64  # `hash-max-listpack-value`, bytes
_MOST_PACKED = 512  # `hash-max-listpack-entries`


class Hash(dict[bytes, bytes]):
    """A hash: contents by field. Only its own methods may change it.

    Attributes:
        payload: the bytes of all fields and contents.
        is_table: whether Redis would store it as a hash table. It never changes back.
        deadlines: when fields expire, in milliseconds since the epoch; None if none ever did.
    """

    __slots__ = ("deadlines", "is_table", "payload")

    def __init__(self) -> None:
        super().__init__()
        self.payload = 0
        self.is_table = False
        self.deadlines: dict[bytes, int] | None = None

    def put(self, field: bytes, content: bytes, *, keeps_deadline: bool = False) -> bool:
        """Set a field, which does not expire any more. Return whether it is new."""
        if self.deadlines and not keeps_deadline:
            self.deadlines.pop(field, None)
        old = self.get(field)
        self[field] = content
        if old is None:
            self.payload += len(field) + len(content)
            if len(field) > _LONGEST_PACKED or len(self) > _MOST_PACKED:
                self.is_table = True
        else:
            self.payload += len(content) - len(old)
        if len(content) > _LONGEST_PACKED:
            self.is_table = True
        return old is None

    def remove(self, field: bytes) -> bool:
        """Delete a field. Return whether it was there."""
        old = self.pop(field, None)
        if old is None:
            return False
        self.payload -= len(field) + len(old)
        if self.deadlines:
            self.deadlines.pop(field, None)
        return True

    def expire(self, fields: Iterable[bytes], at: int) -> None:
        """Let existing fields expire, at a time in milliseconds since the epoch."""
        if self.deadlines is None:
            self.deadlines = {}
        self.deadlines.update(dict.fromkeys(fields, at))

    def alive(self, now: int) -> "Hash":
        """Return it without the fields that have expired; itself if none has."""
        gone = [field for field, at in (self.deadlines or {}).items() if at <= now]
        if not gone:
            return self
        other: Hash = copied(self)
        for field in gone:
            other.remove(field)
        return other

    def persist(self, field: bytes) -> bool:
        """Let a field not expire. Return whether it would have."""
        return (self.deadlines or {}).pop(field, None) is not None


def copied(value: Any) -> Any:
    """Return a copy of a value, for another key."""
    if type(value) is not Hash:
        return copy.deepcopy(value)
    other = Hash()
    other.update(value)
    other.payload, other.is_table = value.payload, value.is_table
    other.deadlines = None if value.deadlines is None else dict(value.deadlines)
    return other


def encoding_of(value: Any, kind: str) -> str:
    """Return the `OBJECT ENCODING` of a value, by Redis's default limits."""
    if kind == "string":
        return "int" if is_integer(value) else "embstr" if len(value) <= 44 else "raw"
    if kind == "hash":
        packed = "listpack" if value.deadlines is None else "listpackex"
        return "hashtable" if value.is_table else packed
    if kind == "list":
        return "quicklist"
    if kind == "set":
        is_small = len(value) <= 512 and all(map(is_integer, value))
        return "intset" if is_small else "hashtable"
    if kind == "zset":
        is_small = len(value) <= 128 and all(len(member) <= 64 for member in value)
        return "listpack" if is_small else "skiplist"
    return "stream"


def integer(text: bytes, refusal: str = NOT_INTEGER) -> int:
    """Parse an integer of 64 bits as Redis does: no blanks, no plus, no leading zeros.

    Raises:
        Error: the text is not such an integer.
    """
    try:
        if len(text) <= 20:
            number = int(text)
            if b"%d" % number == text and LOWEST <= number <= HIGHEST:
                return number
    except ValueError:
        pass
    raise Error(refusal)


def small_integer(text: bytes) -> int:
    """Parse an integer of 32 bits.

    Raises:
        Error: the text is not such an integer.
    """
    number = integer(text)
    if not -(2**31) <= number < 2**31:
        raise Error("ERR value is out of range, value must between -2147483648 and 2147483647")
    return number


def decimal(text: bytes, refusal: str = NOT_FLOAT) -> Decimal:
    """Parse a decimal fraction as INCRBYFLOAT does. It may be infinite.

    Raises:
        Error: the text is not a number.
    """
    try:
        shown = text.decode("ascii")
        if not shown or shown != shown.strip() or "_" in shown or len(shown) > 256:
            raise ValueError
        number = Decimal(shown)
        if number.is_nan():
            raise ValueError
    except (ValueError, InvalidOperation):
        raise Error(refusal) from None
    if number.is_finite() and number.adjusted() > 4931:  # more than a long double holds
        raise Error(refusal)
    return number


def real(text: bytes, refusal: str = NOT_FLOAT) -> float:
    """Read a double as C's strtod does, hexadecimal too. It may be infinite.

    Raises:
        Error: it is not a number, or too large or small for a double.
    """
    shown = text.decode("latin-1")
    try:
        if text != text.strip() or b"_" in text or not text.isascii():
            raise ValueError
        is_hexadecimal = "0x" in shown.lower()
        number = float.fromhex(shown) if is_hexadecimal else float(shown)
    except (ValueError, OverflowError):
        raise Error(refusal) from None
    digits = shown.lower().partition("p" if is_hexadecimal else "e")[0]
    is_zero = number == 0 and any(c in "123456789abcdef" for c in digits.replace("0x", ""))
    if math.isnan(number) or is_zero or (math.isinf(number) and "n" not in shown.lower()):
        raise Error(refusal)
    return number


def added(one: Decimal, other: Decimal) -> bytes:
    """Add two numbers as Redis adds long doubles on x86. Return up to 17 digits after the point."""
    total = _long_double(_long_double(Fraction(one)) + _long_double(Fraction(other)))
    digits = round(total * _SCALE)
    whole, fraction = divmod(abs(digits), _SCALE)
    text = f"{'-' if digits < 0 else ''}{whole}.{fraction:017}"
    return text.rstrip("0").rstrip(".").encode()


_SCALE = 10**17
_MANTISSA = 64  # bits


def _long_double(number: Fraction) -> Fraction:
    """Return the nearest long double; of two, the even one."""
    above, below = number.numerator, number.denominator
    exponent = abs(above).bit_length() - below.bit_length() - _MANTISSA
    scaled = number / Fraction(2) ** exponent
    if abs(scaled) >= 2**_MANTISSA:
        exponent += 1
        scaled /= 2
    return round(scaled) * Fraction(2) ** exponent


def is_integer(text: bytes) -> bool:
    """Return whether Redis would store a string as an integer."""
    digits = text[1:] if text[:1] == b"-" else text
    if not 0 < len(digits) <= 19 or not digits.isdigit() or digits[:1] == b"0":
        return text == b"0"
    return LOWEST <= int(text) <= HIGHEST


def printed(argument: bytes) -> str:
    """Return an argument for an error's text, as C prints it: up to the first zero byte."""
    return argument.partition(b"\0")[0].decode("utf-8", "surrogateescape")
