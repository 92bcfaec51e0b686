"""Tells whether two replies are the same, but for chance and for `differential.KNOWN`."""

import re
from collections.abc import Sequence
from typing import Any

from cachesim.embedded.redis.dispatch.command_table import commands
from tests.embedded.redis.shard import ReplyError

_SORTED = {
    "smembers", "sinter", "sunion", "sdiff", "spop", "keys", "hgetall", "hkeys", "hvals",
    "acl|list", "acl|users", "acl|cat", "command|list", "command|info", "pubsub|channels",
    "pubsub|shardchannels", "cluster|getkeysinslot", "function|list", "config|get",
}  # fmt: skip
"""Commands whose reply has no order."""
_SCANS = {"scan", "sscan", "hscan", "zscan"}
_RANDOM = {"srandmember", "hrandfield", "zrandmember"}
_SHAPES = {
    "time", "lastsave", "role", "info", "client|id", "client|info", "client|list",
    "client|trackinginfo", "memory|usage", "memory|stats", "memory|malloc-stats", "cluster|info",
    "cluster|nodes", "cluster|myid", "cluster|slots", "cluster|shards", "cluster|links",
    "object|idletime", "slowlog|get", "acl|genpass", "acl|log", "latency|histogram", "lolwut",
    "randomkey", "function|stats", "hello", "memory|doctor", "dump",
}  # fmt: skip
"""Commands of whose reply only the types, the lengths and the names of fields are the same."""
_BY_CHANCE = {"bgrewriteaof"}
"""Commands whose reply depends on how long something else takes."""
_ABOUT = {"ttl": 1, "pttl": 500, "expiretime": 1, "pexpiretime": 500}
_FLOATS = {"incrbyfloat", "hincrbyfloat"}
_SETS = {b"intset", b"listpack", b"hashtable", b"skiplist"}


def name_of(words: Sequence[bytes]) -> str:
    """Return the name of a request's command, with the subcommand: `config|get`."""
    name = words[0].lower().decode(errors="replace")
    command = commands().get(name)
    if command is not None and len(words) > 1:
        inner = words[1].lower().decode(errors="replace")
        if inner in command.subcommands:
            return f"{name}|{inner}"
    return name


def same(name: str, real: Any, ours: Any) -> bool:
    """Return whether two replies to a command are the same."""
    if name in _BY_CHANCE:
        return True
    if isinstance(real, ReplyError) or isinstance(ours, ReplyError):
        return repr(real) == repr(ours)
    if name in _SHAPES:
        return repr(_shape(real)) == repr(_shape(ours))
    if repr(real) == repr(ours):
        return True
    if name in _SCANS and isinstance(real, list) and isinstance(ours, list):
        complete = real[0] == ours[0] == b"0"
        return not complete or _sorted(real[1]) == _sorted(ours[1])
    if name in _RANDOM:
        return repr(_shape(real)) == repr(_shape(ours))
    if name in _ABOUT and isinstance(real, int) and isinstance(ours, int):
        return abs(real - ours) <= _ABOUT[name]
    if name in _FLOATS and real and ours:
        return abs(float(real) - float(ours)) <= 1e-9 * abs(float(real))
    if name == "object|encoding":
        return {real, ours} <= _SETS
    if name in _SORTED or isinstance(real, dict):
        return type(real) is type(ours) and _sorted(real) == _sorted(ours)
    return False


def _sorted(reply: Any) -> Any:
    """Return a reply with everything in it sorted."""
    if isinstance(reply, list):
        return sorted((_sorted(one) for one in reply), key=repr)
    if isinstance(reply, dict):
        return sorted(((key, _sorted(one)) for key, one in reply.items()), key=repr)
    return reply


def _shape(reply: Any) -> Any:
    """Return the types and the lengths in a reply, and the names of fields in a text."""
    if isinstance(reply, list):
        return [_shape(one) for one in reply]
    if isinstance(reply, dict):
        return {key: _shape(one) for key, one in reply.items()}
    if isinstance(reply, bytes):
        return sorted(set(re.findall(rb"(?m)(?:^|(?<= ))([a-z_-]+)[:=]", reply)))
    return type(reply)
