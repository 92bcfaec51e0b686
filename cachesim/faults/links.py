"""All links of a topology: the faults' holds on them, and the Toxiproxy servers that carry them.

Faults overlap, so none of them adds or removes anything directly. Each fault is a holder of the
state that it desires of a link. A link has the state that at least one holder desires, and a
release takes away only what no other holder desires.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from cachesim.errors import CachesimError, FaultError, ToxiproxyTimeout
from cachesim.events import EventLog
from cachesim.faults.lanes import FLOW_OFF, FOR_EVER, Lane, ignored
from cachesim.topology import Link, Service, Topology
from cachesim.toxiproxy.client import PORT, ToxiproxyClient
from cachesim.toxiproxy.toxics import BOTH, Stream, Toxic

_Item = TypeVar("_Item")
_START_AGAIN = "Take the topology down, and start it again."


class Links(Mapping[str, Link]):
    """All links of a topology, by name. Thread-safe.

    Args:
        servers: the Toxiproxy of each zone.
        is_frozen: whether a node's process is stopped (SIGSTOP), so that its links may be stuck.
        renew: replaces a zone's Toxiproxy that no longer answers by a new one with the same
            proxies.

    Raises:
        FaultError: a Toxiproxy lacks a proxy.
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
        self._redis = {
            zone.name: [node.name for node in topology.redis if node.zone == zone.name]
            for zone in topology.zones
        }
        self._servers = servers
        self._events = events
        self._is_frozen = is_frozen
        self._renew = renew
        # Links whose toxics are not changed until a node runs again.
        self._postponed: set[Link] = set()
        # Links whose release failed, until it is repeated.
        self._owed: dict[Hashable, set[Link]] = {}
        # Which streams of links a holder stalls, also of those that are yet to be added.
        self._rules: dict[Hashable, Callable[[Link], Sequence[Stream]]] = {}
        self._lost: set[str] = set()  # zones whose Toxiproxy will never answer again
        # The proxies that let connections to former addresses hang, with their servers.
        self._gone: dict[str, ToxiproxyClient] = {}
        specs = dict[str, Mapping[str, Any]]()
        for zone in servers:
            specs |= self._proxies_at_start(zone)
        if missing := self._links.keys() - specs.keys():
            raise FaultError(
                f"Toxiproxy lacks the proxies {', '.join(sorted(missing))}. {_START_AGAIN}"
            )
        self._lanes = {link: self._lane(link, specs[it]) for it, link in self._links.items()}
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
        """Return the Toxiproxy that carries a link."""
        return self._servers[link.home]

    # --- more and fewer ---------------------------------------------------------------------

    def add(self, links: Iterable[Link]) -> None:
        """Use links whose proxies have been created: all of them, or after an error none."""
        with self._lock:
            lanes = {link: self._lane(link, self.server(link).proxy(link.name)) for link in links}
            self._lanes |= lanes
            self._links |= {link.name: link for link in lanes}
            try:
                for holder, rule in self._rules.items():
                    for link, lane in lanes.items():
                        lane.hold_stall(holder, rule(link))
                self._reconcile(lanes)
            except FaultError:
                self.remove(lanes)
                raise

    def remove(self, links: Iterable[Link]) -> None:
        """Let go of links whose proxies are to be deleted, and of all that is held of them."""
        with self._lock:
            for link in links:
                del self._links[link.name], self._lanes[link]
                self._postponed.discard(link)
                for owed in self._owed.values():
                    owed.discard(link)

    def _lane(self, link: Link, proxy: Mapping[str, Any]) -> Lane:
        # What it needs to create the proxy again.
        spec = {key: proxy[key] for key in ("name", "listen", "upstream")}
        return Lane(link, self.server(link), spec)

    # --- addresses --------------------------------------------------------------------------

    def move(self, listens: Mapping[str, str], *, hangs: bool = False) -> None:
        """Make links listen elsewhere, with all that is held of them.

        Args:
            listens: the new addresses, by the link's name.
            hangs: whether connections to the old addresses hang from now on, until they are freed;
                else they are refused.

        Raises:
            FaultError: Toxiproxy did not do it.
        """
        with self._lock:
            links = {self._links[name]: address for name, address in listens.items()}
            error = self._side_by_side(lambda link: self._move(link, links[link], hangs), links)
            if error:
                raise FaultError(f"a link could not be moved: {error}") from error

    def _move(self, link: Link, address: str, hangs: bool) -> None:
        lane, server = self._lanes[link], self.server(link)
        before = str(lane.spec["listen"])
        lane.listen_at(address)
        if hangs:
            name = f"{link.name}-gone-{before.rpartition(':')[2]}"
            # It leads to the Toxiproxy itself, as nothing ever comes that far.
            upstream = f"127.0.0.1:{PORT}"
            self._gone[name] = server
            server.populate([{"name": name, "listen": before, "upstream": upstream}])
            for stream in BOTH:
                server.add_toxic(name, str(stream), FOR_EVER, stream)

    def free_former(self) -> None:
        """Let connections to the former addresses of all links hang no more.

        Raises:
            FaultError: Toxiproxy did not do it.
        """
        with self._lock:
            if error := self._side_by_side(self._free_former, self._gone):
                raise FaultError(f"a former address could not be freed: {error}") from error

    def _free_former(self, gone: str) -> None:
        with ignored(404):  # its Toxiproxy is a new one, or it was deleted by hand
            self._gone[gone].delete(gone)
        del self._gone[gone]

    # --- holding and releasing --------------------------------------------------------------

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
                    self._lanes[link].hold_toxic(holder, key, toxic, stream, toxicity)
            self._apply(holder, links)

    def hold_stall(self, holder: Hashable, streams: Mapping[Link, Iterable[Stream]]) -> None:
        """Hold data back until the release; connections stay.

        It is an endless latency. Setting it to 0 releases the data at once; ending a bandwidth of 0
        would block Toxiproxy's API.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            for link, which in streams.items():
                self._lanes[link].hold_stall(holder, which)
            self._apply(holder, streams)

    def hold_stall_where(self, holder: Hashable, rule: Callable[[Link], Sequence[Stream]]) -> None:
        """Do the same on all links that there are, and on those that are added before the release.

        Args:
            rule: returns the streams of a link that it is on.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            self._rules[holder] = rule
            streams = {link: which for link in self._links.values() if (which := rule(link))}
            self.hold_stall(holder, streams)

    def hold_refused(self, holder: Hashable, links: Collection[Link]) -> None:
        """Close the connections of links and refuse new ones.

        Raises:
            FaultError: it could not be done; nothing of it remains.
        """
        with self._lock:
            for link in links:
                self._lanes[link].hold_refused(holder)
            self._apply(holder, links)

    def release(self, holder: Hashable) -> None:
        """Release all that a holder holds. Repeating it is harmless.

        Raises:
            FaultError: Toxiproxy did not do it.
        """
        with self._lock:
            owed = self._owed.pop(holder, set()) | self._let_go(holder)
            try:
                self._reconcile(owed)
            except FaultError:
                self._owed[holder] = owed
                raise

    def settle(self) -> None:
        """Make the changes that were postponed while a node was frozen."""
        with self._lock:
            self._reconcile(tuple(self._postponed))

    def reset(self) -> None:
        """Release all holders, and undo what others did to the servers by hand.

        Raises:
            FaultError: a Toxiproxy did not do it.
        """
        with self._lock:
            for lane in self._lanes.values():
                lane.release_all()
            self._rules.clear()
            self._owed.clear()
            self._reconcile(self._lanes)
            error = self._side_by_side(self._undo_by_hand, self._servers)
            if error and self._lost:
                self._replace_lost()
                error = self._side_by_side(self._undo_by_hand, self._servers)
            if error:
                raise FaultError(f"the links could not be reset: {error}") from error

    def toxics(self, link: Link) -> list[dict[str, Any]]:
        """Return a link's toxics as Toxiproxy has them, except those that change nothing."""
        with self._lock:
            return self._lanes[link].toxics()

    def close(self) -> None:
        """Close the connections to the servers."""
        self._pool.shutdown()
        for server in self._servers.values():
            server.close()

    # --- from desired to actual -------------------------------------------------------------

    def _let_go(self, holder: Hashable) -> set[Link]:
        """Drop what only a holder desires; return the links on which it desired anything."""
        self._rules.pop(holder, None)
        return {link for link, lane in self._lanes.items() if lane.release(holder)}

    def _apply(self, holder: Hashable, links: Collection[Link]) -> None:
        try:
            self._reconcile(links)
        except FaultError:
            self._owed[holder] = self._let_go(holder)
            with contextlib.suppress(FaultError):  # the first error says more
                self._reconcile(links)
                del self._owed[holder]
            raise

    def _reconcile(self, links: Iterable[Link]) -> None:
        """Bring links to their desired state, side by side."""
        differing = [k for k in links if self._lanes[k].differs or k in self._postponed]
        error = self._side_by_side(self._change, differing)
        if error and self._lost:
            there_again = [k for k in self._replace_lost() if self._lanes[k].differs]
            error = self._side_by_side(self._change, {*differing, *there_again})
        if error:
            raise FaultError(f"a link could not be changed: {error}") from error

    def _side_by_side(
        self, act: Callable[[_Item], None], items: Iterable[_Item]
    ) -> BaseException | None:
        """Do the same to several links or servers; return the first error."""
        todo = list(items)
        any_server = next(iter(self._servers.values()))
        errors: Sequence[BaseException | None] | None
        errors = any_server.at_once([partial(act, item) for item in todo])
        if errors is None:
            steps = [self._pool.submit(act, item) for item in todo]
            errors = [step.exception() for step in steps]
        return next(filter(None, errors), None)

    def _change(self, link: Link) -> None:
        try:
            self._try_to_change(link)
        except ToxiproxyTimeout:
            self._free(link)
            self._try_to_change(link)

    def _try_to_change(self, link: Link) -> None:
        lane = self._lanes[link]
        if lane.toxics_are_settled or not self._may_be_stuck(link):
            if link in self._postponed:
                # Data that waited for the node flows off, and connections that it left end.
                time.sleep(FLOW_OFF)
            lane.reconcile_toxics()
            self._postponed.discard(link)
        elif link not in self._postponed:
            # Nothing flows, so a later change makes no difference. Now, it would block Toxiproxy's
            # API while the receiver is stuck, and for ever if the receiver dies.
            self._postponed.add(link)
            self._events.record("postponed", link, "until the node that is frozen runs again")
        lane.reconcile_refusal()

    def _may_be_stuck(self, link: Link) -> bool:
        """Return whether data on a link may be waiting for a frozen process."""
        if not self.server(link).may_block:
            return False
        if self._is_frozen(link.target):
            return True
        # Redis nodes are also at the other end: as replicas, and of the cluster bus.
        dialers = self._redis.get(link.source, [])
        return link.service is not Service.MEMCACHED and any(map(self._is_frozen, dialers))

    # --- a Toxiproxy that does not answer ---------------------------------------------------

    def _free(self, link: Link) -> None:
        """Delete and create a proxy that no longer answers.

        A change of a toxic waits, in a real Toxiproxy 2.12, until the data on the link is read.
        When the receiver reads no more, no call about the proxy is ever answered again, except its
        deletion. If a client has connected meanwhile, the deletion hangs too, and with it all calls
        about other proxies: then only a new Toxiproxy helps.

        Raises:
            ToxiproxyTimeout: the Toxiproxy as a whole does not answer, or is too slow.
        """
        server = self.server(link)
        if not server.is_stuck(link.name):
            return
        try:
            server.delete(link.name)
        except ToxiproxyTimeout:
            self._lost.add(link.home)
            raise
        self._lanes[link].make_anew()
        self._lanes[link].forget()
        self._events.record(
            "replaced",
            link,
            "its proxy did not answer, as a receiver did not read: its connections were closed",
        )

    def _proxies_at_start(self, zone: str) -> dict[str, dict[str, Any]]:
        """Return a zone's proxies as they are at the start."""
        try:
            return self._servers[zone].proxies()
        except ToxiproxyTimeout:
            # The previous user of the topology left it like that.
            self._replace_server(zone)
            return self._servers[zone].proxies()

    def _replace_server(self, zone: str) -> None:
        self._events.record(
            "replaced",
            f"az-{zone}",
            "its Toxiproxy does not answer, as a receiver on a link does not read: the zone's "
            "connections are closed and its nodes start again",
        )
        try:
            self._renew(zone)
        except CachesimError as error:
            raise FaultError(
                f"the Toxiproxy of az-{zone} does not answer and could not be replaced: {error}. "
                f"{_START_AGAIN}"
            ) from error

    def _replace_lost(self) -> set[Link]:
        """Replace the Toxiproxies that no longer answer; return their links."""
        renewed = set()
        for zone in sorted(self._lost):
            self._replace_server(zone)
            for link in self._at_home(zone):
                self._lanes[link].forget()
                renewed.add(link)
            self._lost.discard(zone)
        return renewed

    def _at_home(self, zone: str) -> list[Link]:
        return [link for link in self._links.values() if link.home == zone]

    def _undo_by_hand(self, zone: str) -> None:
        """Undo what others did to a server."""
        server = self._servers[zone]
        try:
            proxies = server.proxies()
        except ToxiproxyTimeout:
            # A proxy that was not changed here does not answer.
            for link in self._at_home(zone):
                self._free(link)
            try:
                proxies = server.proxies()
            except ToxiproxyTimeout:
                self._lost.add(zone)
                raise
        for link in self._at_home(zone):
            try:
                self._lanes[link].undo_by_hand(proxies.get(link.name))
            except ToxiproxyTimeout:
                self._free(link)
                self._lanes[link].undo_by_hand(server.proxy(link.name))
