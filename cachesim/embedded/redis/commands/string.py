"""The string commands."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cachesim.embedded.redis.commands.common.expiry import (
    as_milliseconds,
    is_past,
    positive_moment_of,
)
from cachesim.embedded.redis.commands.common.lcs import Common
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import (
    HIGHEST,
    LONGEST_STRING,
    LOWEST,
    SYNTAX,
    TOO_LONG,
    WRONG_TYPE,
    added,
    decimal,
    integer,
)
from cachesim.protocols.resp import Error, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Item

_OVERFLOW = "ERR increment or decrement would overflow"


def string(client: Client, key: bytes) -> "Item | None":
    """Return the string of a key with its expiry, or None if the key is missing.

    Raises:
        Error: the key has another type.
    """
    item = client.store.get(key)
    if item is not None and type(item.value) is not bytes:
        raise Error(WRONG_TYPE)
    return item


def get(client: Client, arguments: list[bytes]) -> Answer:
    """GET key."""
    value: bytes | None = client.store.value(arguments[1], bytes)
    if value is None:
        client.server.stats.misses += 1
    else:
        client.server.stats.hits += 1
    return value


def _expiry_options(
    words: Sequence[bytes], flags: frozenset[bytes]
) -> tuple[set[bytes], bytes, bytes]:
    """Return the flags, the unit and the amount of `NX EX 10` and the like.

    The unit and the amount are empty if there is no expiry.

    Raises:
        Error: there is no such option, or two exclude each other.
    """
    found: set[bytes] = set()
    unit, amount = b"", b""
    at = 0
    while at < len(words):
        word = words[at].lower()
        if word in flags:
            found.add(word)
        elif (
            word in (b"ex", b"px", b"exat", b"pxat") and unit in (b"", word) and at + 1 < len(words)
        ):
            at += 1
            unit, amount = word, words[at]
        else:
            raise Error(SYNTAX)
        at += 1
    if unit and found & {b"keepttl", b"persist"}:
        raise Error(SYNTAX)
    return found, unit, amount


_SET_FLAGS = frozenset((b"nx", b"xx", b"get", b"keepttl"))


def set_(client: Client, arguments: list[bytes]) -> Answer:
    """SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]."""
    store, key, value = client.store, arguments[1], arguments[2]
    if len(arguments) == 3:
        store.put(key, value)
        return "OK"
    flags, unit, amount = _expiry_options(arguments[3:], _SET_FLAGS)
    if {b"nx", b"xx"} <= flags:
        raise Error(SYNTAX)
    moment = positive_moment_of(client, integer(amount), unit, "set") if unit else None
    old: bytes | None = None
    if b"get" in flags:
        item = string(client, key)
        old = None if item is None else item.value
    present = store.get(key)
    if present is not None if b"nx" in flags else present is None and b"xx" in flags:
        return old
    if b"keepttl" in flags and present is not None:
        moment = present.expireat
    store.put(key, value, moment)
    if b"get" in flags or (unit and unit != b"pxat"):
        words = [b"SET", key, value]
        if b"keepttl" in flags:
            words.append(b"KEEPTTL")
        elif moment is not None:
            words += [b"PXAT", as_milliseconds(moment)]
        client.server.executor.effects = [words]
    return old if b"get" in flags else "OK"


def _set_for(client: Client, arguments: list[bytes], unit: bytes, name: str) -> Answer:
    key, value = arguments[1], arguments[3]
    moment = positive_moment_of(client, integer(arguments[2]), unit, name)
    client.store.put(key, value, moment)
    client.server.executor.effects = [[b"SET", key, value, b"PXAT", as_milliseconds(moment)]]
    return "OK"


def setex(client: Client, arguments: list[bytes]) -> Answer:
    """SETEX key seconds value."""
    return _set_for(client, arguments, b"ex", "setex")


def psetex(client: Client, arguments: list[bytes]) -> Answer:
    """PSETEX key milliseconds value."""
    return _set_for(client, arguments, b"px", "psetex")


def setnx(client: Client, arguments: list[bytes]) -> Answer:
    """SETNX key value."""
    if client.store.get(arguments[1]) is not None:
        return 0
    client.store.put(arguments[1], arguments[2])
    return 1


def getset(client: Client, arguments: list[bytes]) -> Answer:
    """GETSET key value."""
    key, value = arguments[1], arguments[2]
    item = string(client, key)
    old = None if item is None else item.value
    client.store.put(key, value)
    client.server.executor.effects = [[b"SET", key, value]]
    return old


def getdel(client: Client, arguments: list[bytes]) -> Answer:
    """GETDEL key."""
    item = string(client, arguments[1])
    if item is None:
        return None
    client.store.remove(arguments[1])
    client.server.executor.effects = [[b"DEL", arguments[1]]]
    old: bytes = item.value
    return old


_GETEX_FLAGS = frozenset((b"persist",))


def getex(client: Client, arguments: list[bytes]) -> Answer:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]."""
    key, store = arguments[1], client.store
    flags, unit, amount = _expiry_options(arguments[2:], _GETEX_FLAGS)
    item = string(client, key)
    if item is None:
        return None
    moment = positive_moment_of(client, integer(amount), unit, "getex") if unit else None
    value: bytes = item.value
    executor = client.server.executor
    if moment is not None and is_past(client, moment):
        store.remove(key)
        executor.effects = [[b"DEL", key]]
    elif moment is not None:
        store.set_expiry(key, moment)
        executor.effects = [[b"PEXPIREAT", key, as_milliseconds(moment)]]
    elif flags and item.expireat is not None:
        store.set_expiry(key, None)
        executor.effects = [[b"PERSIST", key]]
    return value


def mget(client: Client, arguments: list[bytes]) -> Answer:
    """MGET key..."""
    found: list[bytes | None] = []
    for key in arguments[1:]:
        item = client.store.get(key)
        found.append(item.value if item is not None and type(item.value) is bytes else None)
    return found


def mset(client: Client, arguments: list[bytes]) -> Answer:
    """MSET key value..."""
    if len(arguments) % 2 == 0:
        raise Error("ERR wrong number of arguments for 'mset' command")
    for at in range(1, len(arguments), 2):
        client.store.put(arguments[at], arguments[at + 1])
    return "OK"


def msetnx(client: Client, arguments: list[bytes]) -> Answer:
    """MSETNX key value..."""
    if len(arguments) % 2 == 0:
        raise Error("ERR wrong number of arguments for 'msetnx' command")
    if any(client.store.get(key) is not None for key in arguments[1::2]):
        return 0
    mset(client, arguments)
    client.server.executor.effects = [[b"MSET", *arguments[1:]]]
    return 1


def append(client: Client, arguments: list[bytes]) -> Answer:
    """APPEND key value."""
    key, value = arguments[1], arguments[2]
    item = string(client, key)
    if item is None:
        client.store.put(key, value)
        return len(value)
    longer = len(item.value) + len(value)
    if longer > LONGEST_STRING:
        raise Error(TOO_LONG)
    client.store.put(key, item.value + value, item.expireat)
    return longer


def strlen(client: Client, arguments: list[bytes]) -> Answer:
    """STRLEN key."""
    item = string(client, arguments[1])
    return 0 if item is None else len(item.value)


def _increase(client: Client, key: bytes, by: int) -> Answer:
    item = string(client, key)
    value = by if item is None else integer(item.value) + by
    if not LOWEST <= value <= HIGHEST:
        raise Error(_OVERFLOW)
    client.store.put(key, b"%d" % value, None if item is None else item.expireat)
    return value


def incr(client: Client, arguments: list[bytes]) -> Answer:
    """INCR key."""
    return _increase(client, arguments[1], 1)


def decr(client: Client, arguments: list[bytes]) -> Answer:
    """DECR key."""
    return _increase(client, arguments[1], -1)


def incrby(client: Client, arguments: list[bytes]) -> Answer:
    """INCRBY key increment."""
    return _increase(client, arguments[1], integer(arguments[2]))


def decrby(client: Client, arguments: list[bytes]) -> Answer:
    """DECRBY key decrement."""
    by = integer(arguments[2])
    if by == LOWEST:
        raise Error("ERR decrement would overflow")
    return _increase(client, arguments[1], -by)


def incrbyfloat(client: Client, arguments: list[bytes]) -> Answer:
    """INCRBYFLOAT key increment."""
    key = arguments[1]
    item = string(client, key)
    present = decimal(b"0" if item is None else item.value)
    by = decimal(arguments[2])
    if not present.is_finite() or not by.is_finite():
        raise Error("ERR increment would produce NaN or Infinity")
    value = added(present, by)
    client.store.put(key, value, None if item is None else item.expireat)
    client.server.executor.effects = [[b"SET", key, value, b"KEEPTTL"]]
    return value


def getrange(client: Client, arguments: list[bytes]) -> Answer:
    """GETRANGE key start end."""
    start, end = integer(arguments[2]), integer(arguments[3])
    item = string(client, arguments[1])
    if item is None:
        return b""
    value: bytes = item.value
    length = len(value)
    if start < 0 and end < 0 and start > end:
        return b""
    start = max(0, start + length if start < 0 else start)
    end = max(0, end + length if end < 0 else end)
    return value[start : end + 1]


def setrange(client: Client, arguments: list[bytes]) -> Answer:
    """SETRANGE key offset value."""
    key, value = arguments[1], arguments[3]
    offset = integer(arguments[2])
    if offset < 0:
        raise Error("ERR offset is out of range")
    item = string(client, key)
    present: bytes = b"" if item is None else item.value
    if not value:
        return len(present)
    if offset + len(value) > LONGEST_STRING:
        raise Error(TOO_LONG)
    changed = bytearray(present.ljust(offset + len(value), b"\0"))
    changed[offset : offset + len(value)] = value
    client.store.put(key, bytes(changed), None if item is None else item.expireat)
    return len(changed)


_LONGEST_LCS = 2_000_000  # one length times the other


def lcs(client: Client, arguments: list[bytes]) -> Answer:
    """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN]."""
    values = []
    for key in arguments[1:3]:
        item = client.store.get(key)
        if item is not None and type(item.value) is not bytes:
            raise Error("ERR The specified keys must contain string values")
        values.append(b"" if item is None else item.value)
    if (len(values[0]) + 1) * (len(values[1]) + 1) > _LONGEST_LCS:
        raise Error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    flags, least, at = set(), 0, 3
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"minmatchlen" and at + 1 < len(arguments):
            at += 1
            least = integer(arguments[at])
        elif word in (b"idx", b"len", b"withmatchlen"):
            flags.add(word)
        else:
            raise Error(SYNTAX)
        at += 1
    if {b"idx", b"len"} <= flags:
        raise Error("ERR If you want both the length and indexes, please just use IDX.")
    common = Common(*values)
    if b"len" in flags:
        return common.length
    found, matches = common.trace()
    if b"idx" not in flags:
        return found
    shown: list[Reply] = []
    for begin, end, other_begin, other_end in matches:
        size = end - begin + 1
        if size >= least:
            ranges: list[Reply] = [[begin, end], [other_begin, other_end]]
            shown.append([*ranges, size] if b"withmatchlen" in flags else ranges)
    return {b"matches": shown, b"len": common.length}


HANDLERS: Mapping[str, Handler] = {
    "append": append,
    "decr": decr,
    "decrby": decrby,
    "get": get,
    "getdel": getdel,
    "getex": getex,
    "getrange": getrange,
    "getset": getset,
    "incr": incr,
    "incrby": incrby,
    "incrbyfloat": incrbyfloat,
    "lcs": lcs,
    "mget": mget,
    "mset": mset,
    "msetnx": msetnx,
    "psetex": psetex,
    "set": set_,
    "setex": setex,
    "setnx": setnx,
    "setrange": setrange,
    "strlen": strlen,
    "substr": getrange,
}
