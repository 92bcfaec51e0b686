"""Replies as they are sent, with their types."""

from typing import Any

from tests.embedded.redis.shard import ReplyError

Reply = tuple[bytes, Any]
"""The sign of a type, such as `$`, and the value: bytes, None, or a list of replies."""


def _reply(data: bytes, at: int) -> tuple[Reply, int]:
    end = data.index(b"\r\n", at)
    sign, text, at = data[at : at + 1], data[at + 1 : end], end + 2
    if sign in (b"$", b"=", b"*") and text == b"-1":
        return (sign, None), at
    if sign in (b"$", b"="):
        return (sign, data[at : at + int(text)]), at + int(text) + 2
    if sign not in (b"*", b"~", b"%", b">"):
        return (sign, text), at
    items = []
    for _ in range(int(text) * (2 if sign == b"%" else 1)):
        item, at = _reply(data, at)
        items.append(item)
    return (sign, items), at


def replies_in(data: bytes) -> list[Reply]:
    """Return the replies and messages in some bytes."""
    found, at = [], 0
    while at < len(data):
        reply, at = _reply(data, at)
        found.append(reply)
    return found


def plain(reply: Reply) -> Any:
    """Return the value of a reply, as `shard.Caller` reads it."""
    sign, value = reply
    if sign == b"-":
        return ReplyError(value.decode(errors="surrogateescape"))
    if sign == b"+":
        return value.decode(errors="surrogateescape")
    if sign == b":":
        return int(value)
    if sign == b",":
        return float(value)
    if sign == b"#":
        return value == b"t"
    if sign == b"_" or value is None:
        return "*-1" if sign == b"*" else None
    if sign == b"%":
        flat = [plain(one) for one in value]
        return {
            tuple(key) if isinstance(key, list) else key: one
            for key, one in zip(flat[::2], flat[1::2], strict=True)
        }
    return [plain(one) for one in value] if isinstance(value, list) else value


def kinds(reply: Reply) -> Any:
    """Return the types in a reply, whatever the order and the number of elements."""
    sign, value = reply
    if not isinstance(value, list):
        return sign, value is None
    return sign, frozenset(kinds(one) for one in value)
