"""One proxy of an embedded Toxiproxy: its listener, its connections and its toxics."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from cachesim.aio.pipe import pipe
from cachesim.embedded.toxiproxy.chain import AppliedToxic
from cachesim.embedded.toxiproxy.connection import Connection
from cachesim.embedded.toxiproxy.listener import Listener, Ports, canonical, split
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import BOTH, Stream

Factory = Callable[[], asyncio.Protocol]
Connected = tuple[asyncio.Transport, asyncio.Protocol]
Dial = Callable[[Factory, str], Awaitable[Connected]]
"""Connects to an address `host:port`, as `loop.create_connection` does."""


@dataclass(frozen=True)
class ProxySpec:
    """The settings of a proxy.

    Attributes:
        listen: `host:port`; empty for a free port on 127.0.0.1.
        upstream: `host:port`.
    """

    name: str
    upstream: str
    listen: str = ""
    enabled: bool = True


class Proxy:
    """One proxy. Only `Proxies` changes it.

    Attributes:
        toxics: the toxics of each stream, in the order in which data passes them.
    """

    def __init__(
        self,
        spec: ProxySpec,
        loop: asyncio.AbstractEventLoop,
        ports: Ports,
        dial: Dial,
        rng: Random,
    ) -> None:
        self.name, self.listen, self.upstream = spec.name, spec.listen, spec.upstream
        self.toxics: dict[Stream, list[AppliedToxic]] = {stream: [] for stream in BOTH}
        self._loop = loop
        self._ports = ports
        self._dial = dial
        self._rng = rng
        self._listener: Listener | None = None
        self._connections: dict[Connection, None] = {}  # in order, so that draws repeat
        self._passed = 0  # bytes of connections that have ended
        self._tasks: set[asyncio.Task[Connected]] = set()
        # Calls of `connect` that wait for the end of a stall.
        self._hanging: set[asyncio.Future[None]] = set()

    @property
    def enabled(self) -> bool:
        """Whether the proxy listens."""
        return self._listener is not None

    @property
    def connections(self) -> int:
        """The number of the proxy's connections."""
        return len(self._connections)

    @property
    def passed(self) -> int:
        """The bytes that it has handed on, in both directions, over all its connections."""
        return self._passed + sum(it.passed for it in self._connections)

    @property
    def is_stalled(self) -> bool:
        """Whether all data is held in at least one direction, so that no client can connect."""
        return any(applied.stalls for toxics in self.toxics.values() for applied in toxics)

    def toxic(self, name: str) -> AppliedToxic | None:
        """Return the toxic of that name, or None."""
        return next((t for toxics in self.toxics.values() for t in toxics if t.name == name), None)

    def differs(self, spec: ProxySpec) -> bool:
        """Return whether its listen address or its upstream differs from the spec.

        Raises:
            ToxiproxyError: the spec's `listen` is no address; status 500.
        """
        return self.listen != canonical(spec.listen) or self.upstream != spec.upstream

    def start(self) -> None:
        """Start listening. Idempotent.

        Raises:
            ToxiproxyError: it can't listen; status 500.
        """
        if self._listener is None:
            self._listener = self._ports.listen(self.listen, self._accept)
            self.listen = self._listener.address
            self._update_stall()

    def stop(self) -> None:
        """Stop listening, and close all connections. Idempotent."""
        if self._listener is None:
            return
        self._ports.leave(self._listener)
        self._listener = None
        for task in self._tasks:
            task.cancel()
        for connection in tuple(self._connections):
            connection.drop()
            self._forget(connection)
        for waiter in self._hanging:
            if not waiter.done():
                waiter.set_exception(self._refusal())

    def set_toxics(self, stream: Stream, toxics: Sequence[AppliedToxic]) -> None:
        """Replace the toxics of a stream. See `Chain.set` for toxics with the same key."""
        self.toxics[stream] = list(toxics)
        for connection in self._connections:
            connection.set_toxics(*self.toxics.values())
        self._update_stall()

    async def connect(self, factory: Factory) -> Connected:
        """Connect from within the process.

        Raises:
            ConnectionRefusedError: the proxy is disabled, or its upstream refuses.
            OSError: its upstream can't be reached.
        """
        while self.is_stalled and self.enabled:
            waiter = self._loop.create_future()
            self._hanging.add(waiter)
            try:
                await waiter
            finally:
                self._hanging.discard(waiter)
        if not self.enabled:
            raise self._refusal()

        async def join(connection: Connection) -> Connected:
            protocol = factory()
            transport, _ = pipe(self._loop, protocol, connection.client)
            return transport, protocol

        task = self._open(join)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # the proxy was disabled meanwhile
                raise self._refusal() from None
            task.cancel()
            raise

    def _accept(self, sock: socket.socket) -> None:
        async def join(connection: Connection) -> Connected:
            await self._loop.connect_accepted_socket(lambda: connection.client, sock)
            return connection.client.transport, connection.client

        def end(task: asyncio.Task[Connected]) -> None:
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or error:
                # The client sees a close, or a reset if it has sent something.
                sock.close()
            if error and not isinstance(error, OSError):
                self._loop.call_exception_handler(
                    {"message": f"connecting through {self.name} failed", "exception": error}
                )

        self._open(join).add_done_callback(end)

    def _open(self, join: Callable[[Connection], Awaitable[Connected]]) -> asyncio.Task[Connected]:
        task = self._loop.create_task(self._connect(join))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, join: Callable[[Connection], Awaitable[Connected]]) -> Connected:
        """Dial the upstream, then connect the client's side by `join`."""
        connection = Connection(self._loop, self._rng, self._forget)
        try:
            await self._dial(lambda: connection.server, self.upstream)
            connected = await join(connection)
        except BaseException:
            connection.drop()
            raise
        self._connections[connection] = None
        connection.start(*self.toxics.values())
        return connected

    def _forget(self, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._passed += connection.passed

    def _update_stall(self) -> None:
        """Make new connections hang while the proxy is stalled, and let them go on afterwards."""
        if self.is_stalled:
            if self._listener is not None:
                self._listener.hang()
            return
        if self._listener is not None:
            self._listener.resume()
        for waiter in self._hanging:
            if not waiter.done():
                waiter.set_result(None)

    def _refusal(self) -> ConnectionRefusedError:
        return ConnectionRefusedError(f"the proxy {self.name} is disabled")


async def dial_network(
    loop: asyncio.AbstractEventLoop, factory: Factory, address: str
) -> Connected:
    """Connect to an address over the network. With a bound `loop`, it is a `Dial`.

    Raises:
        OSError: the text is no address, or the address can't be reached.
    """
    try:
        host, port = split(address)
        return await loop.create_connection(factory, host or "localhost", int(port))
    except (ToxiproxyError, ValueError, OverflowError) as error:
        raise OSError(f"can't connect to {address}: {error}") from error
