"""Tells whether two replies are the same, but for chance and for `differential.KNOWN`."""

import re
from collections.abc import Sequence
from typing import Any

from cachesim.embedded.redis.dispatch.command_table import commands
from tests.embedded.redis.shard import ReplyError

_SORTED = {
    "smembers", "sinter", "sunion", "sdiff", "spop", "keys", "hgetall", "hkeys", "hvals",
    "sort by", "acl|list", "acl|users", "acl|cat", "acl|getuser", "command", "command|list",
    "command|info", "command|docs",
    "pubsub|channels", "pubsub|shardchannels", "function|list",
    "config|get",
}  # fmt: skip
"""Commands whose reply has no order."""
_WORDS = {"acl|list", "acl|getuser"}
"""Commands in whose texts words have no order."""
_SCANS = {"scan", "sscan", "hscan", "zscan"}
_RANDOM = {
    "srandmember", "hrandfield", "zrandmember", "cluster|getkeysinslot", "sort by limit"
}  # fmt: skip
_SHAPES = {
    "time", "lastsave", "role", "client|id", "client|info", "client|list",
    "client|trackinginfo", "memory|usage", "cluster|info",
    "cluster|nodes", "cluster|myid", "cluster|slots", "cluster|shards", "cluster|links",
    "object|idletime", "object|refcount", "slowlog|get", "acl|genpass", "acl|log",
    "randomkey", "function|stats", "hello", "wait",
}  # fmt: skip
"""Commands of whose reply only the types, the lengths and the names of fields are the same."""
OTHER = {
    "bgrewriteaof", "latency|histogram", "memory|malloc-stats", "memory|stats",
    "lolwut", "function|dump", "memory|doctor", "script|debug",
    "dump",
}  # fmt: skip
"""Commands whose reply depends on durations, or is on the page of differences."""
_ABOUT = {"ttl": 1, "pttl": 500, "expiretime": 1, "pexpiretime": 500}
_OF_CLOCK = re.compile(rb"\d{13}-\d+")
"""The id of an entry that is the present time."""
_ENCODINGS = (
    {b"intset", b"hashtable"},
    {b"listpack", b"skiplist"},
    {b"int", b"embstr", b"raw"},
)
"""Encodings that may differ, for sets, sorted sets and strings."""


def name_of(words: Sequence[bytes]) -> str:
    """Return the name of a request's command, with the subcommand: `config|get`."""
    name = words[0].lower().decode(errors="replace")
    command = commands().get(name)
    if command is not None and len(words) > 1:
        inner = words[1].lower().decode(errors="replace")
        if inner in command.subcommands:
            return f"{name}|{inner}"
    return name


def compared_as(words: Sequence[bytes]) -> str:
    """Return the name for `same` of a request's command."""
    name = name_of(words)
    options = {word.lower() for word in words} if name.startswith("sort") else set()
    if b"by" in options:  # perhaps some elements of a set in its own order
        return "sort by limit" if b"limit" in options else "sort by"
    return name


def same(name: str, real: Any, ours: Any) -> bool:
    """Return whether two replies to a command are the same.

    Args:
        name: of the command; see `compared_as`.
    """
    if name in OTHER or (name.startswith("sort") and "can't be converted" in repr(real)):
        return True
    if isinstance(real, ReplyError) or isinstance(ours, ReplyError):
        texts = [repr(real), repr(ours)]
        if name == "function|restore":  # of several it names one in its own order
            texts = [re.sub(r"(Library|Function) \w+ already", "it already", one) for one in texts]
        return texts[0] == texts[1]
    if name == "info":
        return _titles(real) == _titles(ours)
    if name in _SHAPES:
        return repr(_shape(real)) == repr(_shape(ours))
    if repr(real) == repr(ours):
        return True
    if name in ("sort", "sort_ro") and isinstance(real, list) and isinstance(ours, list):
        return _until_zero(real) == _until_zero(ours)
    if name in _SCANS and isinstance(real, list) and isinstance(ours, list):
        complete = real[0] == ours[0] == b"0"
        return not complete or _sorted(real[1]) == _sorted(ours[1])
    if name in _RANDOM:
        return repr(_shape(real)) == repr(_shape(ours))
    if name in _ABOUT and isinstance(real, int) and isinstance(ours, int):
        return abs(real - ours) <= _ABOUT[name]
    if name == "xadd" and real and ours:
        return all(_OF_CLOCK.fullmatch(one) for one in (real, ours))
    if name == "object|encoding":
        return any({real, ours} <= alike for alike in _ENCODINGS)
    if name in _SORTED or isinstance(real, dict):
        words = name in _WORDS
        return type(real) is type(ours) and _sorted(real, words=words) == _sorted(ours, words=words)
    return False


def _until_zero(texts: list[Any]) -> list[Any]:
    return [one.partition(b"\0")[0] if isinstance(one, bytes) else one for one in texts]


def _sorted(reply: Any, *, words: bool = False) -> Any:
    """Return a reply with everything in it sorted; the words of texts too, if told so."""
    if isinstance(reply, list):
        return sorted((_sorted(one, words=words) for one in reply), key=repr)
    if isinstance(reply, dict):
        pairs = ((key, _sorted(one, words=words)) for key, one in reply.items())
        return sorted(pairs, key=repr)
    return sorted(reply.split(b" ")) if words and isinstance(reply, bytes) else reply


def _titles(info: bytes) -> list[bytes]:
    return [line for line in info.splitlines() if line.startswith(b"#")]


def _shape(reply: Any) -> Any:
    """Return the types and the lengths in a reply, and the names of fields in a text."""
    if isinstance(reply, list):
        return [_shape(one) for one in reply]
    if isinstance(reply, dict):
        return {key: _shape(one) for key, one in reply.items()}
    if isinstance(reply, bytes):
        return sorted(set(re.findall(rb"(?m)(?:^|(?<= ))([a-z_-]+)[:=]", reply)))
    return type(reply)
