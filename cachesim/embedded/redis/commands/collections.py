"""Commands that fakeredis runs, with its defects kept out."""

from collections.abc import Mapping
from typing import Any, cast

from cachesim.embedded.redis.client import Answer, Client
from cachesim.embedded.redis.commands.hashes import MOST_PICKED
from cachesim.embedded.redis.commands.scanning import scan_members
from cachesim.embedded.redis.executor import Handler
from cachesim.embedded.redis.values import (
    LONGEST_STRING,
    NO_KEY,
    SYNTAX,
    WRONG_TYPE,
    integer,
)
from cachesim.protocols.resp import Error, Reply, Unordered

_PLAIN = (
    # lists
    "lindex", "linsert", "llen", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset",
    "ltrim", "rpop", "rpush", "rpushx", "lmove", "rpoplpush",
    # sets
    "sadd", "scard", "sdiffstore", "sintercard", "sinterstore", "sismember", "smismember",
    "smove", "srem", "sunionstore",
    # sorted sets
    "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby", "zinter", "zintercard",
    "zinterstore", "zlexcount", "zmscore", "zpopmax", "zpopmin", "zrange", "zrangebylex",
    "zrangebyscore", "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank",
    "zremrangebyscore", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank",
    "zscore", "zunion", "zunionstore",
    # geo
    "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro",
    "georadiusbymember", "georadiusbymember_ro", "geosearch", "geosearchstore",
    # bitmaps
    "bitcount", "bitop", "bitpos", "getbit",
    # hyperloglog
    "pfadd", "pfcount", "pfmerge",
    # streams
    "xinfo|consumers", "xinfo|groups", "xinfo|stream", "xlen", "xpending", "xrange",
    "xrevrange", "xtrim",
)  # fmt: skip
_UNORDERED = ("sdiff", "sinter", "smembers", "sunion")
_STREAM_WRITES = (
    "xack", "xautoclaim", "xclaim", "xdel", "xgroup|create", "xgroup|createconsumer",
    "xgroup|delconsumer", "xgroup|destroy", "xgroup|setid",
)  # fmt: skip
_BIT_OFFSET = "ERR bit offset is not an integer or out of range"


def _run(client: Client, name: str, arguments: list[bytes]) -> Reply:
    outer, _, inner = name.partition("|")
    if inner:
        return client.store.run(f"{outer} {inner}", arguments[2:], client.resp)
    return client.store.run(outer, arguments[1:], client.resp)


def _plain(name: str) -> Handler:
    outer, _, inner = name.partition("|")
    known, skipped = (f"{outer} {inner}", 2) if inner else (outer, 1)

    def run(client: Client, arguments: list[bytes]) -> Answer:
        return client.store.run(known, arguments[skipped:], client.resp)

    return run


def _unordered(name: str) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        return Unordered(cast("list[Reply]", client.store.run(name, arguments[1:], client.resp)))

    return run


def _stream_write(name: str) -> Handler:
    at = 2 if "|" in name else 1

    def run(client: Client, arguments: list[bytes]) -> Answer:
        answer = _run(client, name, arguments)
        if answer != 0 and answer != [] and client.store.get(arguments[at]) is not None:
            # fakeredis does not tell.
            client.store.dirty.append(arguments[at])
        return answer

    return run


def xadd(client: Client, arguments: list[bytes]) -> Answer:
    """XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] n [LIMIT n]] * | id field value..."""
    id_ = client.store.run("xadd", arguments[1:], client.resp)
    if isinstance(id_, bytes):
        at = 2
        while (word := arguments[at].lower()) in (b"nomkstream", b"maxlen", b"minid", b"limit"):
            at += 1 if word == b"nomkstream" else 2
            if arguments[at - 1] in (b"=", b"~"):
                at += 1
        client.server.executor.effects = [[*arguments[:at], id_, *arguments[at + 1 :]]]
    return id_


def xsetid(client: Client, arguments: list[bytes]) -> Answer:
    """XSETID key last-id [ENTRIESADDED n] [MAXDELETEDID id]."""
    from cachesim.embedded.redis.keyspace import set_stream_id

    item = client.store.get(arguments[1])
    if item is None:
        raise Error(NO_KEY)
    if client.store.type_name(item.value) != "stream":
        raise Error(WRONG_TYPE)
    added: int | None = None
    deleted: bytes | None = None
    for at in range(3, len(arguments), 2):
        word = arguments[at].lower()
        if word == b"entriesadded" and at + 1 < len(arguments):
            added = integer(arguments[at + 1])
            if added < 0:
                raise Error("ERR entries_added must be positive")
        elif word == b"maxdeletedid" and at + 1 < len(arguments):
            deleted = arguments[at + 1]
        else:
            raise Error(SYNTAX)
    set_stream_id(item.value, arguments[2], added, deleted)
    client.store.dirty.append(arguments[1])
    return "OK"


def spop(client: Client, arguments: list[bytes]) -> Answer:
    """SPOP key [count]: repeated as the removal of what it took."""
    if len(arguments) > 3:
        raise Error(SYNTAX)
    key = arguments[1]
    if len(arguments) == 3 and integer(arguments[2], _POSITIVE) < 0:
        raise Error(_POSITIVE)
    answer: Any = client.store.run("spop", arguments[1:], client.resp)
    if not answer:
        return Unordered() if len(arguments) == 3 else None
    taken = answer if isinstance(answer, list) else [answer]
    gone = client.store.get(key) is None
    client.server.executor.effects = [[b"DEL", key] if gone else [b"SREM", key, *taken]]
    return Unordered(taken) if isinstance(answer, list) else cast(Reply, answer)


_POSITIVE = "ERR value is out of range, must be positive"


def _random(name: str) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        if len(arguments) > 2 and integer(arguments[2]) < -MOST_PICKED:
            raise Error("ERR value is out of range")
        return client.store.run(name, arguments[1:], client.resp)

    return run


def setbit(client: Client, arguments: list[bytes]) -> Answer:
    """SETBIT key offset value."""
    if integer(arguments[2], _BIT_OFFSET) >= LONGEST_STRING * 8:
        raise Error(_BIT_OFFSET)
    return client.store.run("setbit", arguments[1:], client.resp)


def bitfield(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD key [GET | SET | INCRBY type offset...]."""
    for at in range(2, len(arguments)):
        if arguments[at].lower() in (b"get", b"set", b"incrby") and at + 2 < len(arguments):
            offset = arguments[at + 2].removeprefix(b"#")
            scale = 64 if arguments[at + 2][:1] == b"#" else 1
            if offset.isdigit() and int(offset) * scale >= LONGEST_STRING * 8:
                raise Error(_BIT_OFFSET)
    return client.store.run("bitfield", arguments[1:], client.resp)


def bitfield_ro(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD_RO key [GET type offset...]."""
    if any(word.lower() in (b"set", b"incrby", b"overflow") for word in arguments[2:]):
        raise Error("ERR BITFIELD_RO only supports the GET subcommand")
    return bitfield(client, arguments)


def sort(client: Client, arguments: list[bytes]) -> Answer:
    """SORT key [LIMIT offset count] [ASC | DESC] [ALPHA] [STORE key]."""
    at = 2
    while at < len(arguments):
        word = arguments[at].lower()
        if word in (b"by", b"get") and at + 1 < len(arguments):
            if word == b"get" or b"*" in arguments[at + 1]:
                raise Error(f"ERR {word.decode().upper()} option of SORT denied in cluster mode.")
            at += 1
        elif word == b"limit":
            at += 2
        at += 1
    name = arguments[0].lower().decode()
    return client.store.run(name, arguments[1:], client.resp)


def sscan(client: Client, arguments: list[bytes]) -> Answer:
    """SSCAN key cursor [MATCH pattern] [COUNT n]."""
    members = _members(client, arguments[1], "set")
    following, found = scan_members(members, arguments, whole=len(members) <= 512)
    return [b"%d" % following, cast("list[Reply]", found)]


def zscan(client: Client, arguments: list[bytes]) -> Answer:
    """ZSCAN key cursor [MATCH pattern] [COUNT n]."""
    from cachesim.protocols.resp import double

    members = _members(client, arguments[1], "zset")
    following, found = scan_members(list(members), arguments, whole=len(members) <= 128)
    flat = [word for member in found for word in (member, double(members.get(member)))]
    return [b"%d" % following, cast("list[Reply]", flat)]


def _members(client: Client, key: bytes, kind: str) -> Any:
    item = client.store.get(key)
    if item is None:
        return {}
    if client.store.type_name(item.value) != kind:
        raise Error(WRONG_TYPE)
    return item.value


HANDLERS: Mapping[str, Handler] = {
    **{name: _plain(name) for name in _PLAIN},
    **{name: _unordered(name) for name in _UNORDERED},
    **{name: _stream_write(name) for name in _STREAM_WRITES},
    "bitfield": bitfield,
    "bitfield_ro": bitfield_ro,
    "setbit": setbit,
    "sort": sort,
    "sort_ro": sort,
    "spop": spop,
    "srandmember": _random("srandmember"),
    "sscan": sscan,
    "xadd": xadd,
    "xsetid": xsetid,
    "zrandmember": _random("zrandmember"),
    "zscan": zscan,
}
