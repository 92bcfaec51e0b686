"""The hash commands about fields that expire, since Redis 7.4: HEXPIRE, HTTL, HGETEX..."""

from collections.abc import Callable, Mapping

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import Hash, integer, printed
from cachesim.protocols.resp import Error

_LATEST = 2**46 - 1  # milliseconds since the epoch
_MOST = 2**31 - 1  # fields
_NO_FIELDS = "ERR Mandatory argument FIELDS is missing or not at the right position"
_NOT_POSITIVE = "ERR Number of fields must be a positive integer"
_MISCOUNTED = "ERR The `numfields` parameter must match the number of arguments"
_ONE_CONDITION = "ERR Only one of FXX or FNX arguments can be specified"
_ONE_EXPIRY = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
_UNITS = {
    "hexpire": b"ex", "hpexpire": b"px", "hexpireat": b"exat", "hpexpireat": b"pxat",
}  # fmt: skip


def find(client: Client, key: bytes) -> Hash | None:
    """Return the hash of a key, without expired fields, or None if the key is missing.

    Raises:
        Error: the key has another type.
    """
    server, store = client.server, client.store
    found: Hash | None = store.value(key, Hash)
    if found is not None and (server.is_replica or server.clients.paused_until):
        return found.alive(int(store.now * 1000))
    return found


def _fields(words: list[bytes], not_positive: str = _NOT_POSITIVE) -> list[bytes]:
    """Read `FIELDS numfields field...`.

    Raises:
        Error: that is not what the words are.
    """
    if words[0].lower() != b"fields":
        raise Error(_NO_FIELDS)
    if len(words) < 2 or integer(words[1], not_positive) < 1:
        raise Error(not_positive)
    if int(words[1]) != len(words) - 2:
        raise Error(_MISCOUNTED)
    return words[2:]


def _moment(client: Client, word: bytes, unit: bytes, name: str) -> int:
    """Return when fields expire, in milliseconds since the epoch.

    Args:
        unit: `ex`, `px`, `exat` or `pxat`, as in `EX 10`.
        name: the command, for the error.

    Raises:
        Error: the time is no number, negative or too far away.
    """
    amount = integer(word)
    if amount < 0:
        raise Error("ERR invalid expire time, must be >= 0")
    if unit in (b"ex", b"exat"):
        amount *= 1000
    base = int(client.store.now * 1000) if unit in (b"ex", b"px") else 0
    if amount > _LATEST - base:
        raise Error(f"ERR invalid expire time in '{name}' command")
    return amount + base


def _is_past(client: Client, moment: int) -> bool:
    return not client.is_replaying and moment <= int(client.store.now * 1000)


def _write(client: Client, key: bytes, *effects: list[bytes]) -> None:
    """Report that a hash has changed, and delete it if it is empty."""
    store = client.store
    value = store.values[key]
    if value:
        store.fields.note(key, value)
        store.dirty.append(key)
    else:
        store.remove(key)
    client.server.executor.effects = list(effects)


def _listed(fields: list[bytes]) -> list[bytes]:
    return [b"FIELDS", b"%d" % len(fields), *fields]


def _expire(
    client: Client, key: bytes, value: Hash, fields: list[bytes], moment: int
) -> list[bytes]:
    """Let fields expire, or delete them if the time is past. Return the request that does it."""
    value.expire((), moment)
    if _is_past(client, moment):
        for field in fields:
            value.remove(field)
        return [b"HDEL", key, *fields]
    value.expire(fields, moment)
    return [b"HPEXPIREAT", key, b"%d" % moment, *_listed(fields)]


# --- HEXPIRE, HTTL, HPERSIST ------------------------------------------------------------------


def _may_change(condition: bytes, present: int | None, moment: int) -> bool:
    if condition == b"nx":
        return present is None
    if condition == b"xx":
        return present is not None
    if condition == b"gt":
        return present is not None and moment > present
    return present is None or moment < present or condition != b"lt"


def hexpire(client: Client, arguments: list[bytes]) -> Answer:
    """HEXPIRE, HPEXPIRE, HEXPIREAT, HPEXPIREAT key time [NX|XX|GT|LT] FIELDS n field..."""
    name, key = arguments[0].lower().decode(), arguments[1]
    value = find(client, key)
    moment = _moment(client, arguments[2], _UNITS[name], name)
    rest, condition = arguments[3:], arguments[3].lower()
    if condition in (b"nx", b"xx", b"gt", b"lt"):
        rest = rest[1:]
    fields = _fields(rest, "ERR Parameter `numFields` should be greater than 0")
    if value is None:
        return [-2] * len(fields)
    value.expire((), moment)  # from now on it is encoded as one whose fields may expire
    deadlines = dict(value.deadlines or {})
    is_past = _is_past(client, moment)
    answers, changed = [], []
    for field in fields:
        if field not in value or (is_past and field in changed):
            answers.append(-2)
        elif not _may_change(condition, deadlines.get(field), moment):
            answers.append(0)
        else:
            answers.append(2 if is_past else 1)
            changed.append(field)
            deadlines[field] = moment
    if changed:
        _write(client, key, _expire(client, key, value, changed, moment))
    return answers


def _telling(tell: Callable[[Client, int], int]) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        value = find(client, arguments[1])
        fields = _fields(arguments[2:])
        if value is None:
            return [-2] * len(fields)
        deadlines = value.deadlines or {}
        return [
            -2 if field not in value else tell(client, at) if (at := deadlines.get(field)) else -1
            for field in fields
        ]

    return run


def _left(client: Client, at: int) -> int:
    return max(0, at - int(client.store.now * 1000))


def hpersist(client: Client, arguments: list[bytes]) -> Answer:
    """HPERSIST key FIELDS n field..."""
    key = arguments[1]
    value = find(client, key)
    fields = _fields(arguments[2:])
    if value is None:
        return [-2] * len(fields)
    answers = [-2 if f not in value else 1 if value.persist(f) else -1 for f in fields]
    if 1 in answers:
        _write(client, key, [b"HPERSIST", key, *_listed(fields)])
    return answers


# --- HGETDEL, HGETEX, HSETEX, since Redis 8.0 ---------------------------------------------------


def hgetdel(client: Client, arguments: list[bytes]) -> Answer:
    """HGETDEL key FIELDS n field..."""
    key = arguments[1]
    value = find(client, key)
    fields = _fields(arguments[2:])
    if value is None:
        return [None] * len(fields)
    contents: list[bytes | None] = []
    for field in fields:
        contents.append(value.get(field))
        value.remove(field)
    if any(content is not None for content in contents):
        _write(client, key, [b"HDEL", key, *fields])
    return contents


def hgetex(client: Client, arguments: list[bytes]) -> Answer:
    """HGETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] FIELDS n field..."""
    key, option, at = arguments[1], arguments[2].lower(), 2
    value = find(client, key)
    moment = None
    if option in (b"ex", b"px", b"exat", b"pxat"):
        moment = _moment(client, arguments[3], option, "hgetex")
        at = 4
    elif option == b"persist":
        at = 3
    fields = _fields(arguments[at:])
    if value is None:
        return [None] * len(fields)
    if at > 2:
        value.expire((), 0)
    contents: list[bytes | None] = []
    gone: set[bytes] = set()
    for field in fields:
        contents.append(None if field in gone else value.get(field))
        if moment is not None and _is_past(client, moment):
            gone.add(field)
    present = [field for field in dict.fromkeys(fields) if field in value]
    if moment is not None and present:
        _write(client, key, _expire(client, key, value, present, moment))
    elif option == b"persist" and sum(value.persist(field) for field in present):
        _write(client, key, [b"HPERSIST", key, *_listed(present)])
    return contents


def _setting(client: Client, words: list[bytes]) -> tuple[bytes, bytes, int | None, list[bytes]]:
    """Read HSETEX's options.

    Returns:
        `fnx`, `fxx` or nothing; `ex` and the like, `keepttl` or nothing; when the fields expire, in
        milliseconds since the epoch; the words after FIELDS.

    Raises:
        Error: an option is wrong.
    """
    condition = expiry = b""
    moment = None
    at = 0
    while at < len(words) and (word := words[at].lower()) != b"fields":
        if word in (b"fnx", b"fxx"):
            if condition:
                raise Error(_ONE_CONDITION)
            condition = word
        elif word in (b"ex", b"px", b"exat", b"pxat", b"keepttl"):
            if expiry:
                raise Error(_ONE_EXPIRY)
            expiry = word
            if word != b"keepttl":
                at += 1
                if at == len(words):
                    raise Error("ERR wrong number of arguments for 'hsetex' command")
                moment = _moment(client, words[at], word, "hsetex")
        else:
            raise Error(f"ERR unknown argument: {printed(words[at])}")
        at += 1
    return condition, expiry, moment, words[at + 1 :]


def hsetex(client: Client, arguments: list[bytes]) -> Answer:
    """HSETEX key [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS n field value..."""
    key = arguments[1]
    condition, expiry, moment, words = _setting(client, arguments[2:])
    if not words or not 1 <= integer(words[0], "ERR invalid number of fields") <= _MOST:
        raise Error("ERR invalid number of fields")
    if 2 * int(words[0]) != len(words) - 1:
        raise Error("ERR wrong number of arguments for 'hsetex' command")
    value = find(client, key)
    fields, contents = words[1::2], words[2::2]
    present = [field in (value or ()) for field in fields]
    if (condition == b"fnx" and any(present)) or (condition == b"fxx" and not all(present)):
        return 0
    if value is None:
        value = Hash()
        client.store.put(key, value)
        client.store.dirty.pop()
    for field, content in zip(fields, contents, strict=True):
        value.put(field, content, keeps_deadline=expiry == b"keepttl")
    options = [b"KEEPTTL"] if expiry == b"keepttl" else []
    effects = [[b"HSETEX", key, *options, b"FIELDS", *words]]
    if moment is not None:
        effects.append(_expire(client, key, value, list(dict.fromkeys(fields)), moment))
    _write(client, key, *effects)
    return 1


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(_UNITS, hexpire),
    "hexpiretime": _telling(lambda _, at: (at + 999) // 1000),
    "hgetdel": hgetdel,
    "hgetex": hgetex,
    "hpersist": hpersist,
    "hpexpiretime": _telling(lambda _, at: at),
    "hpttl": _telling(_left),
    "hsetex": hsetex,
    "httl": _telling(lambda client, at: (_left(client, at) + 999) // 1000),
}
