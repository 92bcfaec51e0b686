"""LATENCY and MEMORY, of the server commands. An emulated node has no samples of its latency."""

from collections.abc import Iterable, Mapping
from typing import Final

from cachesim.embedded.redis.commands.common.help import help_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Entry, Handler
from cachesim.embedded.redis.keyspace.memory import EMPTY
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, printed
from cachesim.protocols.resp import Error, Pairs, Reply, Verbatim

_UNWATCHED: Final = (
    "I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You "
    'may use "CONFIG SET latency-monitor-threshold <milliseconds>." in order to enable it. If we '
    "weren't in a deep space mission I'd suggest to take a look at "
    "https://redis.io/topics/latency-monitor.\n"
)
_NO_SPIKES: Final = (
    "Dave, no latency spike was observed during the lifetime of this Redis instance, not in the "
    "slightest bit. I honestly think you ought to sit down calmly, take a stress pill, and think "
    "things over.\n"
)
_ALMOST_EMPTY: Final = (
    "Hi Sam, this instance is empty or is using very little memory, my issues detector can't be "
    "used in these conditions. Please, leave for your mission on Earth and fill it with some data. "
    "The new Sam and I will be back to our programming as soon as I finished rebooting.\n"
)
_NO_ISSUES: Final = (
    "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on "
    "this base.\n"
)
_LITTLE: Final = 5 * 1024 * 1024  # bytes


# --- latency ---------------------------------------------------------------------------------


def no_samples(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY LATEST, LATENCY HISTORY event."""
    return []


def latency_reset(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY RESET [event...]."""
    return 0


def latency_doctor(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY DOCTOR."""
    is_watched = client.server.settings.number("latency-monitor-threshold")
    return Verbatim((_NO_SPIKES if is_watched else _UNWATCHED).encode())


def latency_graph(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY GRAPH event."""
    raise Error(f"ERR No samples available for event '{printed(arguments[2])}'")


def latency_histogram(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY HISTOGRAM [command...]."""
    entries = client.server.executor.entries
    wanted: Iterable[Entry] = entries.by_command.values()
    if len(arguments) > 2:
        named = (_named(entries.by_name, word) for word in arguments[2:])
        wanted = [one for entry in named if entry for one in (entry, *entry.subentries.values())]
    found = Pairs()
    for entry in wanted:
        if entry.durations:
            calls: list[Reply] = [b"calls", sum(entry.durations.values())]
            found += [entry.name.encode(), Pairs([*calls, b"histogram_usec", _histogram(entry)])]
    return found


def _named(by_name: Mapping[bytes, Entry], word: bytes) -> Entry | None:
    outer, _, inner = word.lower().partition(b"|")
    entry = by_name.get(outer)
    return entry.subentries.get(inner) if entry is not None and inner else entry


def _histogram(entry: Entry) -> Reply:
    """Return durations in microseconds, and how many calls took no longer."""
    return Pairs(part for most, count in entry.within() for part in (most // 1000, count))


# --- memory ----------------------------------------------------------------------------------


def memory_doctor(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY DOCTOR."""
    is_little = client.server.memory.used < _LITTLE
    return Verbatim((_ALMOST_EMPTY if is_little else _NO_ISSUES).encode())


def memory_malloc_stats(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY MALLOC-STATS: as a Redis without jemalloc answers."""
    return Verbatim(b"Stats not supported for the current allocator")


def memory_purge(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY PURGE."""
    return "OK"


def memory_stats(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY STATS: what an allocator would add is 0, and its ratios are 1."""
    memory, keys = client.server.memory, len(client.store)
    used, dataset = memory.used, memory.dataset
    peak, net = max(memory.peak, used), max(used - EMPTY, 1)
    fields: dict[str, Reply] = {
        "peak.allocated": peak,
        "total.allocated": used,
        "startup.allocated": EMPTY,
        "replication.backlog": memory.backlog,
        "clients.slaves": 0,
        "clients.normal": 0,
        "cluster.links": 0,
        "aof.buffer": 0,
        "lua.caches": 0,
        "functions.caches": 0,
    }
    if keys:
        fields["db.0"] = Pairs(
            (
                b"overhead.hashtable.main", used - EMPTY - dataset - memory.backlog,
                b"overhead.hashtable.expires", 0,
                b"overhead.hashtable.slot-to-keys", 16 * keys,
            )
        )  # fmt: skip
    fields |= {
        "overhead.total": used - dataset,
        "keys.count": keys,
        "keys.bytes-per-key": net // keys if keys else 0,
        "dataset.bytes": dataset,
        "dataset.percentage": 100.0 * dataset / net,
        "peak.percentage": 100.0 * used / peak,
        "allocator.allocated": used,
        "allocator.active": used,
        "allocator.resident": used,
        "allocator-fragmentation.ratio": 1.0,
        "allocator-fragmentation.bytes": 0,
        "allocator-rss.ratio": 1.0,
        "allocator-rss.bytes": 0,
        "rss-overhead.ratio": 1.0,
        "rss-overhead.bytes": 0,
        "fragmentation": 1.0,
        "fragmentation.bytes": 0,
    }
    return Pairs(word for name, value in fields.items() for word in (name.encode(), value))


def memory_usage(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY USAGE key [SAMPLES count]."""
    for at in range(3, len(arguments), 2):
        if arguments[at].lower() != b"samples" or at + 1 == len(arguments):
            raise Error(SYNTAX)
        if integer(arguments[at + 1]) < 0:
            raise Error(SYNTAX)
    return client.server.memory.size(arguments[2])


HANDLERS: Mapping[str, Handler] = {
    **help_of("latency", "memory"),
    "latency|doctor": latency_doctor,
    "latency|graph": latency_graph,
    "latency|histogram": latency_histogram,
    "latency|history": no_samples,
    "latency|latest": no_samples,
    "latency|reset": latency_reset,
    "memory|doctor": memory_doctor,
    "memory|malloc-stats": memory_malloc_stats,
    "memory|purge": memory_purge,
    "memory|stats": memory_stats,
    "memory|usage": memory_usage,
}
