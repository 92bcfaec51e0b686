"""The events of keyspace notifications that each command makes, in Redis's order.

They follow from the request, its answer, and the keys before and after. So the commands themselves
know nothing of notifications, and cost nothing more while these are off.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.connections.notifications import Event, Notifications
from cachesim.embedded.redis.dispatch.command_table import Flag
from cachesim.embedded.redis.dispatch.entry import Entry, Handler
from cachesim.embedded.redis.keyspace.streams import (
    INVALID_ID,
    consumers_of,
    groups_of,
    parse_id,
)
from cachesim.embedded.redis.keyspace.values import NO_KEY
from cachesim.protocols.resp import NULL_ARRAY, Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Keyspace

_OF_FIRST_KEY = {
    "$": {
        "append": "append", "bitfield": "setbit", "decr": "incrby", "decrby": "incrby",
        "getset": "set", "incr": "incrby", "incrby": "incrby", "incrbyfloat": "incrbyfloat",
        "pfadd": "pfadd", "pfmerge": "pfadd", "psetex": "set", "set": "set", "setbit": "setbit",
        "setex": "set", "setnx": "set", "setrange": "setrange",
    },
    "g": {"persist": "persist", "restore": "restore"},
    "h": {
        "hdel": "hdel", "hincrby": "hincrby", "hincrbyfloat": "hincrbyfloat", "hmset": "hset",
        "hset": "hset", "hsetnx": "hset",
    },
    "l": {
        "blpop": "lpop", "brpop": "rpop", "linsert": "linsert", "lpop": "lpop", "lpush": "lpush",
        "lpushx": "lpush", "lrem": "lrem", "lset": "lset", "ltrim": "ltrim", "rpop": "rpop",
        "rpush": "rpush", "rpushx": "rpush",
    },
    "s": {"sadd": "sadd", "spop": "spop", "srem": "srem"},
    "t": {
        "xadd": "xadd", "xdel": "xdel", "xgroup|create": "xgroup-create",
        "xgroup|createconsumer": "xgroup-createconsumer",
        "xgroup|destroy": "xgroup-destroy", "xgroup|setid": "xgroup-setid", "xsetid": "xsetid",
        "xtrim": "xtrim",
    },
    "z": {
        "bzpopmax": "zpopmax", "bzpopmin": "zpopmin", "geoadd": "zadd", "zadd": "zadd",
        "zincrby": "zincr", "zpopmax": "zpopmax", "zpopmin": "zpopmin", "zrem": "zrem",
        "zremrangebylex": "zremrangebylex", "zremrangebyrank": "zremrangebyrank",
        "zremrangebyscore": "zremrangebyscore",
    },
}  # fmt: skip
"""By class: the event of a command's first key, sent if the command has changed it."""
_SIMPLE = {
    name: (kind, event) for kind, events in _OF_FIRST_KEY.items() for name, event in events.items()
}
_STORES = {
    "bitop": ("$", "set", 2),
    "geosearchstore": ("z", "geosearchstore", 1),
    **{
        name: (name[0], name, 1)
        for name in (
            "sdiffstore", "sinterstore", "sunionstore", "zdiffstore", "zinterstore", "zrangestore",
            "zunionstore",
        )
    },
}  # fmt: skip
"""The commands that store a result: class, event, and the position of the destination."""
_STORE_WORDS = {
    "georadius": ("z", "georadiusstore", (b"store", b"storedist")),
    "georadiusbymember": ("z", "georadiusstore", (b"store", b"storedist")),
    "sort": ("l", "sortstore", (b"store",)),
}
_WITH_CONSUMERS = {
    "xreadgroup": "xgroup-createconsumer", "xclaim": "xgroup-createconsumer",
    "xautoclaim": "xgroup-createconsumer", "xgroup|delconsumer": "xgroup-delconsumer",
}  # fmt: skip
"""Commands that add or remove a consumer, and the event if they do."""
_OF_EFFECTS = {
    b"HDEL": "hdel", b"HPERSIST": "hpersist", b"HPEXPIREAT": "hexpire", b"HSETEX": "hset",
}  # fmt: skip
_BY_EFFECTS = {
    "hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist", "hgetdel", "hgetex", "hsetex",
}  # fmt: skip
"""Commands whose events are those of the requests that replicas get."""
_NOTHING_DONE: tuple[object, ...] = (0, [])
_MOVES = {"lmove", "blmove", "rpoplpush", "brpoplpush"}
_POPS = {b"left": "lpop", b"right": "rpop", b"min": "zpopmin", b"max": "zpopmax"}
# Reads are in the table of commands. These write, and read keys as well.
_READ_BY_WRITES: dict[str, slice] = {
    "bitop": slice(3, None), "copy": slice(1, 2), "getdel": slice(1, 2), "getex": slice(1, 2),
    "getset": slice(1, 2), "pfmerge": slice(1, None), "sort": slice(1, 2),
    "sdiffstore": slice(2, None), "sinterstore": slice(2, None), "sunionstore": slice(2, None),
    "zrangestore": slice(2, 3), "geosearchstore": slice(2, 3), "xack": slice(1, 2),
    "xautoclaim": slice(1, 2), "xclaim": slice(1, 2), "georadius": slice(1, 2),
    "georadiusbymember": slice(1, 2),
}  # fmt: skip
_LOOK_FIRST = ("georadius", "geosearch", "xautoclaim", "xclaim")
"""Commands that read their key before they look at their options."""
_READ_STREAMS = ("xread", "xreadgroup")
_OF_A_STREAM = ("WRONGTYPE", "NOGROUP", INVALID_ID, "ERR The $", "ERR The >")
"""Errors of commands that read one stream after the other."""
_SETS_BITS = {b"set", b"incrby"}
_OPERANDS = {"b": ("string",), "p": ("string",), "s": ("set",), "z": ("zset", "set")}
_SILENT = {
    "object|encoding", "object|freq", "object|idletime", "object|refcount", "memory|usage",
    "ssubscribe", "eval_ro", "evalsha_ro", "fcall_ro",
}  # fmt: skip


class _Call:
    """A command that has run."""

    def __init__(
        self, name: str, words: Sequence[bytes], before: dict[bytes, int], store: "Keyspace"
    ) -> None:
        self.name = name
        self.words = words
        self.before = before
        self.store = store
        self.changed = frozenset(store.dirty)
        self.answer: Any = None

    def made(self, kind: str, event: str, key: bytes, *, renewed: bool = False) -> Iterator[Event]:
        """Yield an event, with the key's beginning or end."""
        exists = key in self.store.values
        if exists and (renewed or key not in self.before):
            yield "n", "new", key
        yield kind, event, key
        if not exists:
            yield "g", "del", key


def _stored(call: _Call, kind: str, event: str, target: bytes) -> Iterator[Event]:
    if target in call.store.values:
        yield from call.made(kind, event, target)
    elif target in call.before:
        yield "g", "del", target


def _moved(call: _Call) -> Iterator[Event]:
    source, target = call.words[1:3]
    if call.answer is None or source not in call.before:
        return
    ends = [word.lower() for word in call.words[3:5]]
    from_left, to_left = (
        (ends[0] == b"left", ends[1] == b"left") if "lmove" in call.name else (False, True)
    )
    if target not in call.before and target != source:
        yield "n", "new", target
    yield "l", "lpush" if to_left else "rpush", target
    yield "l", "lpop" if from_left else "rpop", source
    if source not in call.store.values:
        yield "g", "del", source


def _set_moved(call: _Call) -> Iterator[Event]:
    source, target = call.words[1:3]
    if call.answer != 1 or source == target:
        return
    yield from call.made("s", "srem", source)
    if len(call.store.values[target]) > call.before.get(target, 0):
        yield from call.made("s", "sadd", target)


def _expired(call: _Call) -> Iterator[Event]:
    key = call.words[1]
    if call.answer == 1:
        yield "g", "expire" if key in call.store.values else "del", key


def _got(call: _Call) -> Iterator[Event]:
    """GETDEL, GETEX."""
    key = call.words[1]
    if key in call.changed:
        exists = key in call.store.values
        yield (
            "g",
            "del" if not exists else "expire" if key in call.store.expiries else "persist",
            key,
        )


def _events(call: _Call) -> Iterator[Event]:
    """Yield the events of a command that has written."""
    name, words, answer = call.name, call.words, call.answer
    if name in ("set", "setex", "psetex"):
        if words[1] in call.changed:
            yield from call.made("$", "set", words[1])
            if words[1] in call.store.expiries and (
                name != "set" or b"keepttl" not in [word.lower() for word in words[3:]]
            ):
                yield "g", "expire", words[1]
    elif name == "zadd" and b"incr" in [word.lower() for word in words[2:]]:
        if words[1] in call.changed:
            yield from call.made("z", "zincr", words[1])
    elif name == "xadd":
        if words[1] in call.changed:
            yield from call.made("t", "xadd", words[1])
            if len(call.store.values[words[1]]) <= call.before.get(words[1], 0):
                yield "t", "xtrim", words[1]
    elif name in ("blpop", "brpop", "bzpopmin", "bzpopmax"):
        if isinstance(answer, list):
            yield from call.made(*_SIMPLE[name], answer[0])
    elif name in ("lmpop", "blmpop", "zmpop", "bzmpop"):
        if isinstance(answer, list) and answer:
            at = 2 if name[0] == "b" else 1
            yield from call.made(
                name[name[0] == "b"], _POPS[words[at + 1 + int(words[at])].lower()], answer[0]
            )
    elif name in _MOVES:
        yield from _moved(call)
    elif name == "smove":
        yield from _set_moved(call)
    elif name in ("mset", "msetnx"):
        for at in range(1, len(words), 2):
            if words[at] in call.changed:
                yield from call.made("$", "set", words[at])
                call.before[words[at]] = 0
    elif name in ("del", "unlink"):
        for key in dict.fromkeys(words[1:]):
            if key in call.before:
                yield "g", "del", key
    elif name in ("rename", "renamenx"):
        if words[1] in call.changed:
            yield "n", "new", words[2]
            yield "g", "rename_from", words[1]
            yield "g", "rename_to", words[2]
    elif name == "copy":
        if answer == 1:
            yield from call.made("g", "copy_to", words[2], renewed=True)
    elif name == "restore":
        yield from call.made("g", "restore", words[1], renewed=True)
    elif name in ("expire", "pexpire", "expireat", "pexpireat"):
        yield from _expired(call)
    elif name in ("getdel", "getex"):
        yield from _got(call)
    elif name in _STORES:
        kind, event, at = _STORES[name]
        yield from _stored(call, kind, event, words[at])
    elif name in _STORE_WORDS:
        kind, event, options = _STORE_WORDS[name]
        places = [at for at in range(2, len(words) - 1) if words[at].lower() in options]
        if places:
            yield from _stored(call, kind, event, words[places[-1] + 1])
    elif name in _SIMPLE:
        kind, event = _SIMPLE[name]
        key = words[2] if "|" in name else words[1]
        says_no = (kind in "ls" or name == "pfadd") and answer in _NOTHING_DONE
        is_changed = key in call.changed or name[:3] in ("xgr", "xse")  # not new for readers
        if is_changed and not says_no:
            yield from call.made(kind, event, key)


def _missed(
    entry: Entry,
    words: Sequence[bytes],
    before: dict[bytes, int],
    stops: Callable[[str, bytes], bool] | None = None,
) -> Iterator[Event]:
    """Yield the events of missing keys that a command has read.

    Args:
        stops: whether the command has failed at a key.
    """
    name, options = entry.name, {word.lower() for word in words[2:]}
    if name in _READ_BY_WRITES:
        keys: Iterable[bytes] = words[_READ_BY_WRITES[name]]
    elif (entry.bits & Flag.READONLY and name not in _SILENT) or name == "pfcount":
        keys = entry.command.keys(words)
        if name == "xread":
            keys = [*keys, *keys]  # Redis looks twice
    elif (name == "bitfield" and options.isdisjoint(_SETS_BITS)) or (
        name == "set" and b"get" in options
    ):
        keys = words[1:2]
    else:
        return
    for key in keys:
        if key not in before:
            yield "m", "keymiss", key
        elif stops is not None and stops(name, key):
            return


class EventSource:
    """Runs commands, and sends their events."""

    def __init__(self, store: "Keyspace", notifications: Notifications) -> None:
        self._store = store
        self._notifications = notifications

    def run(self, client: Client, entry: Entry, words: list[bytes]) -> Answer:
        """Run a command.

        Raises:
            Error: the command has failed.
        """
        handler = cast(Handler, entry.handler)
        if not entry.bits & Flag.KEYS:
            return handler(client, words)
        try:
            keys = entry.command.keys(words)
        except Error:
            keys = []
        before = self._lengths(keys)
        consumers = self._consumers(entry.name, keys)
        try:
            answer = handler(client, words)
        except Error as error:
            if entry.name in _READ_STREAMS:
                if error.text.startswith(_OF_A_STREAM):
                    self._notifications.send(self._missed_streams(entry, words, keys))
            elif (
                error.text.startswith(("WRONGTYPE", "NOGROUP"))
                or error.text == NO_KEY
                or entry.name.startswith(_LOOK_FIRST)
            ):
                self._notifications.send(_missed(entry, words, before, self._mistyped))
            raise
        self._notifications.send(_missed(entry, words, before))
        if answer not in (None, NULL_ARRAY, []) and self._consumers(entry.name, keys) != consumers:
            self._notifications.send([("t", _WITH_CONSUMERS[entry.name], keys[0])])
        effects = client.server.executor.effects
        if entry.name in _BY_EFFECTS:
            self._send_effects(effects or (), before)
        elif self._store.dirty or effects is not None:
            self._send(entry.name, words, before, answer)
        return answer

    def retry(self, client: Client, keys: Iterable[bytes], retry: Callable[[], Answer]) -> Answer:
        """Try again to answer a request that waits for keys.

        Raises:
            Error: the request has failed.
        """
        before = self._lengths(keys)
        answer = retry()
        for words in client.server.executor.effects or ():
            name = words[0].lower().decode()
            if name in _MOVES and len(self._store.values[words[2]]) > 1:
                before.setdefault(words[2], 1)
            self._send(name, words, before, answer)
        return answer

    def _lengths(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        get = self._store.get
        return {key: len(item.value) for key in keys if (item := get(key)) is not None}

    def _consumers(self, name: str, keys: list[bytes]) -> int:
        if name not in _WITH_CONSUMERS:
            return 0
        return sum(consumers_of(self._store.values.get(key)) for key in keys)

    def _missed_streams(
        self, entry: Entry, words: Sequence[bytes], keys: Sequence[bytes]
    ) -> Iterator[Event]:
        """Yield the events of missing streams up to the one at which a command has failed."""
        is_group = entry.name == "xreadgroup"
        for key, id_ in zip(keys, words[len(words) - len(keys) :], strict=True):
            item = self._store.get(key)
            if item is None:
                yield "m", "keymiss", key
            elif self._store.type_name(item.value) != "stream":
                return
            if is_group and (item is None or words[2] not in groups_of(item.value)):
                return
            if id_ != (b">" if is_group else b"$"):
                try:
                    parse_id(id_)
                except Error:
                    return

    def _mistyped(self, name: str, key: bytes) -> bool:
        """Return whether a command on several keys stops at this one, for its type."""
        item = self._store.get(key)
        types = _OPERANDS.get(name[0], ())
        kind = None if item is None else self._store.type_name(item.value)
        return bool(types) and kind is not None and kind not in types

    def _send(
        self, name: str, words: Sequence[bytes], before: dict[bytes, int], answer: Answer
    ) -> None:
        call = _Call(name, words, before, self._store)
        call.answer = cast(Any, answer)
        self._notifications.send(_events(call))

    def _send_effects(self, effects: Sequence[list[bytes]], before: dict[bytes, int]) -> None:
        for number, words in enumerate(effects):
            event, key = _OF_EFFECTS[words[0]], words[1]
            if key not in before and number == 0:
                self._notifications.send([("n", "new", key)])
            self._notifications.send([("h", event, key)])
            if key not in self._store.values and number == len(effects) - 1:
                self._notifications.send([("g", "del", key)])
