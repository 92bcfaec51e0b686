"""When keys expire: moments from arguments, and the commands about them."""

from collections.abc import Mapping

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import HIGHEST, integer, words
from cachesim.protocols.resp import Error


def as_milliseconds(moment: float) -> bytes:
    """A moment as the replication stream has it."""
    return b"%d" % round(moment * 1000)


def is_past(client: Client, moment: float) -> bool:
    """Whether a key would have expired already, by whole milliseconds."""
    return round(moment * 1000) <= int(client.store.now * 1000)


def absolute(client: Client, amount: int, unit: bytes, name: str) -> float:
    """The moment of `EX 10` or the like, in seconds since the epoch.

    Args:
        unit: `ex`, `px`, `exat` or `pxat`.
        name: the command's, for the error.

    Raises:
        Error: it is not after the epoch, or too far away.
    """
    if amount <= 0:
        raise Error(f"ERR invalid expire time in '{name}' command")
    return _moment(client, amount, unit, name)


def _moment(client: Client, amount: int, unit: bytes, name: str) -> float:
    now = int(client.store.now * 1000)
    value = amount * 1000 if unit in (b"ex", b"exat") else amount
    is_relative = unit in (b"ex", b"px")
    too_far = value > HIGHEST - now if is_relative else value > HIGHEST
    if too_far or value < -HIGHEST - 1:
        raise Error(f"ERR invalid expire time in '{name}' command")
    return (value + now if is_relative else value) / 1000


def _expire(client: Client, arguments: list[bytes], unit: bytes, name: str) -> Answer:
    store, key = client.store, arguments[1]
    flags = _flags(arguments[3:])
    amount = integer(arguments[2])
    moment = _moment(client, amount, unit, name)
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
    if is_past(client, moment) and not client.obeyed:
        store.remove(key)
        executor.effects = [[b"DEL", key]]
    else:
        store.set_expiry(key, moment)
        executor.effects = [[b"PEXPIREAT", key, as_milliseconds(moment)]]
    return 1


def _flags(options: list[bytes]) -> set[bytes]:
    flags: set[bytes] = set()
    for option in options:
        word = option.lower()
        if word not in (b"nx", b"xx", b"gt", b"lt"):
            raise Error(f"ERR Unsupported option {words(option)}")
        flags.add(word)
    if b"nx" in flags and flags - {b"nx"}:
        raise Error("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"gt", b"lt"} <= flags:
        raise Error("ERR GT and LT options at the same time are not compatible")
    return flags


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


HANDLERS: Mapping[str, Handler] = {
    "expire": expire,
    "expireat": expireat,
    "expiretime": expiretime,
    "persist": persist,
    "pexpire": pexpire,
    "pexpireat": pexpireat,
    "pexpiretime": pexpiretime,
    "pttl": pttl,
    "ttl": ttl,
}
