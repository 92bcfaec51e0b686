"""Arguments of commands that say when keys expire."""

from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.keyspace.values import HIGHEST, printed
from cachesim.protocols.resp import Error


def as_milliseconds(moment: float) -> bytes:
    """Return a time in seconds as whole milliseconds, as in the replication stream."""
    return b"%d" % round(moment * 1000)


def is_past(client: Client, moment: float) -> bool:
    """Return whether a time, in seconds since the epoch, is now or past in whole milliseconds."""
    return round(moment * 1000) <= int(client.store.now * 1000)


def moment_of(client: Client, amount: int, unit: bytes, name: str) -> float:
    """Return when a key expires, in seconds since the epoch. It may be in the past.

    Args:
        unit: `ex`, `px`, `exat` or `pxat`, as in `EX 10`.
        name: the command, for the error.

    Raises:
        Error: the time is too far away.
    """
    now = int(client.store.now * 1000)
    value = amount * 1000 if unit in (b"ex", b"exat") else amount
    is_relative = unit in (b"ex", b"px")
    too_far = value > HIGHEST - now if is_relative else value > HIGHEST
    if too_far or value < -HIGHEST - 1:
        raise Error(f"ERR invalid expire time in '{name}' command")
    return (value + now if is_relative else value) / 1000


def positive_moment_of(client: Client, amount: int, unit: bytes, name: str) -> float:
    """Do as `moment_of`, but refuse an amount of 0 or less.

    Raises:
        Error: the amount is not positive, or too large.
    """
    if amount <= 0:
        raise Error(f"ERR invalid expire time in '{name}' command")
    return moment_of(client, amount, unit, name)


def expire_conditions(options: list[bytes]) -> set[bytes]:
    """Return the options of EXPIRE and the like: `nx`, `xx`, `gt`, `lt`.

    Raises:
        Error: there is no such option, or two exclude each other.
    """
    flags: set[bytes] = set()
    for option in options:
        word = option.lower()
        if word not in (b"nx", b"xx", b"gt", b"lt"):
            raise Error(f"ERR Unsupported option {printed(option)}")
        flags.add(word)
    if b"nx" in flags and flags - {b"nx"}:
        raise Error("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"gt", b"lt"} <= flags:
        raise Error("ERR GT and LT options at the same time are not compatible")
    return flags
