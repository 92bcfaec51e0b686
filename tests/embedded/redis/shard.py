"""Three nodes in the test's event loop, and a client that sends raw bytes."""

import asyncio
import hashlib
import random
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from cachesim.aio.pipe import PipeTransport, pipe
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from cachesim.protocols.resp import request
from cachesim.servers.credentials import acl_hash

TOKEN, ADMIN = "t" * 32, "a" * 32
NAMES = ("redis-a", "redis-b", "redis-c")
_PATIENCE = 30.0  # seconds: a busy machine takes 10 to set many keys
MANY = 50_000
"""Keys that `fill` sets: more than a node handles in one turn."""


class ReplyError(Exception):
    """An error that a node answered."""


async def until(condition: Callable[[], Any]) -> Any:
    """Run the loop until a condition returns something true; return that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while not (result := condition()):
        assert loop.time() < deadline, condition
        await asyncio.sleep(0.001)
    return result


class Caller(asyncio.Protocol):
    """A client that reads replies in RESP2 and RESP3.

    Args:
        null_array: what `*-1` is read as.
    """

    transport: asyncio.Transport

    def __init__(self, null_array: Any = None) -> None:
        self.null_array = null_array
        self.buffer = b""
        self.is_lost = False
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the connection."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep received data."""
        self.buffer += data
        self._news.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """Wake `receive`."""
        self.is_lost = True
        self._news.set()

    def send(self, *words: str | bytes | int) -> None:
        """Send a request."""
        encoded = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.transport.write(request(encoded))

    async def __call__(self, *words: str | bytes | int) -> Any:
        """Send a request, and return its reply."""
        self.send(*words)
        return await self.receive()

    async def receive(self) -> Any:
        """Return the next reply.

        Raises:
            ReplyError: the reply is an error.
            ConnectionResetError: the connection ended.
        """
        while True:
            try:
                value, rest = _read(self.buffer, self.null_array)
            except IndexError:
                if self.is_lost:
                    raise ConnectionResetError from None
                self._news.clear()
                await asyncio.wait_for(self._news.wait(), _PATIENCE)
                continue
            self.buffer = rest
            if isinstance(value, ReplyError):
                raise value
            return value


def _read(data: bytes, null_array: Any = None) -> tuple[Any, bytes]:
    """Return the first reply in some bytes, and the rest. Raise IndexError if it is incomplete."""
    line, end, rest = data.partition(b"\r\n")
    if not end:
        raise IndexError
    sign, text = line[:1], line[1:]
    if sign in (b"+", b"-"):
        said = text.decode(errors="surrogateescape")
        return (said if sign == b"+" else ReplyError(said)), rest
    if sign == b":":
        return int(text), rest
    if sign == b",":
        return float(text), rest
    if sign == b"#":
        return text == b"t", rest
    if sign == b"_" or text == b"-1":
        return (null_array if sign == b"*" else None), rest
    count = int(text)
    if sign in (b"$", b"="):
        if len(rest) < count + 2:
            raise IndexError
        return rest[:count], rest[count + 2 :]
    items = []
    for _ in range(count * (2 if sign == b"%" else 1)):
        item, rest = _read(rest, null_array)
        items.append(item)
    if sign == b"%":
        return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}, rest
    return items, rest


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def node_id(run: str, name: str) -> str:
    """Return the id of a node. It depends on the names of the run and the node alone."""
    return hashlib.sha1(f"{run} {name}".encode(), usedforsecurity=False).hexdigest()


class Shard:
    """Three nodes whose links can be cut. The first one is the primary.

    Attributes:
        cut: the links that refuse connections: source, target, and `redis` or `bus`.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self._options = options
        self.nodes: dict[str, RedisNode] = {}
        self.cut: set[tuple[str, str, str]] = set()
        self._pipes: list[tuple[tuple[str, str, str], PipeTransport]] = []
        run = secrets.token_hex(4)
        self.addresses = {
            name: NodeAddress(node_id(run, name), "127.0.0.1", 7000 + number, 17000 + number)
            for number, name in enumerate(NAMES)
        }

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        users = {
            "default": f"on {acl_hash(TOKEN)} ~* &* +@all -config -cluster|failover -debug",
            "cachesim": f"on {acl_hash(ADMIN)} ~* &* +@all",
        }
        for name in NAMES:
            directory = self._folder / name
            directory.mkdir(exist_ok=True)
            options = {
                "users": users,
                "replication_user": "cachesim",
                "replication_password": ADMIN,
                **self._options,
            }
            config = RedisNodeConfig(name, directory, self.addresses, "redis-a", **options)

            async def dial(
                factory: Callable[[], asyncio.Protocol],
                peer: str,
                service: str,
                name: str = name,
            ) -> None:
                link = (name, peer, service)
                if link in self.cut:
                    raise ConnectionRefusedError(link)
                node = self.nodes[peer]
                far = node.accept() if service == "redis" else node.accept_bus()
                self._pipes.append((link, pipe(loop, factory(), far)[0]))

            self.nodes[name] = RedisNode(config, dial_peer=dial)
        for node in self.nodes.values():
            node.start()
        await until(lambda: all(self.follows(name, "redis-a") for name in NAMES[1:]))
        await until(lambda: all(len(n.server.bus.outbound) == 2 for n in self.nodes.values()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for node in self.nodes.values():
            node.close()
        await asyncio.sleep(0)

    def __getitem__(self, zone: str) -> RedisNode:
        return self.nodes[f"redis-{zone}"]

    def follows(self, name: str, primary: str) -> bool:
        """Whether a node is a replica in sync with a primary."""
        node, other = self.nodes[name], self.nodes[primary]
        if not node.is_running or not other.is_running:
            return False
        link = node.server.replica_link
        return (
            link is not None
            and link.is_up
            and link.primary.name == primary
            and node.server.stream.offset == other.server.stream.offset
        )

    def sever(self, *links: tuple[str, str, str]) -> None:
        """Cut links, and close their connections."""
        self.cut |= set(links)
        for link, transport in self._pipes:
            if link in links:
                transport.abort()

    def isolate(self, zone: str) -> None:
        """Cut every link from and to a node's zone."""
        name = f"redis-{zone}"
        self.sever(
            *(
                (one, other, service)
                for one in NAMES
                for other in NAMES
                for service in ("redis", "bus")
                if one != other and name in (one, other)
            )
        )

    async def call(self, zone: str, *, admin: bool = False, resp: int = 2) -> Caller:
        """Return a client of a node, after AUTH."""
        caller = Caller()
        pipe(asyncio.get_running_loop(), caller, self[zone].accept())
        user, password = ("cachesim", ADMIN) if admin else ("default", TOKEN)
        await caller("HELLO", resp, "AUTH", user, password)
        return caller


Test = Callable[[Shard], Awaitable[None]]


def run(folder: Path, test: Test, **options: Any) -> None:
    """Run a test with a shard of its own."""

    async def main() -> None:
        async with Shard(folder, **options) as shard:
            await test(shard)

    asyncio.run(main())


async def in_sync(shard: Shard, primary: str = "redis-a") -> None:
    """Wait until the other nodes replicate a primary without lag."""
    await until(lambda: all(shard.follows(n, primary) for n in NAMES if n != primary))


async def loaded(shard: Shard) -> None:
    """Wait until the first node has loaded its file."""
    await until(lambda: not shard["a"].server.loader.is_loading)


async def fill(client: Caller, *more: str) -> None:
    """Set many keys."""
    words = [word.encode() for word in more]
    sets = (request([b"SET", b"k:%d" % n, b"v" * 100, *words]) for n in range(MANY))
    client.transport.write(b"".join(sets))
    await until(lambda: len(client.buffer) == MANY * len(b"+OK\r\n"))
    client.buffer = b""


def data(shard: Shard, zone: str) -> dict[bytes, Any]:
    """Return all data of a node, in a form that can be compared."""
    store = shard[zone].server.store
    return {
        key: (sorted(value) if isinstance(value, set) else value, store.expiries.get(key))
        for key, value in store.values.items()
    }


def change_something(client: Caller, rng: random.Random) -> None:
    """Send a few changes that would show if they were applied twice."""
    for _ in range(20):
        name = rng.randrange(50)
        match rng.randrange(6):
            case 0:
                client.send("RPUSH", f"list:{name}", rng.randrange(1000))
            case 1:
                client.send("INCR", f"number:{name}")
            case 2:
                client.send("APPEND", f"k:{rng.randrange(MANY)}", "more")
            case 3:
                client.send("DEL", f"list:{name}", f"k:{rng.randrange(MANY)}")
            case 4:
                client.send("HINCRBY", f"hash:{name}", rng.randrange(500), 1)
            case 5:
                client.send("SET", f"new:{rng.randrange(1000)}", "x", "PX", 10**9)
