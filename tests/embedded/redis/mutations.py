"""Sends broken requests to a node in this process, which must survive them.

`python -m tests.embedded.redis.mutations --inputs 100000` sends each input over a new connection,
cut into pieces anywhere, and looks for exceptions, hangs, and growing memory.
"""

import argparse
import asyncio
import random
import resource
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.node import RedisNode
from cachesim.protocols.resp import request
from tests.embedded.mutations import HANG, Sink, broken
from tests.embedded.redis.grammar import drawn
from tests.embedded.redis.shard import node_id

_MEMORY = 64 << 20
_READ = 256 * 1024  # bytes at most that asyncio reads at once
_TOKENS = (
    b"\r\n", b"\n", b"\0", b"*3\r\n", b"*-1\r\n", b"*0\r\n", b"$-1\r\n", b"$0\r\n\r\n",
    b"*1048577\r\n", b"$536870913\r\n", b"*2147483648\r\n", b"$99999999999999999999\r\n",
    b"$5\r\n", b"*1\r\n$1\r\n", b"PING\r\n", b'"unbalanced\r\n', b"'a' b\r\n", b"\\x",
    b"9" * 5000, b"k" * 70_000, b"\xff" * 9, b"*1\r\n$4\r\nEXEC\r\n", b"*1\r\n$5\r\nMULTI\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", b"-", b":1\r\n", b"*1\r\n$5\r\nRESET\r\n",
    b"*2\r\n$5\r\nWATCH\r\n$1\r\na\r\n", b"*1\r\n$7\r\nMONITOR\r\n",
)  # fmt: skip


def mutated(r: random.Random) -> bytes:
    """Draw a few requests, with a few things wrong."""
    data = bytearray()
    for _ in range(r.randint(1, 6)):
        data += request(drawn(r))
    return broken(data, _TOKENS, r)


class Target:
    """A node, on a loop that runs only when it is told to."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        self.errors: list[dict[str, Any]] = []
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))

        async def dial(*_: object) -> None:
            raise ConnectionRefusedError

        address = NodeAddress(node_id("mutations", "a"), "127.0.0.1", 7801, 17801)
        config = RedisNodeConfig(
            "redis-a",
            Path(self._folder.name),
            {"redis-a": address},
            "redis-a",
            settings={"maxmemory": str(_MEMORY)},
        )
        self._node = RedisNode(config, dial_peer=dial, loop=self._loop)
        self._node.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._node.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
        self._folder.cleanup()

    def give(self, data: bytes, r: random.Random) -> float:
        """Send an input over a new connection. Return the seconds that the slowest piece took."""
        server = self._node.server
        session, sink = Session(server), Sink()
        session.connection_made(sink)
        worst, at = 0.0, 0
        size = r.choice((_READ, _READ, 100, 7, 1))
        if size < 100 and len(data) > 20_000:
            size = 5000
        while at < len(data) and not sink.is_closed:
            begun = time.thread_time()
            session.data_received(data[at : at + size])
            self._loop.run_until_complete(asyncio.sleep(0))
            worst = max(worst, time.thread_time() - begun)
            at += size
        assert session._parser.buffered <= len(data)
        session.connection_lost(None)
        assert not server.clients.sessions
        assert not self.errors, self.errors[0]
        return worst


def try_many(count: int, seed: int) -> tuple[int, float]:
    """Send many inputs. Return how many hung, and the longest time in seconds."""
    r = random.Random(seed)
    hung, longest = 0, 0.0
    with Target() as target:
        for _ in range(count):
            data = mutated(r)
            try:
                took = target.give(data, r)
            except Exception:
                print(repr(data[:2000]))
                raise
            if took > HANG:  # once more, in case something else ran
                took = min(took, target.give(data, r))
                hung += took > HANG
            longest = max(longest, took)
    return hung, longest


def main() -> None:
    """Send many inputs, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    hung, longest = try_many(arguments.inputs, arguments.seed)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{arguments.inputs} inputs, {hung} hung, the longest took {longest * 1000:.1f} ms, "
        f"{most} MB at most"
    )


if __name__ == "__main__":
    main()
