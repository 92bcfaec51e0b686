"""The links as a whole: what is wanted of each, and bringing Toxiproxy's servers to it.

Faults overlap, so nothing is added or removed directly. Each fault holds what it wants of a link;
a link has what at least one holder wants, and a release takes away only what no one else holds.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cachesim.errors import FaultError, ToxiproxyError, ToxiproxyTimeout
from cachesim.events import EventLog
from cachesim.proxy.client import ToxiproxyClient
from cachesim.topology import Link, Topology
from cachesim.toxics import BOTH, Bandwidth, SlowClose, Stream, Toxic

_FOR_EVER_MS = 10**9
_STALLS = "stall"
_KEEPS_OPEN = "open"


@dataclass
class _Lane:
    """One stream of one link. Its toxics are in the order of Toxiproxy's chain."""

    link: Link
    stream: Stream
    wanted: dict[str, tuple[Toxic, float]] = field(default_factory=dict)
    holders: dict[str, set[Hashable]] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)

    def name(self, kind: str) -> str:
        return f"{kind}_{self.stream}"

    def hold(self, holder: Hashable, name: str, toxic: Toxic, toxicity: float = 1.0) -> None:
        self.wanted[name] = toxic, toxicity
        self.holders.setdefault(name, set()).add(holder)

    def release(self, holder: Hashable) -> None:
        for name, holders in list(self.holders.items()):
            holders.discard(holder)
            if not holders:
                del self.holders[name], self.wanted[name]

    def changes(self) -> tuple[list[str], list[str]]:
        """The names of the toxics to remove and those to add, each in the right order.

        While a stream is stalled, nothing else in its chain is touched: nothing flows, so nobody
        could tell, but Toxiproxy would let go of the data that it holds back (on an addition) or
        block its API and lose data (on a removal). The stall is the last toxic to come and the
        first to go.
        """
        stall = self.name(_STALLS)
        if stall in self.present and stall in self.wanted:
            return [], []
        remove = [name for name in reversed(self.present) if name not in self.wanted]
        add = [name for name in self.wanted if name not in self.present]
        add.sort(key=lambda name: (name == stall, name == self.name(_KEEPS_OPEN)))
        return remove, add


class Links(Mapping[str, Link]):
    """All links of a topology, by name. Thread-safe.

    Args:
        servers: the Toxiproxy of each zone.
        is_paused: whether any node is paused, so that a link may be stuck.
    """

    def __init__(
        self,
        topology: Topology,
        servers: Mapping[str, ToxiproxyClient],
        events: EventLog,
        is_paused: Callable[[], bool],
    ) -> None:
        self._links = {link.name: link for link in topology.links}
        self._servers = servers
        self._events = events
        self._is_paused = is_paused
        self._lanes = {link: tuple(_Lane(link, s) for s in BOTH) for link in topology.links}
        self._refused: dict[Link, set[Hashable]] = {link: set() for link in topology.links}
        self._disabled: set[Link] = set()
        # As the servers had them at the start, to make a proxy anew.
        self._specs = {
            name: {key: proxy[key] for key in ("name", "listen", "upstream")}
            for server in servers.values()
            for name, proxy in server.proxies().items()
        }
        if missing := self._links.keys() - self._specs.keys():
            raise FaultError(f"Toxiproxy lacks the proxies {', '.join(sorted(missing))}")
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="cachesim-links")
        self._count = 0

    def __getitem__(self, name: str) -> Link:
        try:
            return self._links[name]
        except KeyError:
            raise KeyError(f"no link {name!r}: there are {', '.join(self._links)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)

    def server(self, link: Link) -> ToxiproxyClient:
        """The Toxiproxy that carries a link."""
        return self._servers[link.home]

    def hold_toxic(
        self,
        holder: Hashable,
        links: Collection[Link],
        toxic: Toxic,
        streams: Iterable[Stream],
        toxicity: float = 1.0,
    ) -> None:
        """Add a toxic of the holder's own to links.

        Raises:
            FaultError: it could not be added; nothing of it remains.
        """
        with self._lock:
            self._count += 1
            for link in links:
                for stream in streams:
                    lane = self._lane(link, stream)
                    name = f"{lane.name(toxic.type)}_{self._count}"
                    lane.hold(holder, name, toxic, toxicity)
            self._apply(holder, links)

    def hold_stall(self, holder: Hashable, streams: Mapping[Link, Iterable[Stream]]) -> None:
        """Let packets vanish: data is held back, and a close is not told to the other end either.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            for link, which in streams.items():
                for stream in which:
                    lane = self._lane(link, stream)
                    lane.hold(holder, lane.name(_KEEPS_OPEN), SlowClose(_FOR_EVER_MS))
                    lane.hold(holder, lane.name(_STALLS), Bandwidth(0))
            self._apply(holder, streams)

    def hold_refused(self, holder: Hashable, links: Collection[Link]) -> None:
        """Close the connections of links and refuse new ones.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            for link in links:
                self._refused[link].add(holder)
            self._apply(holder, links)

    def release(self, holder: Hashable) -> None:
        """Let go of all that a holder holds. Repeating it is harmless.

        Raises:
            FaultError: Toxiproxy did not do it.
        """
        with self._lock:
            held = [
                link
                for link in self._lanes
                if holder in self._refused[link]
                or any(holder in h for lane in self._lanes[link] for h in lane.holders.values())
            ]
            self._let_go(holder)
            self._bring_about(held)

    def settle(self) -> None:
        """Catch up on what could not be done while a node was paused."""
        with self._lock:
            self._bring_about(self._lanes)

    def reset(self) -> None:
        """Release all, and take away what others have added to the servers by hand too.

        Raises:
            FaultError: a Toxiproxy did not do it.
        """
        with self._lock:
            for lane in self._all_lanes():
                lane.wanted.clear()
                lane.holders.clear()
            for holders in self._refused.values():
                holders.clear()
            self._bring_about(self._lanes)
            try:
                list(self._pool.map(self._reset_server, self._servers))
            except ToxiproxyError as error:
                raise FaultError(f"the links could not be reset: {error}") from error

    def close(self) -> None:
        """Close the connections to the servers."""
        self._pool.shutdown()
        for server in self._servers.values():
            server.close()

    def _lane(self, link: Link, stream: Stream) -> _Lane:
        return self._lanes[link][BOTH.index(stream)]

    def _all_lanes(self) -> Iterator[_Lane]:
        return (lane for lanes in self._lanes.values() for lane in lanes)

    def _let_go(self, holder: Hashable) -> None:
        for link, holders in self._refused.items():
            holders.discard(holder)
            for lane in self._lanes[link]:
                lane.release(holder)

    def _apply(self, holder: Hashable, links: Iterable[Link]) -> None:
        try:
            self._bring_about(links)
        except FaultError:
            self._let_go(holder)
            self._bring_about(links)
            raise

    def _bring_about(self, links: Iterable[Link]) -> None:
        """Make links what is wanted of them, side by side."""
        errors = [f.exception() for f in [self._pool.submit(self._change, k) for k in links]]
        if error := next(filter(None, errors), None):
            raise FaultError(f"a link could not be changed: {error}") from error

    def _change(self, link: Link) -> None:
        try:
            for lane in self._lanes[link]:
                self._change_toxics(lane)
            refused = bool(self._refused[link])
            if refused != (link in self._disabled):
                self.server(link).set_enabled(link.name, not refused)
                (self._disabled.add if refused else self._disabled.discard)(link)
        except ToxiproxyTimeout:
            if not self._is_paused():
                self._rebuild(link)
                return
            # A toxic can't be changed while its receiver is stuck: `settle` does it later. If the
            # server does it first, 404 and 409 will say so.
            self._events.record("postponed", link, "its receiver is stuck: until it is resumed")

    def _change_toxics(self, lane: _Lane) -> None:
        server, proxy = self.server(lane.link), lane.link.name
        while any(changes := lane.changes()):
            remove, add = changes
            for name in remove:
                with _ignored(404):
                    server.remove_toxic(proxy, name)
                lane.present.remove(name)
            for name in add:
                toxic, toxicity = lane.wanted[name]
                with _ignored(409):
                    server.add_toxic(proxy, name, toxic, lane.stream, toxicity)
                lane.present.append(name)

    def _rebuild(self, link: Link) -> None:
        """Make a proxy anew.

        When a stalled connection's receiver has gone away meanwhile, a real Toxiproxy takes 5 s
        for every chunk that it held back for it, and answers nothing about that proxy until then.
        """
        server, refused = self.server(link), bool(self._refused[link])
        with _ignored(404):
            server.delete(link.name)
        server.populate([{**self._specs[link.name], "enabled": not refused}])
        (self._disabled.add if refused else self._disabled.discard)(link)
        for lane in self._lanes[link]:
            lane.present.clear()
            self._change_toxics(lane)
        self._events.record("rebuilt", link, "it held data for a receiver that was gone")

    def _reset_server(self, zone: str) -> None:
        try:
            self._servers[zone].reset()
        except ToxiproxyTimeout:
            for link in self._links.values():
                if link.home == zone:
                    self._rebuild(link)


@contextlib.contextmanager
def _ignored(status: int) -> Iterator[None]:
    """Take one status for success: what was to be done is done already."""
    try:
        yield
    except ToxiproxyError as error:
        if error.status != status:
            raise
