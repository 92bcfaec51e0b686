"""Sends broken requests to an emulated node.

`python -m tests.embedded.memcached.mutations --inputs 100000` sends each input over a new
connection, cut into pieces anywhere, and looks for exceptions, hangs, and growing memory.
"""

import argparse
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from cachesim.aio.scheduler import Scheduler
from cachesim.embedded.memcached.binary_commands import BinaryCommands
from cachesim.embedded.memcached.commands import Commands
from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
from cachesim.embedded.memcached.server import Server
from cachesim.embedded.memcached.session import Session
from tests.embedded.memcached import binary
from tests.embedded.memcached.differential import META, TEXT
from tests.embedded.mutations import HANG, Sink, broken

_TOKENS = (
    b" ", b"\r\n", b"\n", b"\0", b"noreply", b"get ", b"set ", b"mg ", b"ms ", b"-", b"0" * 30,
    b"9" * 5000, b"k" * 2100, b"\xff" * 9, b" b", b" q", b"99999999", b"1048577", b"\x80",
    b"get " + b"a " * 3000, b"stats\r\n", b"4294967296", b"ma ", b"VALUE", b"=" * 8,
)  # fmt: skip


def mutated(r: random.Random) -> bytes:
    """Return a few requests with a few errors."""
    data = bytearray()
    is_binary = r.random() < 0.2
    for _ in range(r.randint(1, 6)):
        data += binary.drawn(r, lambda _: 1) if is_binary else r.choice((*TEXT, *META))(r)
    return broken(data, _TOKENS, r)


class GoRound:
    """The part of a loop that a session needs."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()

    def call_soon(self, act: Callable[..., object], *arguments: Any) -> None:
        """Queue a call."""
        self._waiting.append(partial(act, *arguments))

    def time(self) -> float:
        """Seconds."""
        return time.monotonic()

    def go_round(self) -> float:
        """Make all queued calls; return the seconds that the longest took."""
        worst = 0.0
        while self._waiting:
            begun = time.thread_time()
            self._waiting.popleft()()
            worst = max(worst, time.thread_time() - begun)
        return worst


def give(server: Server, data: bytes, r: random.Random) -> float:
    """Send an input over a new connection; return the seconds that the slowest piece took."""
    session, sink = Session(server), Sink()
    session.connection_made(sink)
    worst = 0.0
    at = 0
    size = r.choice((1 << 20, 1 << 20, 100, 7, 1))
    if size < 100 and len(data) > 20_000:
        size = 5000
    while at < len(data) and not sink.is_closed:
        begun = time.thread_time()
        session.data_received(data[at : at + size])
        worst = max(worst, time.thread_time() - begun, cast(GoRound, server.loop).go_round())
        at += size
    held = session._parser.buffered
    assert held <= len(data), held
    session.connection_lost(None)
    assert not server.sessions
    return worst


def new_server(max_memory: int = 4 * MEGABYTE) -> Server:
    """Return a new server."""
    config = MemcachedNodeConfig("memcached-a", max_memory)
    loop = cast(Any, GoRound())
    return Server(
        config,
        lambda server: (Commands(server).execute, BinaryCommands(server).execute),
        loop=loop,
        scheduler=Scheduler(loop),
        clock=time.monotonic,
        wall=time.time,
        log=lambda _: None,
    )


def try_many(count: int, seed: int) -> tuple[int, float]:
    """Send many inputs; return how many hung, and the longest time in seconds."""
    r = random.Random(seed)
    server = new_server()
    hung, longest = 0, 0.0
    for _ in range(count):
        data = mutated(r)
        took = give(server, data, r)
        if took > HANG:  # once more, in case that another process was running
            took = min(took, give(server, data, r))
            hung += took > HANG
        longest = max(longest, took)
        check(server)
    return hung, longest


def check(server: Server) -> None:
    """Check that the counters agree with the items."""
    items = server.items
    if items.counters.total_items % 50 == 0:
        assert items.bytes == sum(item.size for item in items.by_key.values())
        assert sum(len(slab.items) for slab in items.slabs.classes) == len(items.by_key)
        used = sum(1 + max(0, len(item.chunks) - 1) for item in items.by_key.values())
        assert used == sum(slab.used for slab in items.slabs.classes)
        assert items.slabs.allocated == sum(slab.pages for slab in items.slabs.classes) * MEGABYTE


def main() -> None:
    """Send many inputs, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    hung, longest = try_many(arguments.inputs, arguments.seed)
    print(f"{arguments.inputs} inputs, {hung} hung, the longest took {longest * 1000:.1f} ms")


if __name__ == "__main__":
    main()
