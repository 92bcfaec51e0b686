"""RESP2 and RESP3, the protocol of Redis and Valkey: the types of replies and their encoding.

`resp_parser` reads requests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


class Error(Exception):
    """An error reply. Raise it, or put it into an array.

    Args:
        text: the code and the message, such as `ERR syntax error`. Bytes that are no UTF-8 are
            escaped as surrogates.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Error) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Push(list["Reply"]):
    """A push message, which answers no request. An array in RESP2."""


class Pairs(list["Reply"]):
    """A map, as alternating keys and values. An array in RESP2."""


class Unordered(list["Reply"]):
    """A set. An array in RESP2."""


class LongDouble(float):
    """A double that is shown with 17 digits after the point, or fewer. In RESP2 a bulk string."""

    @property
    def text(self) -> bytes:
        """Return the digits."""
        shown = f"{self:.17f}".rstrip("0").rstrip(".")
        return b"0" if shown == "-0" else shown.encode()


@dataclass(frozen=True)
class Verbatim:
    """A verbatim string, which is text for people. A bulk string in RESP2.

    Attributes:
        kind: `txt` or `mkd`.
    """

    text: bytes
    kind: bytes = b"txt"


@dataclass(frozen=True)
class Raw:
    """A reply that is already encoded."""

    encoded: bytes


class _NullArray:
    """The null array. The same as None in RESP3."""

    def __repr__(self) -> str:
        return "NULL_ARRAY"


NULL_ARRAY: Final = _NullArray()

Reply = (
    None
    | bool
    | int
    | float
    | str
    | bytes
    | Error
    | Sequence["Reply"]
    | Mapping["Reply", "Reply"]
    | Verbatim
    | Raw
    | _NullArray
)
"""A command's reply. A `str` is a simple string, `bytes` are a bulk string."""

_SIMPLE = {text: f"+{text}\r\n".encode() for text in ("OK", "PONG", "QUEUED")}
_INTEGERS = tuple(b":%d\r\n" % number for number in range(256))
_NULL = b"$-1\r\n", b"_\r\n"
_LINE_ENDS = str.maketrans("\r\n", "  ")


def encode(reply: Reply, resp: int = 2) -> bytes:
    """Encode a reply for version 2 or 3 of the protocol."""
    value: Any = reply
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if kind is str:
        return _SIMPLE.get(value) or _simple(value)
    if kind is int:
        return _INTEGERS[value] if 0 <= value < 256 else b":%d\r\n" % value
    if value is None:
        return _NULL[resp == 3]
    parts: list[bytes] = []
    _encode(reply, resp, parts.append)
    return b"".join(parts)


def _simple(text: str) -> bytes:
    return b"+%b\r\n" % text.translate(_LINE_ENDS).encode(errors="surrogateescape")


def _encode(reply: Reply, resp: int, put: Callable[[bytes], None]) -> None:
    if isinstance(reply, bytes):
        put(b"$%d\r\n%b\r\n" % (len(reply), reply))
    elif isinstance(reply, str):
        put(_SIMPLE.get(reply) or _simple(reply))
    elif reply is None:
        put(_NULL[resp == 3])
    elif isinstance(reply, bool):
        put((b"#t\r\n" if reply else b"#f\r\n") if resp == 3 else b":%d\r\n" % reply)
    elif isinstance(reply, int):
        put(b":%d\r\n" % reply)
    elif isinstance(reply, float):
        text = reply.text if isinstance(reply, LongDouble) else double(reply)
        put(b",%b\r\n" % text if resp == 3 else b"$%d\r\n%b\r\n" % (len(text), text))
    elif isinstance(reply, Error):
        text = reply.text.strip("\r\n").translate(_LINE_ENDS).encode(errors="surrogateescape")
        put(b"-%b\r\n" % text)
    elif isinstance(reply, Mapping):
        _head(b"%" if resp == 3 else b"*", len(reply) * (1 if resp == 3 else 2), put)
        for key, value in reply.items():
            _encode(key, resp, put)
            _encode(value, resp, put)
    elif isinstance(reply, Verbatim):
        if resp == 3:
            put(b"=%d\r\n%b:%b\r\n" % (len(reply.text) + 4, reply.kind, reply.text))
        else:
            put(b"$%d\r\n%b\r\n" % (len(reply.text), reply.text))
    elif isinstance(reply, Raw):
        put(reply.encoded)
    elif isinstance(reply, _NullArray):
        put(b"_\r\n" if resp == 3 else b"*-1\r\n")
    else:
        sign, size = b"*", len(reply)
        if resp == 3:
            if isinstance(reply, Pairs):
                sign, size = b"%", size // 2
            elif isinstance(reply, Unordered):
                sign = b"~"
            elif isinstance(reply, Push):
                sign = b">"
        _head(sign, size, put)
        for item in reply:
            _encode(item, resp, put)


def _head(sign: bytes, size: int, put: Callable[[bytes], None]) -> None:
    put(b"%b%d\r\n" % (sign, size))


def double(number: float) -> bytes:
    """Format a double as Redis 7.0 does, with 17 digits."""
    if number != number:
        return b"nan"
    if number in (float("inf"), float("-inf")):
        return b"inf" if number > 0 else b"-inf"
    return b"%.17g" % number


def request(arguments: Iterable[bytes]) -> bytes:
    """Encode a request, as clients and the replication stream send it."""
    words = list(arguments)
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)
