"""Compares the replies of a real Redis 7.0 and of an embedded node to the same requests.

`python -m tests.embedded.redis.differential PORT --steps 10000` asks the server at that port. It
must run with `--cluster-enabled yes` and own all slots; the node runs in this process. Every reply
is compared, including the texts of errors, in RESP2 and in RESP3. Known differences are in `KNOWN`.
"""

import argparse
import asyncio
import random
import re
import socket
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from cachesim.protocols.resp import request
from tests.embedded.redis.alike import compared_as, same
from tests.embedded.redis.grammar import Words, drawn
from tests.embedded.redis.grammar.server import LIBRARY
from tests.embedded.redis.shard import Caller, ReplyError, _read, node_id

_ROUNDS = 50
NULL_ARRAY = "*-1"
"""The null array of RESP2, which is not its null."""

_OF_NODES_AND_SLOTS = (
    "ADDSLOTS", "ADDSLOTSRANGE", "BUMPEPOCH", "DELSLOTS", "DELSLOTSRANGE", "FLUSHSLOTS", "FORGET",
    "MEET", "RESET", "SET-CONFIG-EPOCH", "SETSLOT",
)  # fmt: skip
KNOWN: tuple[tuple[str, str], ...] = (
    (
        "OBJECT ENCODING, REFCOUNT",
        "follow from the value alone; Redis also tells how it has become what it is",
    ),
    ("OBJECT IDLETIME", "always 0: noting every read would slow reads down"),
    ("SORT", "Redis may refuse right numbers after another number that was out of range"),
    ("SORT ALPHA", "texts that differ only after a zero byte: Redis promises them no order"),
    ("ZLEXCOUNT, ZRANGE BYLEX", "of members with different scores: Redis promises nothing"),
    (
        "SCAN, HSCAN, SSCAN, ZSCAN",
        "other cursors and another order, which Redis draws at each start; the same guarantees",
    ),
    (
        "sets, large hashes, KEYS, CLUSTER GETKEYSINSLOT, PUBSUB CHANNELS",
        "another order, which Redis draws at each start; small sets of integers are sorted",
    ),
    (
        "PUBLISH, UNSUBSCRIBE, SUNSUBSCRIBE",
        "patterns and channels in the order of the subscriptions; Redis draws one",
    ),
    (
        "keyspace notifications",
        "in RESP3, to their own client: before its reply; Redis sends some after it",
    ),
    (
        "keyspace notifications",
        "of a request with wrong options: no misses of keys, which Redis looks up first",
    ),
    ("CLIENT PAUSE", "a write that full memory refuses is refused meanwhile; in Redis it waits"),
    (
        "CLUSTER FAILOVER",
        "hands over with TAKEOVER alone; without an option it answers OK and does nothing",
    ),
    (
        "CLIENT LIST, `connected_clients`",
        "a replica's connection to its primary is no client of it, as it is in Redis",
    ),
    ("MONITOR", "of its own EXEC: lines come after the reply, in Redis between its parts"),
    ("LATENCY LATEST, HISTORY, GRAPH", "empty: there are no samples of a process's latency"),
    ("MEMORY STATS, MEMORY MALLOC-STATS, MEMORY DOCTOR", "without an allocator's figures"),
    (
        "INFO",
        "figures of an allocator, child processes, threads and defragmentation, and rates: 0 or 1",
    ),
    ("BGREWRITEAOF", "in slices, not in a child process, so it ends at another moment"),
    ("LOLWUT", "no picture: Redis draws it at random"),
    ("DUMP", "packs and compresses nothing; RESTORE reads both, a real Redis restores it"),
    ("RESTORE", "of a stream: deleted entries leave no room in its nodes, which XTRIM ~ removes"),
    (
        "scripts",
        "an error beyond 256 MB for Lua, 128 MB of arguments, 64 MB of a reply",
    ),
    ("scripts", "errors in some tail calls have no line number"),
    (
        "SCRIPT KILL, FUNCTION KILL",
        "work at once, even in `pcall`, as they end the process; libraries lose their variables",
    ),
    ("strings", "at most 64 MB, as the nodes share one process; Redis: `proto-max-bulk-len`"),
    (
        "SRANDMEMBER, HRANDFIELD, ZRANDMEMBER",
        "at most 1,000,000 elements with repetitions, as the nodes share one process",
    ),
    (
        "SAVE, BGSAVE, SHUTDOWN, MIGRATE",
        "not supported: they need a process or a disk of its own; ElastiCache forbids them too",
    ),
    ("SYNC, PSYNC", "not supported for a real Redis; ElastiCache forbids them too"),
    (
        ", ".join(f"CLUSTER {name}" for name in _OF_NODES_AND_SLOTS),
        "not supported: the topology has one shard, whose nodes are given",
    ),
    ("SCRIPT DEBUG YES, SCRIPT DEBUG SYNC", "not supported: they stop the server for a debugger"),
    ("PFDEBUG, PFSELFTEST", "not supported: they test Redis's own HyperLogLogs"),
)
"""Commands and how they differ: what the fuzzer leaves out, takes for equal, or seldom finds."""

_DEFAULTS = (
    b"maxmemory-policy noeviction", b"slowlog-max-len 128", b"tcp-keepalive 300", b"save",
    b"client-output-buffer-limit normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
    b"repl-backlog-size 1mb", b"appendfsync everysec", b"loglevel notice", b"lua-time-limit 5000",
    b"min-replicas-max-lag 10", b"lfu-log-factor 10", b"tracking-table-max-keys 1000000",
    b"latency-monitor-threshold 0", b"maxmemory-samples 5", b"proto-max-bulk-len 512mb",
    b"lazyfree-lazy-user-del no", b"oom-score-adj-values 0 200 800",
    b"stop-writes-on-bgsave-error yes", b"slowlog-log-slower-than -1",
)  # fmt: skip
RESETS: tuple[Words, ...] = (
    (b"FLUSHALL",), (b"SCRIPT", b"FLUSH"), (b"FUNCTION", b"FLUSH"), (b"FUNCTION", b"LOAD", LIBRARY),
    (b"ACL", b"DELUSER", b"u", b"v"), (b"ACL", b"LOG", b"RESET"),
    (b"CONFIG", b"RESETSTAT"), (b"LATENCY", b"RESET"), (b"MEMORY", b"PURGE"),
    *((b"CONFIG", b"SET", *(one.partition(b" ")[::2])) for one in _DEFAULTS),
    (b"SLOWLOG", b"RESET"),
)  # fmt: skip
"""Requests after which a server is as a new one, with a library of functions."""


class Real:
    """A connection to a real server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __call__(self, *words: bytes) -> Any:
        """Send a request if there is one. Return the next reply."""
        if words:
            self._socket.sendall(request(words))
        while True:
            try:
                reply, self._buffer = _read(self._buffer, NULL_ARRAY)
            except IndexError:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionResetError from None
                self._buffer += data
            else:
                return reply

    def send(self, *words: bytes) -> None:
        """Send a request."""
        self._socket.sendall(request(words))

    def taken(self) -> tuple[bytes, bool]:
        """Return what has been received since, and whether the server has disconnected."""
        data = b""
        try:
            while piece := self._socket.recv(1 << 20, socket.MSG_DONTWAIT):
                data += piece
        except BlockingIOError:
            return data, False
        except ConnectionResetError:
            pass
        return data, True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def messages(self) -> list[Any]:
        """Return the messages that a subscriber has got since the last call."""
        self._socket.sendall(request([b"PING", b""]))
        found: list[Any] = []
        while (message := self()) != [b"pong", b""]:
            found.append(message)
        return found


class Ours:
    """An embedded node, and connections to it: one for requests, one for a subscriber.

    Args:
        engine, redis_version: see `RedisNodeConfig`.
    """

    def __init__(self, *, engine: str = "redis", redis_version: str = "7.0") -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        address = NodeAddress(node_id("differential", "a"), "127.0.0.1", 7801, 17801)

        async def dial(*_: object) -> None:
            raise ConnectionRefusedError

        config = RedisNodeConfig(
            "redis-a",
            Path(self._folder.name),
            {"redis-a": address},
            "redis-a",
            engine=engine,
            redis_version=redis_version,
        )
        self.node = RedisNode(config, dial_peer=dial, loop=self.loop)
        self.node.start()
        self._caller, self._subscriber = Caller(NULL_ARRAY), Caller()
        for caller in (self._caller, self._subscriber):
            pipe(self.loop, caller, self.node.accept())

    def subscribe(self, *words: bytes) -> None:
        """Let the subscriber send a request."""
        self.loop.run_until_complete(self._subscriber(*words))

    def messages(self) -> list[Any]:
        """Return the messages that the subscriber has got since the last call."""

        async def read() -> list[Any]:
            found: list[Any] = []
            self._subscriber.send("PING", "")
            while (message := await self._subscriber.receive()) != [b"pong", b""]:
                found.append(message)
            return found

        return self.loop.run_until_complete(read())

    def __call__(self, *words: bytes) -> Any:
        """Send a request. Return the reply."""

        async def ask() -> Any:
            try:
                return await self._caller(*words)
            except ReplyError as error:
                return error

        return self.loop.run_until_complete(ask())

    def value(self, key: bytes) -> Any:
        """Return the value of a key as the node has it."""
        return self.node.server.store.values[key]

    def close(self) -> None:
        """End the node."""
        self.node.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        self._folder.cleanup()


class Pair:
    """A real server and an embedded node, both empty, with the same version of the protocol.

    A subscriber of each gets all keyspace notifications.

    Args:
        has_library: whether they have a library of functions. A node starts a process for it.
    """

    def __init__(self, port: int, resp: int, *, has_library: bool = True) -> None:
        self.resp = resp
        self.real, self.ours = Real(port), Ours()
        self._subscriber = Real(port)
        self._queued: list[str] = []
        for server in (self.real, self.ours):
            for words in RESETS:
                if has_library or words[:2] != (b"FUNCTION", b"LOAD"):
                    server(*words)
            server(b"HELLO", b"%d" % resp)
        for subscribe in (self._subscriber, self.ours.subscribe):
            subscribe(b"PSUBSCRIBE", b"__key*@0__:*")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the node."""
        self.real.close()
        self._subscriber.close()
        self.ours.close()

    def messages(self) -> tuple[list[Any], list[Any]]:
        """Return what both subscribers have got since the last call."""
        return self._subscriber.messages(), self.ours.messages()

    def differ(self, words: Words) -> tuple[Any, Any] | None:
        """Return both replies to a request, or None if they are the same."""
        name = compared_as(words)
        real, ours = self.real(*words), self.ours(*words)
        for _ in range(_ROUNDS):
            if name not in ("dbsize", "memory|usage") or real == ours:
                break
            time.sleep(0.01)  # an expired key may still count
            real, ours = self.real(*words), self.ours(*words)
        if name in ("multi", "discard") and real == "OK":
            self._queued.clear()
        if real == ours == "QUEUED":
            self._queued.append(name)
        elif name == "exec" and isinstance(real, list) and isinstance(ours, list):
            queued, self._queued = self._queued, []
            if len(real) != len(ours):
                return real, ours
            for one, sent, received in zip(queued, real, ours, strict=True):
                if not same(one, sent, received):
                    return sent, received
        elif "QUEUED" in (real, ours) or not same(name, real, ours):
            return real, ours
        # A key that expires at once is deleted a little later, at another moment.
        sent, ours_sent = (
            [message[2:] for message in got if b"expired" not in message[2] + message[3]]
            for got in self.messages()
        )
        if sent != ours_sent:
            return sent, ours_sent
        return None


def main() -> None:
    """Compare many replies, and print each kind of difference once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of a real Redis 7.0 on this machine")
    parser.add_argument("--steps", type=int, default=10_000, help="requests in each protocol")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shown: set[str] = set()
    count = 0
    for resp in (2, 3):
        r = random.Random(f"{arguments.seed} {resp}")
        pair = Pair(arguments.port, resp)
        for _ in range(arguments.steps):
            words = drawn(r)
            difference = pair.differ(words)
            if difference is None:
                continue
            count += 1
            kind = re.sub(r"\d+", "#", f"{words[0].lower()!r} {difference}")[:160]
            if kind not in shown:
                shown.add(kind)
                print(f"RESP{resp} {words}\n   real {difference[0]!r}\n   ours {difference[1]!r}")
            for server in (pair.real, pair.ours):  # from the same state again
                server(b"DISCARD")
                server(b"UNWATCH")
                server(b"FLUSHALL")
            pair.messages()
        pair.close()
    print(f"{2 * arguments.steps} requests, {count} differences of {len(shown)} kinds")


if __name__ == "__main__":
    main()
