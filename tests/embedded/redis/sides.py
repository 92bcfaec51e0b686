"""Real servers and embedded nodes, with their clients by name. See `sequences`."""

import asyncio
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from tests.embedded.redis.differential import RESETS, Real
from tests.embedded.redis.grammar import Words
from tests.embedded.redis.shard import Caller, ReplyError, node_id

_MARK = b"are all replies there?"
_OF_CONTROL = re.compile(
    rb'\+[\d.]+ \[0 [\d.:]+\] "(ECHO" "%b|INFO" "replication)"\r\n' % re.escape(_MARK)
)
"""What MONITOR shows of requests that are no client's."""
REPLICAS = "R"
"""The clients of the replica. The others are the primary's."""


class Side(Protocol):
    """The servers of one kind, and their clients by name."""

    def connect(self, name: str) -> None:
        """Open a connection."""

    def send(self, name: str, words: Words) -> None:
        """Send a request."""

    def settle(self, *, replicate: bool) -> None:
        """Wait until the servers have answered what they can."""

    def taken(self) -> dict[str, tuple[bytes, bool]]:
        """Return what the clients have received since the last call, and who was disconnected."""

    def control(self, name: str, *words: bytes) -> Any:
        """Send a request to the node of a client, and return the reply."""

    def fail_over(self) -> None:
        """Let the two nodes change their roles, and wait until the new replica follows."""


class RealSide:
    """Real servers."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports
        self._controls = [Real(port) for port in ports]
        self._controls[1](b"READONLY")
        for number, control in enumerate(self._controls):
            for words in RESETS[number * 4 :] if number else RESETS:
                control(*words)
            control(b"CONFIG", b"SET", b"notify-keyspace-events", b"")
        self._clients: dict[str, Real] = {}
        self._primary = 0
        deadline = time.monotonic() + 20
        while not self._follows(1):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def connect(self, name: str) -> None:
        """See `Side`."""
        self._clients[name] = Real(self._ports[name in REPLICAS])

    def send(self, name: str, words: Words) -> None:
        """See `Side`."""
        self._clients[name].send(*words)

    def settle(self, *, replicate: bool) -> None:
        """See `Side`."""
        for control in self._controls:
            for _ in range(3):
                control(b"ECHO", _MARK)
        primary, replica = self._primary, 1 - self._primary
        while replicate and self._offset(primary, b"master") != self._offset(replica, b"slave"):
            pass
        for _ in range(2):
            self._controls[replica](b"ECHO", _MARK)

    def fail_over(self) -> None:
        """See `Side`."""
        former, self._primary = self._primary, 1 - self._primary
        self._controls[self._primary](b"CLUSTER", b"FAILOVER", b"TAKEOVER")
        self._controls[former](b"READONLY")
        deadline = time.monotonic() + 20
        while not self._follows(former):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _follows(self, replica: int) -> bool:
        """Return whether a replica has its primary's data, and knows who has the slots."""
        control = self._controls[replica]
        return (
            b"master_link_status:up" in control(b"INFO", b"replication")
            and b"cluster_slots_assigned:16384" in control(b"CLUSTER", b"INFO")
            and b"cluster_state:ok" in control(b"CLUSTER", b"INFO")
        )

    def _offset(self, number: int, role: bytes) -> bytes:
        text = self._controls[number](b"INFO", b"replication")
        return bytes(text.partition(b"\n%b_repl_offset:" % role)[2].split()[0])

    def taken(self) -> dict[str, tuple[bytes, bool]]:
        """See `Side`."""
        found = {
            name: (_OF_CONTROL.sub(b"", data), is_lost)
            for name, (data, is_lost) in ((n, c.taken()) for n, c in self._clients.items())
        }
        for name, (_, is_lost) in found.items():
            if is_lost:
                self._clients.pop(name).close()
        return found

    def control(self, name: str, *words: bytes) -> Any:
        """See `Side`."""
        return self._controls[name in REPLICAS](*words)

    def close(self) -> None:
        """Close all connections."""
        for client in (*self._controls, *self._clients.values()):
            client.close()


class OurSide:
    """Embedded nodes in this process.

    Args:
        ports: of the real ones, which redirections name.
    """

    def __init__(self, ports: tuple[int, int]) -> None:
        self._ports = ports
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        names = ("redis-a", "redis-b")
        addresses = {
            name: NodeAddress(node_id("sequences", name), "127.0.0.1", 7801 + at, 17801 + at)
            for at, name in enumerate(names)
        }
        self._nodes: dict[str, RedisNode] = {}

        async def dial(factory: Callable[[], asyncio.Protocol], peer: str, service: str) -> None:
            node = self._nodes[peer]
            far = node.accept() if service == "redis" else node.accept_bus()
            pipe(self._loop, factory(), far)

        for name in names:
            folder = Path(self._folder.name) / name
            folder.mkdir()
            config = RedisNodeConfig(name, folder, addresses, "redis-a")
            self._nodes[name] = RedisNode(config, dial_peer=dial, loop=self._loop)
        for node in self._nodes.values():
            node.start()
        self._primary, self._replica = self._nodes.values()
        self._run_until(lambda: self._link_is_up)
        self._controls = [self._caller(number) for number in (0, 1)]
        self.control("R", b"READONLY")
        for words in RESETS:
            self.control("A", *words)
        self._clients: dict[str, Caller] = {}

    @property
    def _link_is_up(self) -> bool:
        link = self._replica.server.replica_link
        return link is not None and link.is_up

    def _caller(self, number: int) -> Caller:
        caller = Caller()
        pipe(self._loop, caller, list(self._nodes.values())[number].accept())
        return caller

    def _run_until(self, condition: Callable[[], bool], rounds: int = 3) -> None:
        async def wait() -> None:
            deadline = self._loop.time() + 5
            while not condition():
                assert self._loop.time() < deadline
                await asyncio.sleep(0)
            for _ in range(rounds):
                await asyncio.sleep(0)

        self._loop.run_until_complete(wait())

    def connect(self, name: str) -> None:
        """See `Side`."""
        self._clients[name] = self._caller(name in REPLICAS)

    def send(self, name: str, words: Words) -> None:
        """See `Side`."""
        self._clients[name].send(*words)

    def settle(self, *, replicate: bool) -> None:
        """See `Side`."""

        def is_quiet() -> bool:
            servers = self._primary.server, self._replica.server
            if any(server.script_runner.running for server in servers):
                return False
            return not replicate or servers[0].stream.offset == servers[1].stream.offset

        for _ in range(3):
            for name in "AR":
                self.control(name, b"ECHO", _MARK)
            self._run_until(is_quiet, rounds=10)

    def taken(self) -> dict[str, tuple[bytes, bool]]:
        """See `Side`."""
        found = {}
        for name, caller in list(self._clients.items()):
            data = caller.buffer
            for port, real in zip((7801, 7802), self._ports, strict=True):
                data = data.replace(b"127.0.0.1:%d" % port, b"127.0.0.1:%d" % real)
            found[name] = _OF_CONTROL.sub(b"", data), caller.is_lost
            caller.buffer = b""
            if caller.is_lost:
                del self._clients[name]
        return found

    def fail_over(self) -> None:
        """See `Side`."""
        self._primary, self._replica = self._replica, self._primary
        names = "RA" if self._primary is self._nodes["redis-b"] else "AR"
        self.control(names[0], b"CLUSTER", b"FAILOVER", b"TAKEOVER")
        self.control(names[1], b"READONLY")
        self._run_until(lambda: self._link_is_up)

    def control(self, name: str, *words: bytes) -> Any:
        """See `Side`."""

        async def ask() -> Any:
            try:
                return await self._controls[name in REPLICAS](*words)
            except ReplyError as error:
                return error

        return self._loop.run_until_complete(ask())

    def close(self) -> None:
        """End the nodes."""
        for node in self._nodes.values():
            node.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
        self._folder.cleanup()
