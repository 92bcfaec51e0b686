"""The proxies of an embedded Toxiproxy: creating, changing and deleting them and their toxics.

All proxies belong to one asyncio loop; call them in that loop's thread. Changes do not wait for
data, so they take no time whatever the state of a link. Released data flows in the loop's next
round, so no byte moves between two changes that are made without an `await`.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from cachesim.embedded.toxiproxy.chain import AppliedToxic
from cachesim.embedded.toxiproxy.listener import Ports
from cachesim.embedded.toxiproxy.proxy import (
    Connected,
    Dial,
    Factory,
    Proxy,
    ProxySpec,
    dial_network,
)
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import BOTH, Stream, Toxic


class PopulateError(ToxiproxyError):
    """Not all proxies could be created.

    Attributes:
        made: the proxies that were created or already existed.
    """

    def __init__(self, error: ToxiproxyError, made: Sequence[Proxy]) -> None:
        super().__init__(str(error), error.status)
        self.made = made


class Proxies(Mapping[str, Proxy]):
    """The proxies of one Toxiproxy, by name. Errors have the API's statuses and texts.

    Args:
        loop: the proxies' loop, a selector loop.
        dial: connects to an upstream; over the network by default.
        rng: the source of all random draws. The same seed and the same traffic give the same
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
        """Return the proxy of that name.

        Raises:
            ToxiproxyError: there is none.
        """
        if name not in self._proxies:
            raise ToxiproxyError("proxy not found", 404)
        return self._proxies[name]

    # --- proxies ------------------------------------------------------------------------------

    def create(self, spec: ProxySpec, *, keep_port: bool = False) -> Proxy:
        """Create a proxy.

        Args:
            keep_port: whether to keep the port until `close`. A real Toxiproxy gives up the port of
                a proxy that is disabled, deleted, or made to listen elsewhere.

        Raises:
            ToxiproxyError: the name is taken, or the proxy can't listen. No proxy is created.
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

    def reserve(self) -> str:
        """Keep a free port until `close`, for a proxy to listen on; return its address.

        Raises:
            ToxiproxyError: there is none.
        """
        return self._ports.reserve()

    def give_up(self, address: str) -> None:
        """Keep the port of an address no more, on which no proxy listens."""
        self._ports.give_up(address)

    def populate(self, specs: Sequence[ProxySpec]) -> list[Proxy]:
        """Create proxies; replace those with another listen address or upstream. Keep all others.

        Raises:
            ToxiproxyError: a name or an upstream is missing. Nothing was changed.
            PopulateError: a proxy can't listen. The proxies before it were created.
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
        """Change a proxy. None leaves a setting as it is.

        Raises:
            ToxiproxyError: there is no such proxy; or it can't listen, and is now disabled.
        """
        proxy = self.find(name)
        enable = proxy.enabled if enabled is None else enabled
        spec = ProxySpec(
            name,
            proxy.upstream if upstream is None else upstream,
            proxy.listen if listen is None else listen,
        )
        if proxy.differs(spec):
            proxy.stop()
            proxy.listen, proxy.upstream = spec.listen, spec.upstream
        if enable:
            proxy.start()
        else:
            proxy.stop()
        return proxy

    def delete(self, name: str) -> None:
        """Delete a proxy, and close its connections.

        Raises:
            ToxiproxyError: there is none.
        """
        self.find(name).stop()
        del self._proxies[name]

    def reset(self) -> None:
        """Enable all proxies and remove all toxics.

        Raises:
            ToxiproxyError: a proxy can't listen. All others were reset.
        """
        failed = None
        for proxy in self._proxies.values():
            for stream in BOTH:
                proxy.set_toxics(stream, [])
            try:
                proxy.start()
            except ToxiproxyError as error:
                failed = failed or error
        if failed:
            raise failed

    def close(self) -> None:
        """Delete all proxies."""
        for name in tuple(self._proxies):
            self.delete(name)
        self._ports.close()

    async def connect(self, name: str, factory: Factory) -> Connected:
        """Connect to a proxy from within the process, without a socket.

        On a stalled link the call hangs until the stall ends, as over a network.

        Raises:
            ConnectionRefusedError: there is no such proxy, it is disabled, or its upstream refuses.
            OSError: its upstream can't be reached.
        """
        if name not in self._proxies:
            raise ConnectionRefusedError(f"no proxy {name}")
        return await self._proxies[name].connect(factory)

    def _new(self, spec: ProxySpec) -> Proxy:
        return Proxy(spec, self._loop, self._ports, self._dial, self._rng)

    def _put(self, spec: ProxySpec) -> Proxy:
        there = self._proxies.get(spec.name)
        if there is not None:
            if not there.differs(spec):
                return there
            there.stop()
        proxy = self._new(spec)
        if spec.enabled:
            proxy.start()
        self._proxies[spec.name] = proxy
        return proxy

    # --- toxics -------------------------------------------------------------------------------

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
            toxicity: the share of affected connections, 0 to 1.

        Raises:
            ToxiproxyError: no such proxy or stream, or the toxic's name is taken.
        """
        found = self.find(proxy)
        direction = parse_stream(stream)
        name = name or f"{toxic.type}_{stream}"
        if found.toxic(name) is not None:
            raise ToxiproxyError("toxic already exists", 409)
        applied = AppliedToxic(name, toxic, str(stream), toxicity)
        found.set_toxics(direction, [*found.toxics[direction], applied])
        return applied

    def update_toxic(
        self, proxy: str, name: str, toxic: Toxic | None = None, toxicity: float | None = None
    ) -> AppliedToxic:
        """Change a toxic's attributes or toxicity; None leaves them as they are.

        Connections stay open, and the toxic keeps the data that it holds.

        Raises:
            ToxiproxyError: no such proxy or toxic.
        """
        found, before = self._find_toxic(proxy, name)
        applied = replace(
            before,
            toxic=before.toxic if toxic is None else toxic,
            toxicity=before.toxicity if toxicity is None else toxicity,
        )
        direction = parse_stream(applied.stream)
        toxics = [applied if t is before else t for t in found.toxics[direction]]
        found.set_toxics(direction, toxics)
        return applied

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic, and release its held data. Only a `timeout` closes connections then.

        Raises:
            ToxiproxyError: no such proxy or toxic.
        """
        found, before = self._find_toxic(proxy, name)
        direction = parse_stream(before.stream)
        found.set_toxics(direction, [t for t in found.toxics[direction] if t is not before])

    def _find_toxic(self, proxy: str, name: str) -> tuple[Proxy, AppliedToxic]:
        found = self.find(proxy)
        applied = found.toxic(name)
        if applied is None:
            raise ToxiproxyError("toxic not found", 404)
        return found, applied


def parse_stream(text: str) -> Stream:
    """Return the stream of a name in upper or lower case.

    Raises:
        ToxiproxyError: there is no such stream.
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
