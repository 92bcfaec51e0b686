"""Commands on keys, whatever they hold."""

import random
from collections.abc import Mapping
from itertools import islice

from cachesim.embedded.redis.commands.expiry import as_milliseconds
from cachesim.embedded.redis.commands.scanning import cursor_of, hashed, options, page
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.dump import dumped, restored
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import NO_KEY, SYNTAX, integer
from cachesim.protocols.resp import Error

_OTHER_DATABASE = "ERR SELECT is not allowed in cluster mode"


def del_(client: Client, arguments: list[bytes]) -> Answer:
    """DEL key..., UNLINK key...: repeated for those that were there."""
    gone = [key for key in arguments[1:] if client.store.remove(key)]
    if gone and len(gone) < len(arguments) - 1:
        client.server.executor.effects = [[arguments[0], *gone]]
    return len(gone)


def exists(client: Client, arguments: list[bytes]) -> Answer:
    """EXISTS key..., TOUCH key..."""
    return sum(client.store.get(key) is not None for key in arguments[1:])


def type_(client: Client, arguments: list[bytes]) -> Answer:
    """TYPE key."""
    item = client.store.get(arguments[1])
    return "none" if item is None else client.store.type_name(item.value)


def _rename(client: Client, old: bytes, new: bytes) -> None:
    value, expires = client.store.values[old], client.store.expiries.get(old)
    client.store.remove(old)
    client.store.put(new, value, expires)


def rename(client: Client, arguments: list[bytes]) -> Answer:
    """RENAME key newkey."""
    if client.store.get(arguments[1]) is None:
        raise Error(NO_KEY)
    if arguments[1] != arguments[2]:
        _rename(client, arguments[1], arguments[2])
    return "OK"


def renamenx(client: Client, arguments: list[bytes]) -> Answer:
    """RENAMENX key newkey."""
    if client.store.get(arguments[1]) is None:
        raise Error(NO_KEY)
    if client.store.get(arguments[2]) is not None:
        return 0
    _rename(client, arguments[1], arguments[2])
    return 1


def copy(client: Client, arguments: list[bytes]) -> Answer:
    """COPY source destination [DB 0] [REPLACE]."""
    from cachesim.embedded.redis.keyspace.keyspace import copied

    replace = False
    at = 3
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"replace":
            replace = True
        elif word == b"db" and at + 1 < len(arguments):
            at += 1
            if integer(arguments[at], "ERR value is not an integer or out of range"):
                raise Error("ERR Copying to another database is not allowed in cluster mode")
        else:
            raise Error(SYNTAX)
        at += 1
    source, target = arguments[1:3]
    if source == target:
        raise Error("ERR source and destination objects are the same")
    item = client.store.get(source)
    if item is None or (not replace and client.store.get(target) is not None):
        return 0
    client.store.put(target, copied(item.value), item.expireat)
    return 1


def keys(client: Client, arguments: list[bytes]) -> Answer:
    """KEYS pattern."""
    return list(filter(matcher(arguments[1]), client.store))


def scan(client: Client, arguments: list[bytes]) -> Answer:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]."""
    store = client.store
    cursor = cursor_of(arguments[1])
    pattern, count, kind = options(arguments[2:], with_type=True)
    if not cursor or store.scanned is None:
        # Later calls go on in the same list: it has all keys that are there from the beginning of
        # their scan on, in the same order.
        store.scanned = hashed(store.values)
    following, found = page(store.scanned, cursor, count)
    if not following:
        store.scanned = None
    matches = matcher(b"*" if pattern is None else pattern)
    alive = [
        key
        for key in found
        if matches(key)
        and (item := store.get(key)) is not None
        and (not kind or store.type_name(item.value).encode() == kind)
    ]
    return [b"%d" % following, alive]


def randomkey(client: Client, arguments: list[bytes]) -> Answer:
    """RANDOMKEY."""
    count = len(client.store)
    for _ in range(min(count, 100)):
        key = next(islice(client.store.values, random.randrange(count), None))
        if client.store.get(key) is not None:
            return key
    return next(iter(client.store), None)


def dbsize(client: Client, arguments: list[bytes]) -> Answer:
    """DBSIZE."""
    return len(client.store)


def flushall(client: Client, arguments: list[bytes]) -> Answer:
    """FLUSHALL [ASYNC | SYNC], FLUSHDB [ASYNC | SYNC]."""
    if len(arguments) > 2 or (
        len(arguments) == 2 and arguments[1].lower() not in (b"async", b"sync")
    ):
        raise Error(SYNTAX)
    client.server.clear()
    client.server.executor.effects = [arguments]
    return "OK"


def move(client: Client, arguments: list[bytes]) -> Answer:
    """MOVE key db."""
    raise Error("ERR MOVE is not allowed in cluster mode")


def swapdb(client: Client, arguments: list[bytes]) -> Answer:
    """SWAPDB a b."""
    raise Error("ERR SWAPDB is not allowed in cluster mode")


def select(client: Client, arguments: list[bytes]) -> Answer:
    """SELECT index."""
    index = integer(arguments[1])
    if not -(2**31) <= index < 2**31:
        raise Error("ERR value is out of range, value must between -2147483648 and 2147483647")
    if index:
        raise Error(_OTHER_DATABASE)
    return "OK"


def dump(client: Client, arguments: list[bytes]) -> Answer:
    """DUMP key."""
    from cachesim.embedded.redis.keyspace.keyspace import parts_of

    item = client.store.get(arguments[1])
    if item is None:
        return None
    return dumped(client.store.type_name(item.value), parts_of(item.value))


def restore(client: Client, arguments: list[bytes]) -> Answer:
    """RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]."""
    from cachesim.embedded.redis.keyspace.keyspace import made_of

    key, store = arguments[1], client.store
    flags: set[bytes] = set()
    at = 4
    while at < len(arguments):
        word = arguments[at].lower()
        if word in (b"idletime", b"freq") and at + 1 < len(arguments):
            integer(arguments[at + 1])
            at += 1
        elif word not in (b"replace", b"absttl"):
            raise Error(SYNTAX)
        flags.add(word)
        at += 1
    if b"replace" not in flags and store.get(key) is not None:
        raise Error("BUSYKEY Target key name already exists.")
    ttl = integer(arguments[2])
    if ttl < 0:
        raise Error("ERR Invalid TTL value, must be >= 0")
    kind, parts = restored(arguments[3])
    moment = None
    if ttl:
        moment = ttl / 1000 if b"absttl" in flags else store.now + ttl / 1000
    store.put(key, made_of(kind, parts), moment)
    if moment is not None:
        words = [b"RESTORE", key, as_milliseconds(moment), arguments[3], b"REPLACE", b"ABSTTL"]
        client.server.executor.effects = [words]
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    "copy": copy,
    "dbsize": dbsize,
    "del": del_,
    "dump": dump,
    "exists": exists,
    "flushall": flushall,
    "flushdb": flushall,
    "keys": keys,
    "move": move,
    "randomkey": randomkey,
    "rename": rename,
    "renamenx": renamenx,
    "restore": restore,
    "restore-asking": restore,
    "scan": scan,
    "select": select,
    "swapdb": swapdb,
    "touch": exists,
    "type": type_,
    "unlink": del_,
}
