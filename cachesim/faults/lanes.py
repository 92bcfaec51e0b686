"""One link's proxy: the state that faults desire of it, and the state that it actually has.

A `Lane` brings its proxy to the desired state. It has a `Chain` for each of the two streams,
as Toxiproxy has.
"""

import contextlib
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cachesim.errors import ToxiproxyError
from cachesim.topology import Link
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import BOTH, Latency, Stream, Toxic

FLOW_OFF = 0.03
"""Seconds in which data that was held back flows off a link."""
_STALL = "stall"
FOR_EVER = Latency(10**9)
"""The toxic that holds data back until it is set to let everything through."""


@dataclass
class _Slot:
    """A toxic in Toxiproxy's chain, and what it is set to. The chain is in order of the numbers."""

    number: int
    name: str
    toxic: Toxic
    toxicity: float


@dataclass
class Chain:
    """The toxics of one stream of a link.

    Attributes:
        desired: toxics with their toxicity, by key.
        holders: the holders that desire a toxic, by its key.
        actual: slots that carry the desired toxics out, by key.
        idle: slots that let everything through.
        doubtful: slots that may or may not be there, as the call that was to add them failed.
    """

    stream: Stream
    desired: dict[Hashable, tuple[Toxic, float]] = field(default_factory=dict)
    holders: dict[Hashable, set[Hashable]] = field(default_factory=dict)
    actual: dict[Hashable, _Slot] = field(default_factory=dict)
    idle: list[_Slot] = field(default_factory=list)
    doubtful: list[_Slot] = field(default_factory=list)
    count: int = 0

    def hold(self, holder: Hashable, key: Hashable, toxic: Toxic, toxicity: float = 1.0) -> None:
        """Add a toxic to the desired ones, for a holder."""
        self.desired[key] = toxic, toxicity
        self.holders.setdefault(key, set()).add(holder)

    def release(self, holder: Hashable) -> bool:
        """Drop the toxics that only this holder desires; return whether it desired any."""
        held = [key for key, holders in self.holders.items() if holder in holders]
        for key in held:
            self.holders[key].discard(holder)
            if not self.holders[key]:
                del self.holders[key], self.desired[key]
        return bool(held)

    @property
    def is_stalled(self) -> bool:
        """Whether the stream is held back."""
        return _STALL in self.actual

    @property
    def is_settled(self) -> bool:
        """Whether the actual toxics are the desired ones."""
        return self.desired.keys() == self.actual.keys() and not self.doubtful

    def forget(self) -> None:
        """Record that the proxy is a new one, without toxics."""
        for slots in (self.actual, self.idle, self.doubtful):
            slots.clear()

    def surplus(self) -> list[Hashable]:
        """Return the keys of the toxics to take away, the stall first.

        A toxic that backdates is among them if another one comes: it has to be behind that.
        """
        surplus = self.actual.keys() - self.desired.keys()
        if any(not self._backdates(key) for key in self.missing() if key != _STALL):
            surplus |= {key for key in self.actual if self._backdates(key)}
        return sorted(surplus, key=lambda key: key != _STALL)

    def missing(self) -> list[Hashable]:
        """Return the keys of the toxics to add, those that backdate behind others, the stall last.

        What is held back keeps the time at which it came, so the stall may be anywhere.
        """
        missing = [key for key in self.desired if key not in self.actual]
        return sorted(missing, key=lambda key: (key == _STALL, self._backdates(key)))

    def _backdates(self, key: Hashable) -> bool:
        toxic, _ = self.desired.get(key) or (self.actual[key].toxic, 1.0)
        return toxic.backdates

    def idle_slot(self, toxic: Toxic, toxicity: float) -> _Slot | None:
        """Return the first idle slot that can be set to a toxic."""
        behind = 0
        if toxic.backdates:
            behind = max((slot.number for slot in self.actual.values()), default=0)
        for slot in sorted(self.idle, key=lambda slot: slot.number):
            fits = type(slot.toxic) is type(toxic) and slot.toxicity == toxicity
            if fits and slot.number > behind:
                return slot
        return None

    def new_slot(self, toxic: Toxic, toxicity: float) -> _Slot:
        """Return a slot with a name that this chain has not used yet."""
        self.count += 1
        return _Slot(self.count, f"{toxic.type}_{self.stream}_{self.count}", toxic, toxicity)


class Lane:
    """One link's proxy. Not thread-safe: its owner makes one call at a time.

    Args:
        server: the Toxiproxy with the proxy.
        spec: the proxy's `name`, `listen` and `upstream`, as they were at the start.
    """

    def __init__(self, link: Link, server: ToxiproxyClient, spec: Mapping[str, Any]) -> None:
        self.link = link
        self.server = server
        self.spec = spec
        self._chains = {stream: Chain(stream) for stream in BOTH}
        self._refused_by: set[Hashable] = set()
        self._is_disabled = False

    # --- desired ----------------------------------------------------------------------------

    def hold_toxic(
        self, holder: Hashable, key: Hashable, toxic: Toxic, stream: Stream, toxicity: float
    ) -> None:
        """Add a toxic of a stream to the desired state, for a holder."""
        self._chains[stream].hold(holder, key, toxic, toxicity)

    def hold_stall(self, holder: Hashable, streams: Iterable[Stream]) -> None:
        """Add a stall of streams to the desired state, for a holder."""
        for stream in streams:
            self._chains[stream].hold(holder, _STALL, FOR_EVER)

    def hold_refused(self, holder: Hashable) -> None:
        """Add the refusal of connections to the desired state, for a holder."""
        self._refused_by.add(holder)

    def release(self, holder: Hashable) -> bool:
        """Drop what only this holder desires; return whether it desired anything."""
        held = [chain.release(holder) for chain in self._chains.values()]
        held.append(holder in self._refused_by)
        self._refused_by.discard(holder)
        return any(held)

    def release_all(self) -> None:
        """Drop all that is desired: the proxy is to be enabled, without toxics."""
        for chain in self._chains.values():
            chain.desired.clear()
            chain.holders.clear()
        self._refused_by.clear()

    # --- actual -----------------------------------------------------------------------------

    @property
    def differs(self) -> bool:
        """Whether the actual state is not the desired one."""
        return not self.toxics_are_settled or bool(self._refused_by) != self._is_disabled

    @property
    def toxics_are_settled(self) -> bool:
        """Whether the actual toxics are the desired ones, on both streams."""
        return all(chain.is_settled for chain in self._chains.values())

    def toxics(self) -> list[dict[str, Any]]:
        """Return the toxics as Toxiproxy has them, except those that let everything through."""
        idle = {slot.name for chain in self._chains.values() for slot in chain.idle}
        toxics = self.server.proxy(self.link.name)["toxics"]
        return [toxic for toxic in toxics if toxic["name"] not in idle]

    def forget(self) -> None:
        """Record that the proxy is a new one: enabled, and without toxics."""
        for chain in self._chains.values():
            chain.forget()
        self._is_disabled = False

    # --- from actual to desired -------------------------------------------------------------

    def reconcile_refusal(self) -> None:
        """Disable or enable the proxy as desired."""
        refused = bool(self._refused_by)
        if refused != self._is_disabled:
            with ignored(404):  # deleted by hand: it refuses anyway
                self.server.set_enabled(self.link.name, not refused)
            self._is_disabled = refused

    def reconcile_toxics(self) -> None:
        """Give both streams the desired toxics."""
        for chain in self._chains.values():
            self._reconcile(chain)

    def _reconcile(self, chain: Chain) -> None:
        """Give a stream the desired toxics.

        While it is stalled, its other toxics stay as they are. They have no effect then, and a
        change would make Toxiproxy release data that it holds back, or block.

        A toxic is not removed if it can be set to let everything through. To remove one, a real
        Toxiproxy (2.12) flushes the data that the toxic holds back while its API is locked, 5 s for
        each chunk whose receiver has gone away.
        """
        if chain.is_settled or (chain.is_stalled and _STALL in chain.desired):
            return
        was_stalled = chain.is_stalled
        while chain.doubtful:
            self._remove(chain.doubtful[-1].name)
            chain.doubtful.pop()
        for key in chain.surplus():
            if was_stalled and key != _STALL and self.server.may_block:
                # Data that was held back flows off first, and connections whose receiver is gone
                # end. Toxiproxy would wait for them for ever, with its API locked.
                time.sleep(FLOW_OFF)
                was_stalled = False
            self._take_away(chain, chain.actual[key])
            del chain.actual[key]
        for key in chain.missing():
            toxic, toxicity = chain.desired[key]
            idle = chain.idle_slot(toxic, toxicity)
            if idle is not None and self._reuse(chain, idle, toxic):
                chain.actual[key] = idle
            else:
                chain.actual[key] = self._add(chain, toxic, toxicity)

    def _take_away(self, chain: Chain, slot: _Slot) -> None:
        neutral = slot.toxic.neutral
        if neutral is None:
            self._remove(slot.name)
            return
        with ignored(404):  # removed by hand
            self.server.update_toxic(self.link.name, slot.name, neutral)
            chain.idle.append(slot)

    def _remove(self, name: str) -> None:
        with ignored(404):
            self.server.remove_toxic(self.link.name, name)

    def _reuse(self, chain: Chain, slot: _Slot, toxic: Toxic) -> bool:
        """Set an idle slot to a toxic; return False if it is not there any more."""
        chain.idle.remove(slot)
        chain.doubtful.append(slot)
        there = False
        with ignored(404):
            self.server.update_toxic(self.link.name, slot.name, toxic)
            slot.toxic = toxic
            there = True
        chain.doubtful.remove(slot)
        return there

    def _add(self, chain: Chain, toxic: Toxic, toxicity: float) -> _Slot:
        """Add a toxic under a name that nobody else has taken."""
        while True:
            slot = chain.new_slot(toxic, toxicity)
            chain.doubtful.append(slot)
            with ignored(409):
                self.server.add_toxic(self.link.name, slot.name, toxic, chain.stream, toxicity)
                chain.doubtful.remove(slot)
                return slot
            chain.doubtful.remove(slot)

    def listen_at(self, address: str) -> None:
        """Make the proxy listen elsewhere; its connections are closed."""
        self.server.set_listen(self.link.name, address)
        self.spec = {**self.spec, "listen": self.server.proxy(self.link.name)["listen"]}

    # --- by hand ----------------------------------------------------------------------------

    def make_anew(self) -> None:
        """Create the proxy again, as it was at the start."""
        self.server.populate([self.spec])

    def undo_by_hand(self, proxy: Mapping[str, Any] | None) -> None:
        """Undo what others did to the proxy.

        Args:
            proxy: the proxy as Toxiproxy has it; None if it is gone.
        """
        if proxy is None or any(proxy[key] != value for key, value in self.spec.items()):
            self.make_anew()
            proxy = self.server.proxy(self.link.name)
        if not proxy["enabled"]:
            self.server.set_enabled(self.link.name, True)
        there = {toxic["name"] for toxic in proxy["toxics"]}
        for chain in self._chains.values():
            chain.idle = [slot for slot in chain.idle if slot.name in there]
        ours = {slot.name for chain in self._chains.values() for slot in chain.idle}
        for name in there - ours:
            self._remove(name)


@contextlib.contextmanager
def ignored(status: int) -> Iterator[None]:
    """Treat an error status as success: the change is made already."""
    try:
        yield
    except ToxiproxyError as error:
        if error.status != status:
            raise
