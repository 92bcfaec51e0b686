"""Offsets of bits, and the strings that they are in."""

from cachesim.embedded.redis.commands.string import string
from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.keyspace.values import LONGEST_STRING, integer
from cachesim.protocols.resp import Error

_NO_OFFSET = "ERR bit offset is not an integer or out of range"


def offset_of(text: bytes, width: int = 0) -> int:
    """Return the offset of a bit.

    Args:
        width: of a field, in bits: `#2` is the third such field. 0: there are no fields.

    Raises:
        Error: the text is no offset, or too large.
    """
    if width and text[:1] == b"#":
        offset = integer(text[1:], _NO_OFFSET) * width
    else:
        offset = integer(text, _NO_OFFSET)
    if not 0 <= offset < LONGEST_STRING * 8:
        raise Error(_NO_OFFSET)
    return offset


def stored(client: Client, key: bytes) -> bytes:
    """Return the string of a key; empty if the key is missing.

    Raises:
        Error: the key has another type.
    """
    item = string(client, key)
    return b"" if item is None else item.value


def string_to_change(client: Client, key: bytes, last: int) -> tuple[bytearray, float | None, bool]:
    """Return the string of a key with room for a bit, its expiry, and whether it is longer now.

    Args:
        last: the offset of the bit.

    Raises:
        Error: the key has another type.
    """
    item = string(client, key)
    value = bytearray(b"" if item is None else item.value)
    missing = (last >> 3) + 1 - len(value)
    value.extend(bytes(max(0, missing)))
    return value, None if item is None else item.expireat, missing > 0
