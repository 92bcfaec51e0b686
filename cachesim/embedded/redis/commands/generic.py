"""The generic commands: for keys of any type, expiry, and WAIT. fakeredis runs only SORT."""

import random
from collections.abc import Mapping
from itertools import islice

from cachesim.embedded.redis.commands import sort
from cachesim.embedded.redis.commands.common.expiry import (
    as_milliseconds,
    expire_conditions,
    is_past,
    moment_of,
)
from cachesim.embedded.redis.commands.common.scan import cursor_of, hashed, page, scan_options
from cachesim.embedded.redis.commands.common.unsupported import not_supported
from cachesim.embedded.redis.commands.object import HANDLERS as OBJECT
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.dump import dumped, restored
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import (
    NO_KEY,
    SYNTAX,
    copied,
    integer,
    small_integer,
)
from cachesim.embedded.redis.replication.primary import GET_ACK
from cachesim.protocols.resp import Error


def del_(client: Client, arguments: list[bytes]) -> Answer:
    """DEL key..., UNLINK key...: replicas run it for the keys that existed."""
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
    client.store.fields.note(new, value)


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
    replace, database = False, 0
    at = 3
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"replace":
            replace = True
        elif word == b"db" and at + 1 < len(arguments):
            at += 1
            database = small_integer(arguments[at])
            if not 0 <= database < 16:
                raise Error("ERR DB index is out of range")
        else:
            raise Error(SYNTAX)
        at += 1
    if database:
        raise Error("ERR Copying to another database is not allowed in cluster mode")
    source, target = arguments[1:3]
    if source == target:
        raise Error("ERR source and destination objects are the same")
    item = client.store.get(source)
    if item is None or (not replace and client.store.get(target) is not None):
        return 0
    client.store.put(target, copied(item.value), item.expireat)
    client.store.fields.note(target, item.value)
    return 1


def keys(client: Client, arguments: list[bytes]) -> Answer:
    """KEYS pattern."""
    return list(filter(matcher(arguments[1]), client.store))


def scan(client: Client, arguments: list[bytes]) -> Answer:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]."""
    store = client.store
    cursor = cursor_of(arguments[1])
    pattern, count, kind = scan_options(arguments[2:], with_type=True)
    if not cursor or store.scanned is None:
        # Later calls of a scan use the same list. It has every key that exists during the whole
        # scan, in the same order.
        store.scanned = hashed(store.values)
    next_cursor, found = page(store.scanned, cursor, count)
    if not next_cursor:
        store.scanned = None
    matches = matcher(b"*" if pattern is None else pattern)
    alive = [
        key
        for key in found
        if matches(key)
        and (item := store.get(key)) is not None
        and (not kind or store.type_name(item.value).encode() == kind)
    ]
    return [b"%d" % next_cursor, alive]


def randomkey(client: Client, arguments: list[bytes]) -> Answer:
    """RANDOMKEY."""
    count = len(client.store)
    for _ in range(min(count, 100)):
        key = next(islice(client.store.values, random.randrange(count), None))
        if client.store.get(key) is not None:
            return key
    return next(iter(client.store), None)


def move(client: Client, arguments: list[bytes]) -> Answer:
    """MOVE key db."""
    raise Error("ERR MOVE is not allowed in cluster mode")


# --- expiry ---------------------------------------------------------------------------------


def _expire(client: Client, arguments: list[bytes], unit: bytes, name: str) -> Answer:
    store, key = client.store, arguments[1]
    flags = expire_conditions(arguments[3:])
    amount = integer(arguments[2])
    moment = moment_of(client, amount, unit, name)
    item = store.get(key)
    if item is None:
        return 0
    present = item.expireat
    if b"nx" in flags and present is not None:
        return 0
    if b"xx" in flags and present is None:
        return 0
    if b"gt" in flags and (present is None or moment <= present):
        return 0
    if b"lt" in flags and present is not None and moment >= present:
        return 0
    executor = client.server.executor
    if is_past(client, moment) and not client.is_replaying:
        store.remove(key)
        executor.effects = [[b"DEL", key]]
    else:
        store.set_expiry(key, moment)
        executor.effects = [[b"PEXPIREAT", key, as_milliseconds(moment)]]
    return 1


def expire(client: Client, arguments: list[bytes]) -> Answer:
    """EXPIRE key seconds [NX | XX | GT | LT]."""
    return _expire(client, arguments, b"ex", "expire")


def pexpire(client: Client, arguments: list[bytes]) -> Answer:
    """PEXPIRE key milliseconds [NX | XX | GT | LT]."""
    return _expire(client, arguments, b"px", "pexpire")


def expireat(client: Client, arguments: list[bytes]) -> Answer:
    """EXPIREAT key seconds [NX | XX | GT | LT]."""
    return _expire(client, arguments, b"exat", "expireat")


def pexpireat(client: Client, arguments: list[bytes]) -> Answer:
    """PEXPIREAT key milliseconds [NX | XX | GT | LT]."""
    return _expire(client, arguments, b"pxat", "pexpireat")


def _left(client: Client, key: bytes, *, absolute: bool, seconds: bool) -> int:
    item = client.store.get(key)
    if item is None:
        return -2
    if item.expireat is None:
        return -1
    at = round(item.expireat * 1000)
    if not absolute:
        at = max(0, at - int(client.store.now * 1000))
    return (at + 500) // 1000 if seconds else at


def ttl(client: Client, arguments: list[bytes]) -> Answer:
    """TTL key."""
    return _left(client, arguments[1], absolute=False, seconds=True)


def pttl(client: Client, arguments: list[bytes]) -> Answer:
    """PTTL key."""
    return _left(client, arguments[1], absolute=False, seconds=False)


def expiretime(client: Client, arguments: list[bytes]) -> Answer:
    """EXPIRETIME key."""
    return _left(client, arguments[1], absolute=True, seconds=True)


def pexpiretime(client: Client, arguments: list[bytes]) -> Answer:
    """PEXPIRETIME key."""
    return _left(client, arguments[1], absolute=True, seconds=False)


def persist(client: Client, arguments: list[bytes]) -> Answer:
    """PERSIST key."""
    item = client.store.get(arguments[1])
    if item is None or item.expireat is None:
        return 0
    client.store.set_expiry(arguments[1], None)
    return 1


# --- DUMP, RESTORE --------------------------------------------------------------------------


def dump(client: Client, arguments: list[bytes]) -> Answer:
    """DUMP key."""
    item = client.store.get(arguments[1])
    if item is None:
        return None
    return dumped(client.store.type_name(item.value), item.value)


_AGES = {b"idletime": b"freq", b"freq": b"idletime"}
"""How old a key is, by the policy that evicts it, and the option that excludes it."""


def _check_age(word: bytes, number: int) -> None:
    if word == b"idletime" and number < 0:
        raise Error("ERR Invalid IDLETIME value, must be >= 0")
    if word == b"freq" and not 0 <= number <= 255:
        raise Error("ERR Invalid FREQ value, must be >= 0 and <= 255")


def restore(client: Client, arguments: list[bytes]) -> Answer:
    """RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]."""
    key, store = arguments[1], client.store
    flags: set[bytes] = set()
    at = 4
    while at < len(arguments):
        word = arguments[at].lower()
        other = _AGES.get(word)
        if other is not None and other not in flags and at + 1 < len(arguments):
            _check_age(word, integer(arguments[at + 1]))
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
    value = restored(arguments[3])
    moment = None
    if ttl:
        moment = ttl / 1000 if b"absttl" in flags else store.now + ttl / 1000
        if is_past(client, moment) and not client.is_replaying:
            if store.remove(key):
                client.server.executor.effects = [[b"DEL", key]]
            return "OK"
    store.put(key, value, moment)
    if moment is not None:
        words = [b"RESTORE", key, as_milliseconds(moment), arguments[3], b"REPLACE", b"ABSTTL"]
        client.server.executor.effects = [words]
    return "OK"


# --- WAIT -----------------------------------------------------------------------------------


def wait(client: Client, arguments: list[bytes]) -> Answer:
    """WAIT numreplicas timeout."""
    server = client.server
    if server.is_replica:
        raise Error(
            "ERR WAIT cannot be used with replica instances. Please also note that since "
            "Redis 4.0 if a replica is configured to be writable (which is not the "
            "default) writes to replicas are just local and are not propagated."
        )
    wanted = integer(arguments[1])
    milliseconds = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise Error("ERR timeout is negative")
    offset = client.written_offset
    server.stream.flush()

    def attempt(_key: bytes | None = None) -> Answer:
        count = server.replicas.with_offset(offset)
        return count if count >= wanted else None

    answer = attempt()
    if answer is not None or not client.may_block or not isinstance(client, Session):
        return server.replicas.with_offset(offset)
    if len(server.replicas):
        server.stream.append_requests([GET_ACK])
    return client.wait(
        (), attempt, lambda: server.replicas.with_offset(offset), milliseconds / 1000
    )


HANDLERS: Mapping[str, Handler] = {
    **OBJECT,
    **sort.HANDLERS,
    "copy": copy,
    "del": del_,
    "dump": dump,
    "exists": exists,
    "expire": expire,
    "expireat": expireat,
    "expiretime": expiretime,
    "keys": keys,
    "migrate": not_supported,
    "move": move,
    "persist": persist,
    "pexpire": pexpire,
    "pexpireat": pexpireat,
    "pexpiretime": pexpiretime,
    "pttl": pttl,
    "randomkey": randomkey,
    "rename": rename,
    "renamenx": renamenx,
    "restore": restore,
    "scan": scan,
    "touch": exists,
    "ttl": ttl,
    "type": type_,
    "unlink": del_,
    "wait": wait,
}
