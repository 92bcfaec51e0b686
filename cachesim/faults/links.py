"""The links as a whole: what is wanted of each, and bringing Toxiproxy's servers to it.

Faults overlap, so nothing is added or removed directly. Each fault holds what it wants of a link;
a link has what at least one holder wants, and a release takes away only what no one else holds.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from cachesim.errors import CachesimError, FaultError, ToxiproxyError, ToxiproxyTimeout
from cachesim.events import EventLog
from cachesim.topology import Link, Service, Topology
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import BOTH, Latency, Stream, Toxic

_Item = TypeVar("_Item")

_STALL = "stall"
_FOR_EVER_MS = 10**9
_FLOW_OFF = 0.03  # seconds


@dataclass
class _Slot:
    """A toxic in Toxiproxy's chain, and what it is set to."""

    name: str
    toxic: Toxic
    toxicity: float


@dataclass
class _Lane:
    """One stream of one link.

    Attributes:
        wanted: what is wanted of it, and who holds it there, by key.
        used: the slots that bring that about, by key.
        idle: slots that let everything through.
        doubtful: slots of which nobody knows what they do, or whether they are there, as the change
            failed that was to bring them in.
    """

    link: Link
    stream: Stream
    wanted: dict[Hashable, tuple[Toxic, float]] = field(default_factory=dict)
    holders: dict[Hashable, set[Hashable]] = field(default_factory=dict)
    used: dict[Hashable, _Slot] = field(default_factory=dict)
    idle: list[_Slot] = field(default_factory=list)
    doubtful: list[_Slot] = field(default_factory=list)
    count: int = 0

    def hold(self, holder: Hashable, key: Hashable, toxic: Toxic, toxicity: float = 1.0) -> None:
        self.wanted[key] = toxic, toxicity
        self.holders.setdefault(key, set()).add(holder)

    def release(self, holder: Hashable) -> None:
        for key, holders in list(self.holders.items()):
            holders.discard(holder)
            if not holders:
                del self.holders[key], self.wanted[key]

    @property
    def is_stalled(self) -> bool:
        return _STALL in self.used

    @property
    def is_settled(self) -> bool:
        return self.wanted.keys() == self.used.keys() and not self.doubtful

    def forget(self) -> None:
        """The proxy is a new one: there are no toxics."""
        for slots in (self.used, self.idle, self.doubtful):
            slots.clear()

    def unwanted(self) -> list[Hashable]:
        """What to take away, the stall first."""
        return sorted(self.used.keys() - self.wanted.keys(), key=lambda key: key != _STALL)

    def missing(self) -> list[Hashable]:
        """What to bring in, the stall last."""
        missing = [key for key in self.wanted if key not in self.used]
        return sorted(missing, key=lambda key: key == _STALL)

    def idle_slot(self, toxic: Toxic, toxicity: float) -> _Slot | None:
        """A slot that can become that toxic."""
        for slot in self.idle:
            if type(slot.toxic) is type(toxic) and slot.toxicity == toxicity:
                return slot
        return None

    def new_slot(self, toxic: Toxic, toxicity: float) -> _Slot:
        self.count += 1
        return _Slot(f"{toxic.type}_{self.stream}_{self.count}", toxic, toxicity)


class Links(Mapping[str, Link]):
    """All links of a topology, by name. Thread-safe.

    Args:
        servers: the Toxiproxy of each zone.
        is_frozen: whether a node's process stands still, so that its links may be stuck.
        renew: gives a zone a new Toxiproxy with the proxies that it had at the start, for one that
            stands still.
    """

    def __init__(
        self,
        topology: Topology,
        servers: Mapping[str, ToxiproxyClient],
        events: EventLog,
        is_frozen: Callable[[str], bool],
        renew: Callable[[str], None],
    ) -> None:
        self._links = {link.name: link for link in topology.links}
        self._servers = servers
        self._events = events
        self._is_frozen = is_frozen
        self._renew = renew
        self._lanes = {link: tuple(_Lane(link, s) for s in BOTH) for link in topology.links}
        self._refused: dict[Link, set[Hashable]] = {link: set() for link in topology.links}
        self._disabled: set[Link] = set()
        self._postponed: set[Link] = set()
        # Links whose release failed, until it is repeated.
        self._owed: dict[Hashable, set[Link]] = {}
        # Zones whose Toxiproxy stands still for good.
        self._lost: set[str] = set()
        # As the servers had them at the start, to make a proxy anew.
        self._specs = {
            name: {key: proxy[key] for key in ("name", "listen", "upstream")}
            for zone in servers
            for name, proxy in self._found(zone).items()
        }
        if missing := self._links.keys() - self._specs.keys():
            raise FaultError(f"Toxiproxy lacks the proxies {', '.join(sorted(missing))}")
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="cachesim-links")

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
            key = object()
            for link in links:
                for stream in streams:
                    self._lane(link, stream).hold(holder, key, toxic, toxicity)
            self._apply(holder, links)

    def hold_stall(self, holder: Hashable, streams: Mapping[Link, Iterable[Stream]]) -> None:
        """Let packets vanish: connections stay, what is sent is held back until the release.

        A latency without an end does it. Unlike a bandwidth of 0, it can be lifted by setting it to
        0, which lets Toxiproxy's API go at once.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            for link, which in streams.items():
                for stream in which:
                    self._lane(link, stream).hold(holder, _STALL, Latency(_FOR_EVER_MS))
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
            owed = self._owed.pop(holder, set()) | self._let_go(holder)
            try:
                self._bring_about(owed)
            except FaultError:
                self._owed[holder] = owed
                raise

    def settle(self) -> None:
        """Catch up on what was not done while a node stood still."""
        with self._lock:
            self._bring_about(tuple(self._postponed))

    def reset(self) -> None:
        """Release all, and undo what others have done to the servers by hand too.

        Raises:
            FaultError: a Toxiproxy did not do it.
        """
        with self._lock:
            for lane in self._all_lanes():
                lane.wanted.clear()
                lane.holders.clear()
            for holders in self._refused.values():
                holders.clear()
            self._owed.clear()
            self._bring_about(self._lanes)
            error = self._side_by_side(self._tidy, self._servers)
            if error and self._lost:
                self._replace_lost()
                error = self._side_by_side(self._tidy, self._servers)
            if error:
                raise FaultError(f"the links could not be reset: {error}") from error

    def toxics(self, link: Link) -> list[dict[str, Any]]:
        """What Toxiproxy says of a link's toxics, without those that let everything through."""
        with self._lock:
            idle = {slot.name for lane in self._lanes[link] for slot in lane.idle}
            toxics = self.server(link).proxy(link.name)["toxics"]
            return [toxic for toxic in toxics if toxic["name"] not in idle]

    def close(self) -> None:
        """Close the connections to the servers."""
        self._pool.shutdown()
        for server in self._servers.values():
            server.close()

    def _lane(self, link: Link, stream: Stream) -> _Lane:
        return self._lanes[link][BOTH.index(stream)]

    def _all_lanes(self) -> Iterator[_Lane]:
        return (lane for lanes in self._lanes.values() for lane in lanes)

    def _let_go(self, holder: Hashable) -> set[Link]:
        """Forget what a holder wants.

        Returns:
            The links it wanted something of.
        """
        held = set()
        for link, holders in self._refused.items():
            lanes = self._lanes[link]
            if holder in holders or any(holder in h for k in lanes for h in k.holders.values()):
                held.add(link)
            holders.discard(holder)
            for lane in lanes:
                lane.release(holder)
        return held

    def _apply(self, holder: Hashable, links: Collection[Link]) -> None:
        try:
            self._bring_about(links)
        except FaultError:
            self._owed[holder] = self._let_go(holder)
            with contextlib.suppress(FaultError):  # the first error says more
                self._bring_about(links)
                del self._owed[holder]
            raise

    def _bring_about(self, links: Iterable[Link]) -> None:
        """Make links what is wanted of them, side by side."""
        differing = [k for k in links if self._differs(k) or k in self._postponed]
        error = self._side_by_side(self._change, differing)
        if error and self._lost:
            there_again = [k for k in self._replace_lost() if self._differs(k)]
            error = self._side_by_side(self._change, {*differing, *there_again})
        if error:
            raise FaultError(f"a link could not be changed: {error}") from error

    def _found(self, zone: str) -> dict[str, dict[str, Any]]:
        """A zone's proxies, before anything is known of them."""
        try:
            return self._servers[zone].proxies()
        except ToxiproxyTimeout:
            # Whoever had the topology before has left it like that.
            self._replace_server(zone)
            return self._servers[zone].proxies()

    def _replace_server(self, zone: str) -> None:
        self._events.record(
            "replaced",
            f"az-{zone}",
            "its Toxiproxy stands still, as a receiver on one of its links does not read: "
            "its connections are closed and its nodes start again",
        )
        try:
            self._renew(zone)
        except CachesimError as error:
            raise FaultError(
                f"the Toxiproxy of az-{zone} stands still and could not be replaced: {error}. "
                "Take the topology down, and start it again."
            ) from error

    def _replace_lost(self) -> set[Link]:
        """Replace the Toxiproxies that stand still; gives their links."""
        renewed = set()
        for zone in sorted(self._lost):
            self._replace_server(zone)
            for link in self._at_home(zone):
                self._forget(link)
                renewed.add(link)
            self._lost.discard(zone)
        return renewed

    def _at_home(self, zone: str) -> list[Link]:
        return [link for link in self._links.values() if link.home == zone]

    def _forget(self, link: Link) -> None:
        """A proxy is a new one."""
        for lane in self._lanes[link]:
            lane.forget()
        self._disabled.discard(link)

    def _side_by_side(
        self, act: Callable[[_Item], None], items: Iterable[_Item]
    ) -> BaseException | None:
        """Do the same to several links or servers; the first error."""
        todo = list(items)
        any_server = next(iter(self._servers.values()))
        errors: Sequence[BaseException | None] | None
        errors = any_server.at_once([partial(act, item) for item in todo])
        if errors is None:
            steps = [self._pool.submit(act, item) for item in todo]
            errors = [step.exception() for step in steps]
        return next(filter(None, errors), None)

    def _differs(self, link: Link) -> bool:
        settled = all(lane.is_settled for lane in self._lanes[link])
        return not settled or bool(self._refused[link]) != (link in self._disabled)

    def _change(self, link: Link) -> None:
        try:
            self._try_to_change(link)
        except ToxiproxyTimeout:
            self._save(link)
            self._try_to_change(link)

    def _save(self, link: Link) -> None:
        """Make a proxy anew if it stands still.

        A change of a toxic waits, in a real Toxiproxy 2.12, for what the link carries to be read.
        When the receiver reads no more, no call about the proxy is answered ever again, but for its
        deletion. That one waits too, and with it all calls about the others, if a client has
        connected meanwhile: then nothing helps but another Toxiproxy.

        Raises:
            ToxiproxyTimeout: the Toxiproxy as a whole stands still, or is too slow.
        """
        server = self.server(link)
        if not server.is_stuck(link.name):
            return
        try:
            server.delete(link.name)
        except ToxiproxyTimeout:
            self._lost.add(link.home)
            raise
        server.populate([self._specs[link.name]])
        self._forget(link)
        self._events.record(
            "replaced", link, "it stood still, as a receiver did not read; connections were closed"
        )

    def _try_to_change(self, link: Link) -> None:
        lanes = [lane for lane in self._lanes[link] if not lane.is_settled]
        if not lanes or not self._may_be_stuck(link):
            if link in self._postponed:
                # What was waiting for the node flows off, and connections that it left end.
                time.sleep(_FLOW_OFF)
            for lane in lanes:
                self._change_toxics(lane)
            self._postponed.discard(link)
        elif link not in self._postponed:
            # Nothing flows, so nobody can tell. But a change would block Toxiproxy's API while the
            # receiver is stuck, and for ever if it dies meanwhile.
            self._postponed.add(link)
            self._events.record("postponed", link, "until the node that stands still goes on")
        refused = bool(self._refused[link])
        if refused != (link in self._disabled):
            with _ignored(404):  # somebody has deleted it, and nothing refuses better
                self.server(link).set_enabled(link.name, not refused)
            (self._disabled.add if refused else self._disabled.discard)(link)

    def _may_be_stuck(self, link: Link) -> bool:
        """Whether data on a link may be waiting for a process that stands still."""
        if not self.server(link).may_block:
            return False
        if self._is_frozen(link.target):
            return True
        # Redis nodes are also at the other end: as replicas, and of the cluster bus.
        dialer = f"{Service.REDIS}-{link.source}"
        return link.service is not Service.MEMCACHED and self._is_frozen(dialer)

    def _change_toxics(self, lane: _Lane) -> None:
        """Give a lane the toxics that are wanted.

        While it is stalled, nothing else of it is touched: nothing flows, so nobody could tell, but
        Toxiproxy would let go of data that it holds back, or block.

        A toxic is not removed if it can be set to let everything through. For a removal, a real
        Toxiproxy (2.12) flushes what the toxic holds back while its API is locked, 5 s for each
        chunk whose receiver has gone away meanwhile.
        """
        if lane.is_settled or (lane.is_stalled and _STALL in lane.wanted):
            return
        server, proxy = self.server(lane.link), lane.link.name
        was_stalled = lane.is_stalled
        while lane.doubtful:
            with _ignored(404):
                server.remove_toxic(proxy, lane.doubtful[-1].name)
            lane.doubtful.pop()
        for key in lane.unwanted():
            if was_stalled and key != _STALL and server.may_block:
                # What was held back flows off first, and connections whose receiver is gone end.
                # Toxiproxy would wait for them for ever, with its API locked.
                time.sleep(_FLOW_OFF)
                was_stalled = False
            slot = lane.used[key]
            with _ignored(404):  # somebody has removed it by hand
                if slot.toxic.neutral is None:
                    server.remove_toxic(proxy, slot.name)
                else:
                    server.update_toxic(proxy, slot.name, slot.toxic.neutral)
                    lane.idle.append(slot)
            del lane.used[key]
        for key in lane.missing():
            toxic, toxicity = lane.wanted[key]
            idle = lane.idle_slot(toxic, toxicity)
            if idle is not None and self._reuse(lane, idle, toxic):
                lane.used[key] = idle
            else:
                lane.used[key] = self._add(lane, toxic, toxicity)

    def _reuse(self, lane: _Lane, slot: _Slot, toxic: Toxic) -> bool:
        """Set an idle toxic; False if it is not there any more."""
        lane.idle.remove(slot)
        lane.doubtful.append(slot)
        there = False
        with _ignored(404):
            self.server(lane.link).update_toxic(lane.link.name, slot.name, toxic)
            slot.toxic = toxic
            there = True
        lane.doubtful.remove(slot)
        return there

    def _add(self, lane: _Lane, toxic: Toxic, toxicity: float) -> _Slot:
        """Add a toxic under a name that nobody else has taken."""
        while True:
            slot = lane.new_slot(toxic, toxicity)
            lane.doubtful.append(slot)
            with _ignored(409):
                self.server(lane.link).add_toxic(
                    lane.link.name, slot.name, toxic, lane.stream, toxicity
                )
                lane.doubtful.remove(slot)
                return slot
            lane.doubtful.remove(slot)

    def _tidy(self, zone: str) -> None:
        """Undo what was done to a server by hand."""
        server = self._servers[zone]
        try:
            proxies = server.proxies()
        except ToxiproxyTimeout:
            # A proxy stands still that nobody here has touched.
            for link in self._at_home(zone):
                self._save(link)
            try:
                proxies = server.proxies()
            except ToxiproxyTimeout:
                self._lost.add(zone)
                raise
        for link in self._at_home(zone):
            try:
                self._tidy_proxy(link, proxies.get(link.name))
            except ToxiproxyTimeout:
                self._save(link)
                self._tidy_proxy(link, server.proxy(link.name))

    def _tidy_proxy(self, link: Link, proxy: dict[str, Any] | None) -> None:
        server, lanes, spec = self.server(link), self._lanes[link], self._specs[link.name]
        if proxy is None or any(proxy[key] != value for key, value in spec.items()):
            server.populate([spec])
            proxy = server.proxy(link.name)
        if not proxy["enabled"]:
            server.set_enabled(link.name, True)
        there = {toxic["name"] for toxic in proxy["toxics"]}
        for lane in lanes:
            lane.idle = [slot for slot in lane.idle if slot.name in there]
        for name in there - {slot.name for lane in lanes for slot in lane.idle}:
            with _ignored(404):
                server.remove_toxic(link.name, name)


@contextlib.contextmanager
def _ignored(status: int) -> Iterator[None]:
    """Take one status for success: what was to be done is done already."""
    try:
        yield
    except ToxiproxyError as error:
        if error.status != status:
            raise
