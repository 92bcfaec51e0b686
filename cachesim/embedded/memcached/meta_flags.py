"""The flags of a line of the meta protocol."""

import base64
from collections.abc import Callable

from cachesim.embedded.memcached.replies import BAD_FORMAT
from cachesim.protocols.memcached import signed32, unsigned, unsigned32

_BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
_NOT_PARSED = frozenset(b"lOPLkstcfvhuqI")
"""The flags without a value, or with a value that is not parsed."""
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def decode_key(text: bytes) -> bytes | None:
    """Decode a base64 key as Memcached does; None if Memcached refuses the key."""
    digits = bytes(digit for digit in text if digit in _BASE64)
    if not digits or len(digits) % 4:
        return None
    end = digits.find(b"=")
    if end < 0:
        return base64.b64decode(digits)
    # All after the first group of four digits with padding is ignored.
    digits = digits[: end // 4 * 4 + 4]
    padding = digits[-4:].count(b"=")
    if padding > 2:
        return None
    return base64.b64decode(digits.replace(b"=", b"A"))[:-padding]


class Flags:
    """The flags of a line, in any order.

    Attributes:
        names: the first characters of the flags.
        error: the reply if a flag is wrong.
    """

    __slots__ = (
        "binary", "cas", "create_until", "delta", "error", "expires", "flags", "initial", "key",
        "mode", "names", "recache_before",
    )  # fmt: skip

    def __init__(
        self, key: bytes, words: list[bytes], start: int, moment: Callable[[int], int]
    ) -> None:
        self.key = key
        self.binary = False
        self.cas = self.expires = self.create_until = self.recache_before = 0
        self.flags = self.initial = 0
        self.delta = 1
        self.mode = b""
        self.error: bytes | None = None
        self.names = seen = set[int]()
        is_wrong = False
        text = BAD_FORMAT
        for word in words[start:]:
            name = word[0]
            if name >= 127 or name in seen:
                self.error = b"CLIENT_ERROR duplicate flag\r\n"
                return
            seen.add(name)
            if name in _NOT_PARSED:
                continue
            rest = word[1:]
            number: int | None = 0
            wrong = _BAD_TOKEN
            if name in b"TNR":
                number = signed32(rest)
                if number is not None:
                    at = moment(number)
                    if name == 0x54:
                        self.expires = at
                    elif name == 0x4E:
                        self.create_until = at
                    else:
                        self.recache_before = at
            elif name == 0x62:  # b
                key_bytes = decode_key(key)
                number, wrong = None, b"CLIENT_ERROR error decoding key\r\n"
                if key_bytes is not None:
                    self.key, number = key_bytes, 0
                self.binary = True
            elif name == 0x46:  # F
                number, wrong = unsigned32(rest), text
                self.flags = number or 0
            elif name == 0x43:  # C
                number = unsigned(rest)
                self.cas = number or 0
            elif name == 0x4D:  # M
                if len(rest) != 1:
                    number, wrong = None, b"CLIENT_ERROR incorrect length for M token\r\n"
                else:
                    self.mode = rest
            elif name == 0x4A:  # J
                number, wrong = unsigned(rest), b"CLIENT_ERROR invalid numeric initial value\r\n"
                self.initial = number or 0
            elif name == 0x44:  # D
                number, wrong = unsigned(rest), b"CLIENT_ERROR invalid numeric delta value\r\n"
                self.delta = number or 0
            else:
                self.error = b"CLIENT_ERROR invalid flag\r\n"
                return
            if number is None:
                is_wrong, text = True, wrong
        if is_wrong:
            self.error = text
