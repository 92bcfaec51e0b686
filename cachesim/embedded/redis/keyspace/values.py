"""What commands need to know of values."""

from decimal import Decimal, InvalidOperation

from cachesim.protocols.resp import Error

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_INTEGER = "ERR value is not an integer or out of range"
NOT_FLOAT = "ERR value is not a valid float"
SYNTAX = "ERR syntax error"
NO_KEY = "ERR no such key"
LOWEST, HIGHEST = -(2**63), 2**63 - 1
LONGEST_STRING = 64 * 1024 * 1024
"""Bytes of a string; Redis takes 512 MB."""
TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"


class Hash(dict[bytes, bytes]):
    """A hash, by field.

    Attributes:
        payload: bytes of all fields and values.
        is_table: whether Redis would have it as a hash table; it stays one for ever.
    """

    __slots__ = ("is_table", "payload")

    def __init__(self) -> None:
        super().__init__()
        self.payload = 0
        self.is_table = False


def integer(text: bytes, refusal: str = NOT_INTEGER) -> int:
    """An integer of 64 bits as Redis reads it: no blanks, no plus, no leading zeros.

    Raises:
        Error: it is none.
    """
    try:
        if len(text) <= 20:
            number = int(text)
            if b"%d" % number == text and LOWEST <= number <= HIGHEST:
                return number
    except ValueError:
        pass
    raise Error(refusal)


def decimal(text: bytes, refusal: str = NOT_FLOAT) -> Decimal:
    """A number with a fraction, as INCRBYFLOAT takes it. It may be infinite.

    Raises:
        Error: it is none.
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
    if number.is_finite() and number.adjusted() > 4931:  # more than a long double takes
        raise Error(refusal)
    return number


def shown_decimal(number: Decimal) -> bytes:
    """As Redis writes a long double for people: 17 digits, no zeros at the end."""
    text = f"{number:.17f}"
    text = text.rstrip("0").rstrip(".")
    return b"0" if text in ("-0", "") else text.encode()


def is_integer(text: bytes) -> bool:
    """Whether Redis would keep a string as an integer."""
    digits = text[1:] if text[:1] == b"-" else text
    if not 0 < len(digits) <= 19 or not digits.isdigit() or digits[:1] == b"0":
        return text == b"0"
    return LOWEST <= int(text) <= HIGHEST


def words(argument: bytes) -> str:
    """An argument as part of an error, as far as C prints it."""
    return argument.partition(b"\0")[0].decode("utf-8", "surrogateescape")
