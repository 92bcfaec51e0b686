"""Toxiproxy in this process: proxies and their toxics, as plain methods.

All of it belongs to one asyncio loop, and is called in that loop's thread. Nothing here waits for
anybody's data, so whatever a link's state is, a change takes no time; what comes of it flows when
the loop goes round.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from cachesim.aio.pipe import pipe
from cachesim.embedded.toxiproxy.chain import AppliedToxic
from cachesim.embedded.toxiproxy.connection import Connection
from cachesim.embedded.toxiproxy.listener import Listener, Ports, canonical, split
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import BOTH, Stream, Toxic

Factory = Callable[[], asyncio.Protocol]
Connected = tuple[asyncio.Transport, asyncio.Protocol]
Dial = Callable[[Factory, str], Awaitable[Connected]]
"""Connects to an address, as `loop.create_connection` does, but with host and port as one text."""


@dataclass(frozen=True)
class ProxySpec:
    """What a proxy is made from.

    Attributes:
        listen: `host:port`; empty for a free port on 127.0.0.1.
        upstream: `host:port`.
    """

    name: str
    upstream: str
    listen: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class SetToxic:
    """Add a toxic, give it other attributes, or remove it (`toxic` is None). Repeatable."""

    proxy: str
    name: str
    stream: Stream
    toxic: Toxic | None
    toxicity: float = 1.0


@dataclass(frozen=True)
class SetEnabled:
    """Enable or disable a proxy. Repeatable."""

    proxy: str
    enabled: bool


Change = SetToxic | SetEnabled


class PopulateError(ToxiproxyError):
    """Not all proxies could be made.

    Attributes:
        made: those that were.
    """

    def __init__(self, error: ToxiproxyError, made: Sequence["Proxy"]) -> None:
        super().__init__(str(error), error.status)
        self.made = made


class Proxy:
    """One proxy. Changed by way of `Proxies`.

    Attributes:
        toxics: those of either stream, in the order in which data meets them.
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
        self._connections: dict[Connection, None] = {}  # in order, for the sake of the seed
        self._tasks: set[asyncio.Task[Connected]] = set()
        # Those in this process who want to connect to a stalled link.
        self._hanging: set[asyncio.Future[None]] = set()

    @property
    def enabled(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def connections(self) -> int:
        """How many it has."""
        return len(self._connections)

    @property
    def is_stalled(self) -> bool:
        """Whether nothing gets through in at least one direction, so that none can connect."""
        return any(applied.stalls for toxics in self.toxics.values() for applied in toxics)

    def toxic(self, name: str) -> AppliedToxic | None:
        """The toxic of that name, if there is one."""
        return next((t for toxics in self.toxics.values() for t in toxics if t.name == name), None)

    def listening(self) -> Listener:
        """A listener on its address, not yet its own."""
        return self._ports.listen(self.listen, self._accept)

    def start(self, listener: Listener | None = None) -> None:
        """Listen.

        Raises:
            ToxiproxyError: it can't, with status 500.
        """
        if self._listener is None:
            self._listener = listener or self.listening()
            self.listen = self._listener.address
            self._let_connect()

    def stop(self) -> None:
        """Listen no more, and close all connections."""
        if self._listener is None:
            return
        self._ports.leave(self._listener)
        self._listener = None
        for task in self._tasks:
            task.cancel()
        for connection in tuple(self._connections):
            connection.drop()
        self._connections.clear()
        for waiter in self._hanging:
            if not waiter.done():
                waiter.set_exception(self._refusal())

    def change_toxics(self, stream: Stream, toxics: Sequence[AppliedToxic]) -> None:
        """Replace the toxics of a stream; those with the same key are the same."""
        self.toxics[stream] = list(toxics)
        for connection in self._connections:
            connection.set_toxics(*self.toxics.values())
        self._let_connect()

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
                # The client sees it closed, or reset if it has sent something.
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
        """Dial the upstream, then let the client in."""
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
        self._connections.pop(connection, None)

    def _let_connect(self) -> None:
        """Let new connections hang while nothing gets through."""
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


class Proxies(Mapping[str, Proxy]):
    """The proxies of one Toxiproxy, by name. Errors have the status and the text of its API.

    Args:
        loop: what everything runs on, a selector loop.
        dial: connects to an upstream; over the network by default.
        rng: what everything random is drawn from: the same seed and the same traffic, the same
            draws.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dial: Dial | None = None,
        rng: Random | None = None,
    ) -> None:
        self._loop = loop
        self._ports = Ports(loop)
        self._dial = dial or partial(dial_network, loop)
        self._rng = rng or Random()
        self._proxies: dict[str, Proxy] = {}

    def __getitem__(self, name: str) -> Proxy:
        return self._proxies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._proxies)

    def __len__(self) -> int:
        return len(self._proxies)

    def find(self, name: str) -> Proxy:
        """The proxy of that name.

        Raises:
            ToxiproxyError: there is none.
        """
        if name not in self._proxies:
            raise ToxiproxyError("proxy not found", 404)
        return self._proxies[name]

    def create(self, spec: ProxySpec, *, keep_port: bool = False) -> Proxy:
        """Make a proxy.

        Args:
            keep_port: whether nobody else may have its port until `close`. A real Toxiproxy gives
                up the port of a proxy that is disabled, deleted, or told to listen elsewhere.

        Raises:
            ToxiproxyError: there is one of that name, or it can't listen; then there is none.
        """
        _check(spec)
        if spec.name in self._proxies:
            raise ToxiproxyError("proxy already exists", 409)
        proxy = self._new(spec)
        if spec.enabled:
            proxy.start()
            if keep_port:
                self._ports.keep(proxy.listen)
        self._proxies[spec.name] = proxy
        return proxy

    def populate(self, specs: Sequence[ProxySpec]) -> list[Proxy]:
        """Make proxies, or replace those that listen or lead elsewhere; leave the others alone.

        Raises:
            ToxiproxyError: a name or an upstream is missing. Nothing is done.
            PopulateError: one can't listen. Those before it are there.
        """
        for number, spec in enumerate(specs, 1):
            _check(spec, f" at proxy {number}")
        made: list[Proxy] = []
        for spec in specs:
            try:
                made.append(self._put(spec))
            except ToxiproxyError as error:
                raise PopulateError(error, made) from error
        return made

    def update(
        self,
        name: str,
        *,
        listen: str | None = None,
        upstream: str | None = None,
        enabled: bool | None = None,
    ) -> Proxy:
        """Change a proxy. What is None stays.

        Raises:
            ToxiproxyError: there is none, or it can't listen there; then it is disabled.
        """
        proxy = self.find(name)
        wanted = proxy.enabled if enabled is None else enabled
        spec = ProxySpec(
            name,
            proxy.upstream if upstream is None else upstream,
            proxy.listen if listen is None else listen,
        )
        if _differs(proxy, spec):
            proxy.stop()
            proxy.listen, proxy.upstream = spec.listen, spec.upstream
        if wanted:
            proxy.start()
        else:
            proxy.stop()
        return proxy

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Let a proxy listen, or close its connections and refuse new ones.

        Raises:
            ToxiproxyError: there is none, or it can't listen.
        """
        self.update(name, enabled=enabled)

    def delete(self, name: str) -> None:
        """Remove a proxy and close its connections.

        Raises:
            ToxiproxyError: there is none.
        """
        self.find(name).stop()
        del self._proxies[name]

    def add_toxic(
        self,
        proxy: str,
        name: str,
        toxic: Toxic,
        stream: Stream | str = Stream.DOWNSTREAM,
        toxicity: float = 1.0,
    ) -> AppliedToxic:
        """Add a toxic at the end of a stream's chain. Connections stay.

        Args:
            name: `<type>_<stream>` if empty.
            stream: in upper or lower case.
            toxicity: the share of connections it works on, 0 to 1.

        Raises:
            ToxiproxyError: no such proxy or stream, or there is a toxic of that name.
        """
        carrier = self.find(proxy)
        direction = parse_stream(stream)
        name = name or f"{toxic.type}_{stream}"
        if carrier.toxic(name) is not None:
            raise ToxiproxyError("toxic already exists", 409)
        applied = AppliedToxic(name, toxic, str(stream), toxicity)
        carrier.change_toxics(direction, [*carrier.toxics[direction], applied])
        return applied

    def update_toxic(
        self, proxy: str, name: str, toxic: Toxic | None = None, toxicity: float | None = None
    ) -> AppliedToxic:
        """Give a toxic other attributes. Connections and what it holds stay; None stays too.

        Raises:
            ToxiproxyError: no such proxy or toxic.
        """
        carrier, before = self._find_toxic(proxy, name)
        applied = replace(
            before,
            toxic=before.toxic if toxic is None else toxic,
            toxicity=before.toxicity if toxicity is None else toxicity,
        )
        direction = parse_stream(applied.stream)
        toxics = (applied if t is before else t for t in carrier.toxics[direction])
        carrier.change_toxics(direction, list(toxics))
        return applied

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic; what it held goes on. Connections stay, but for a `timeout`'s.

        Raises:
            ToxiproxyError: no such proxy or toxic.
        """
        carrier, before = self._find_toxic(proxy, name)
        direction = parse_stream(before.stream)
        carrier.change_toxics(direction, [t for t in carrier.toxics[direction] if t is not before])

    def reset(self) -> None:
        """Enable all proxies and remove all toxics.

        Raises:
            ToxiproxyError: a proxy can't listen. All else is done.
        """
        failed = None
        for proxy in self._proxies.values():
            for stream in BOTH:
                proxy.change_toxics(stream, [])
            try:
                proxy.start()
            except ToxiproxyError as error:
                failed = failed or error
        if failed:
            raise failed

    def apply(self, changes: Sequence[Change]) -> None:
        """Change several proxies at once: no byte moves between the first change and the last.

        Raises:
            ToxiproxyError: one can't be done. Then none is.
        """
        enabled = {c.proxy: c.enabled for c in changes if isinstance(c, SetEnabled)}
        listeners: dict[str, Listener] = {}
        with contextlib.ExitStack() as undo:
            for change in changes:
                self.find(change.proxy)
            for name, wanted in enabled.items():
                if wanted and not self._proxies[name].enabled:
                    listeners[name] = self._proxies[name].listening()
                    undo.callback(self._ports.leave, listeners[name])
            undo.pop_all()
        for change in changes:
            if isinstance(change, SetToxic):
                self._set_toxic(change)
        for name, wanted in enabled.items():
            if wanted:
                self._proxies[name].start(listeners.get(name))
            else:
                self._proxies[name].stop()

    async def connect(self, name: str, factory: Factory) -> Connected:
        """Connect to a proxy from within the process, without a socket.

        On a stalled link it hangs until the stall ends, as over a network.

        Raises:
            ConnectionRefusedError: there is no such proxy, it is disabled, or its upstream refuses.
            OSError: its upstream can't be reached.
        """
        if name not in self._proxies:
            raise ConnectionRefusedError(f"no proxy {name}")
        return await self._proxies[name].connect(factory)

    def close(self) -> None:
        """Remove all proxies."""
        for name in tuple(self._proxies):
            self.delete(name)
        self._ports.close()

    def _new(self, spec: ProxySpec) -> Proxy:
        return Proxy(spec, self._loop, self._ports, self._dial, self._rng)

    def _put(self, spec: ProxySpec) -> Proxy:
        there = self._proxies.get(spec.name)
        if there is not None:
            if not _differs(there, spec):
                return there
            there.stop()
        proxy = self._new(spec)
        if spec.enabled:
            proxy.start()
        self._proxies[spec.name] = proxy
        return proxy

    def _find_toxic(self, proxy: str, name: str) -> tuple[Proxy, AppliedToxic]:
        carrier = self.find(proxy)
        applied = carrier.toxic(name)
        if applied is None:
            raise ToxiproxyError("toxic not found", 404)
        return carrier, applied

    def _set_toxic(self, change: SetToxic) -> None:
        before = self._proxies[change.proxy].toxic(change.name)
        if before is not None and (
            change.toxic is None
            or type(change.toxic) is not type(before.toxic)
            or change.stream != parse_stream(before.stream)
        ):
            self.remove_toxic(change.proxy, change.name)
            before = None
        if change.toxic is None:
            return
        if before is None:
            self.add_toxic(change.proxy, change.name, change.toxic, change.stream, change.toxicity)
        else:
            self.update_toxic(change.proxy, change.name, change.toxic, change.toxicity)


async def dial_network(
    loop: asyncio.AbstractEventLoop, factory: Factory, address: str
) -> Connected:
    """Connect to an address over the network. A `Dial`, but for the loop."""
    try:
        host, port = split(address)
        return await loop.create_connection(factory, host or "localhost", int(port))
    except (ToxiproxyError, ValueError, OverflowError) as error:
        raise OSError(f"can't connect to {address}: {error}") from error


def parse_stream(text: str) -> Stream:
    """The stream that a text names, in upper or lower case.

    Raises:
        ToxiproxyError: it names none.
    """
    try:
        return Stream(text.lower())
    except ValueError:
        message = "stream was invalid, can be either upstream or downstream"
        raise ToxiproxyError(message, 400) from None


def _check(spec: ProxySpec, where: str = "") -> None:
    for field in ("name", "upstream"):
        if not getattr(spec, field):
            raise ToxiproxyError(f"missing required field: {field}{where}", 400)


def _differs(proxy: Proxy, spec: ProxySpec) -> bool:
    return proxy.listen != canonical(spec.listen) or proxy.upstream != spec.upstream
