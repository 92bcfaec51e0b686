"""Handles on the links of a running topology."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cachesim.errors import UnknownName
from cachesim.faults.catalogue import unknown
from cachesim.runs.calls import Call, LinkStatus
from cachesim.simulator.faults import Fault
from cachesim.simulator.means import Handle, Means
from cachesim.topology import CLIENT, Endpoint, Link
from cachesim.toxiproxy.toxics import Stream, Toxic


class LinkHandle(Handle):
    """One link, which is a proxy of a zone's Toxiproxy."""

    def __init__(self, link: Link, means: Means) -> None:
        super().__init__(means)
        self.link = link

    @property
    def name(self) -> str:
        """The proxy's name."""
        return self.link.name

    @property
    def listen(self) -> Endpoint:
        """The address it listens on; in containers, inside the zone's network."""
        return Endpoint.parse(self._status()["listen"])

    @property
    def enabled(self) -> bool:
        """Whether it accepts connections."""
        return self._status()["enabled"]

    @property
    def toxics(self) -> list[dict[str, Any]]:
        """Its toxics as Toxiproxy's API returns them, including those added by hand."""
        return self._status()["toxics"]

    def latency_toxic(self, ms: int, jitter: int = 0) -> Fault:
        """Add `ms` ± `jitter` milliseconds to the round trip."""
        return self._faults.latency(self.link, ms, jitter)

    def toxic(self, toxic: Toxic, stream: Stream = Stream.DOWNSTREAM) -> Fault:
        """Add any toxic."""
        return self._faults.toxic(self.link, toxic, [stream])

    def blackhole(self) -> Fault:
        """Hold all data back: connections hang; none is refused or closed."""
        return self._faults.blackhole(self.link)

    def refuse(self) -> Fault:
        """Close its connections and refuse new ones."""
        return self._faults.refuse(self.link)

    def _status(self) -> LinkStatus:
        status: LinkStatus = self._connection.call(Call.LINK, link=self.name)
        return status

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class LinkHandles(Mapping[tuple[str, str, str], LinkHandle]):
    """All links by (source, target, service), such as `("client", "redis-a", "redis")`.

    The service defaults to the target's: `("client", "redis-a")` works too. So does the name:
    `"client-to-redis-a"`.
    """

    def __init__(self, handles: list[LinkHandle]) -> None:
        self._handles = {(h.link.source, h.link.target, str(h.link.service)): h for h in handles}
        self._names = {h.name: h for h in handles}
        self._services = {
            h.link.target: str(h.link.service) for h in handles if h.link.source == CLIENT
        }

    def __getitem__(self, key: tuple[str, ...] | str) -> LinkHandle:
        if isinstance(key, str):
            if key not in self._names:
                raise UnknownName(unknown("link", key, self._names))
            return self._names[key]
        try:
            source, target, *service = key
            return self._handles[source, target, service[0] if service else self._services[target]]
        except (KeyError, TypeError, ValueError):
            known = ", ".join(map(str, self._handles))
            raise UnknownName(f"no link {key!r}: there are {known}") from None

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)

    def where(self, condition: Callable[[Link], bool]) -> list[Link]:
        """Return the links for which a condition holds, for faults that take links."""
        return [handle.link for handle in self.values() if condition(handle.link)]
