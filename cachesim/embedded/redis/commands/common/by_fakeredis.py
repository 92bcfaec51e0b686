"""Commands that fakeredis runs, with its defects kept out."""

from collections.abc import Mapping
from typing import Any, cast

from cachesim.embedded.redis.commands.hash import MOST_PICKED
from cachesim.embedded.redis.commands.scanning import scan_members
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import (
    LONGEST_STRING,
    NO_KEY,
    SYNTAX,
    WRONG_TYPE,
    integer,
)
from cachesim.protocols.resp import Error, Reply, Unordered

_PLAIN = (
    # lists
    "lindex", "llen", "lpush", "lpushx", "lrange", "lrem", "lset",
    "ltrim", "rpush", "rpushx", "rpoplpush",
    # sets
    "sadd", "scard", "sdiffstore", "sinterstore", "sismember", "smismember",
    "smove", "srem", "sunionstore",
    # sorted sets
    "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby", "zinter", "zintercard",
    "zinterstore", "zlexcount", "zmscore",  "zrangebylex",
 "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank",
    "zremrangebyscore", "zrevrangebylex", "zrevrank",
    "zscore", "zunion", "zunionstore",
    # geo
    "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro",
    "georadiusbymember", "georadiusbymember_ro", "geosearch", "geosearchstore",
    # bitmaps
    "bitop", "bitpos", "getbit",
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
        if outer in _KEY_FIRST:
            _members(client, arguments[1], _KEY_FIRST[outer])
        try:
            return client.store.run(known, arguments[skipped:], client.resp)
        except Error as error:
            if error.text == WRONG_TYPE and outer not in _KEY_FIRST:
                # Redis reads the arguments first.
                refusal = client.store.refusal(known, arguments[skipped:], client.resp)
                if refusal is not None and refusal.text != NO_KEY:
                    raise refusal from None
            raise

    return run


def lmove(client: Client, arguments: list[bytes]) -> Answer:
    """LMOVE source destination LEFT|RIGHT LEFT|RIGHT."""
    if any(word.lower() not in (b"left", b"right") for word in arguments[3:5]):
        raise Error(SYNTAX)
    return client.store.run("lmove", arguments[1:], client.resp)


def linsert(client: Client, arguments: list[bytes]) -> Answer:
    """LINSERT key BEFORE|AFTER pivot element."""
    if arguments[2].lower() not in (b"before", b"after"):
        raise Error(SYNTAX)
    return client.store.run("linsert", arguments[1:], client.resp)


def xdel(client: Client, arguments: list[bytes]) -> Answer:
    """XDEL key id..."""
    if client.store.get(arguments[1]) is None:
        return 0
    return _stream_write("xdel")(client, arguments)


def lpos(client: Client, arguments: list[bytes]) -> Answer:
    """LPOS key element [RANK rank] [COUNT n] [MAXLEN n]."""
    for at in range(3, len(arguments) - 1, 2):
        option = arguments[at].upper()
        if option in (b"COUNT", b"MAXLEN"):
            refusal = f"ERR {option.decode()} can't be negative"
            if integer(arguments[at + 1], refusal) < 0:
                raise Error(refusal)
        elif option == b"RANK" and integer(arguments[at + 1]) == 0:
            # Before a syntax error in what follows.
            return _plain("lpos")(client, arguments[: at + 2])
    return _plain("lpos")(client, arguments)


def zrange(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANGE, ZREVRANGE: places are integers."""
    if (
        arguments[0].lower() == b"zrevrange"
        and arguments[4:]
        and (len(arguments) > 5 or arguments[4].lower() != b"withscores")
    ):
        raise Error(SYNTAX)
    by = {word.lower() for word in arguments[4:]}
    if not by & {b"byscore", b"bylex"} and not by - {b"rev", b"withscores"}:
        for place in arguments[2:4]:
            integer(place)
    return _plain(arguments[0].lower().decode())(client, arguments)


def zrangebyscore(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANGEBYSCORE, ZREVRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]."""
    at = 4
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"limit" and at + 2 < len(arguments):
            at += 2
        elif word != b"withscores":
            raise Error(SYNTAX)
        at += 1
    return _plain(arguments[0].lower().decode())(client, arguments)


def pop(client: Client, arguments: list[bytes]) -> Answer:
    """LPOP key [count], RPOP key [count]."""
    name = arguments[0].lower().decode()
    if len(arguments) > 3:
        raise Error(f"ERR wrong number of arguments for '{name}' command")
    return _plain(name)(client, arguments)


def bitcount(client: Client, arguments: list[bytes]) -> Answer:
    """BITCOUNT key [start end [BYTE | BIT]]."""
    if client.store.get(arguments[1]) is None:
        return 0
    return _plain("bitcount")(client, arguments)


def zpop(client: Client, arguments: list[bytes]) -> Answer:
    """ZPOPMIN key [count], ZPOPMAX key [count]."""
    if len(arguments) > 3:
        raise Error(SYNTAX)
    if len(arguments) == 3 and integer(arguments[2], _POSITIVE) < 0:
        raise Error(_POSITIVE)
    return _plain(arguments[0].lower().decode())(client, arguments)


def numbered(name: str) -> Handler:
    """SINTERCARD and ZINTERCARD: numkeys key... [LIMIT n]."""

    def run(client: Client, arguments: list[bytes]) -> Answer:
        count = integer(arguments[1], _NUMKEYS)
        if count < 1:
            raise Error(_NUMKEYS)
        if count > len(arguments) - 2:
            raise Error("ERR Number of keys can't be greater than number of args")
        options = arguments[2 + count :]
        if options and (len(options) != 2 or options[0].lower() != b"limit"):
            raise Error(SYNTAX)
        if options and integer(options[1], _LIMIT) < 0:
            raise Error(_LIMIT)
        keys = arguments[2 : 2 + count]
        if name == "sintercard" and not min(len(_members(client, key, "set")) for key in keys):
            return 0
        return client.store.run(name, arguments[1:], client.resp)

    return run


_LIMIT = "ERR LIMIT can't be negative"
_NUMKEYS = "ERR numkeys should be greater than 0"
_KEY_FIRST = {"lindex": "list", "lset": "list", "bitcount": "string"}


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
    from cachesim.embedded.redis.keyspace.keyspace import set_stream_id

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
    "linsert": linsert,
    "bitcount": bitcount,
    "lmove": lmove,
    "lpop": pop,
    "rpop": pop,
    "lpos": lpos,
    "setbit": setbit,
    "sintercard": numbered("sintercard"),
    "sort": sort,
    "sort_ro": sort,
    "spop": spop,
    "srandmember": _random("srandmember"),
    "sscan": sscan,
    "xadd": xadd,
    "xdel": xdel,
    "xsetid": xsetid,
    "zrandmember": _random("zrandmember"),
    "zpopmax": zpop,
    "zpopmin": zpop,
    "zrange": zrange,
    "zrangebyscore": zrangebyscore,
    "zrevrange": zrange,
    "zrevrangebyscore": zrangebyscore,
    "zscan": zscan,
}
