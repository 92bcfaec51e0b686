"""The functions that apply the faults, one for each, and `APPLY`, the table of them."""

import random
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from cachesim.embedded.answers import Rule
from cachesim.faults import catalogue
from cachesim.faults.limits import Limits
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.of_addresses import HANG
from cachesim.faults.of_servers import ERRORS, OF_MEMCACHED
from cachesim.faults.spec import FaultSpec
from cachesim.servers.hot_keys import HotKey
from cachesim.topology import CLIENT, Link, Service, Topology
from cachesim.toxiproxy import toxics
from cachesim.toxiproxy.toxics import BOTH, Stream

EVERYSEC = 1.0
"""Seconds of writes that a loss of power can cost with `appendfsync everysec`."""


class AofSizes(Protocol):
    """Knows the sizes of the append-only files."""

    def aof_size(self, node: str, ago: float) -> tuple[float, int] | None:
        """Return when a node's append-only file had which size, `ago` seconds ago or later.

        In monotonic seconds and bytes. None if it is unknown.
        """
        ...


class Names(Protocol):
    """Knows what the configuration endpoints lead to."""

    def hold(self, holder: Hashable, endpoints: Collection[str]) -> None:
        """Lead new connections to endpoints where they are led now, until the release."""
        ...

    def release(self, holder: Hashable) -> None:
        """End what `hold` began. Repeating it is harmless."""
        ...

    def forget(self) -> None:
        """End what all holders hold."""
        ...


class Replacer(Protocol):
    """Replaces nodes."""

    def prepare(self, node: str) -> None:
        """Let a replica succeed a node, if that is a primary. That takes seconds.

        Raises:
            FaultError: none could.
        """
        ...

    def replace(self, node: str, *, new_address: bool = False, hangs: bool = False) -> None:
        """Replace a node; a primary is succeeded by a replica first.

        Args:
            new_address: whether the new one has another address.
            hangs: whether connections to the former address hang; else they are refused.

        Raises:
            FaultError: it could not be replaced.
        """
        ...


class Scaler(Protocol):
    """Changes the number of Memcached nodes."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def scale(self, count: int) -> None:
        """Add or remove nodes, the last ones, until there are so many.

        Raises:
            FaultError: there can't be so many.
        """
        ...

    def suspended(self) -> AbstractContextManager[object]:
        """Return a context manager during which the calls of other threads wait."""
        ...


class Scales:
    """The numbers of Memcached nodes that faults want. The last one counts."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._held: dict[Hashable, int] = {}
        self._before = 0

    def hold(self, holder: Hashable, count: int) -> None:
        """Scale to a number, until the release."""
        if not self._held:
            self._before = self._scaler.count
        self._held.pop(holder, None)
        self._held[holder] = count  # first: the release also undoes what an error leaves
        self._scaler.scale(count)

    def release(self, holder: Hashable) -> None:
        """Scale to what is still wanted, or to what there was before."""
        if holder in self._held:
            left = {it: count for it, count in self._held.items() if it != holder}
            self._scaler.scale(list(left.values())[-1] if left else self._before)
            self._held = left

    def release_all(self) -> None:
        """Scale to what there was before."""
        for holder in reversed(tuple(self._held)):
            self.release(holder)

    def suspended(self) -> AbstractContextManager[object]:
        """See `Scaler.suspended`."""
        return self._scaler.suspended()


@dataclass(frozen=True)
class Controls:
    """The links, nodes and servers of a topology, for the functions that apply faults to them.

    Attributes:
        draws: the source of all random draws.
        names: the configuration endpoints.
        replacer: replaces nodes.
        scales: the numbers of Memcached nodes that faults want.
    """

    topology: Topology
    links: Links
    nodes: Nodes
    limits: Limits
    aof_sizes: AofSizes
    draws: random.Random
    names: Names
    replacer: Replacer
    scales: Scales

    def chosen(self, names: Iterable[str]) -> list[Link]:
        """Return links by their names."""
        return [self.links[name] for name in names]

    def cut_around(self, holder: Hashable, zone: str) -> None:
        """Stall both streams of all links between a zone and the others or clients."""
        places = [CLIENT, *(it.name for it in self.topology.zones if it.name != zone)]
        self.links.hold_stall_where(
            holder, lambda link: BOTH if any(link.joins(zone, it) for it in places) else ()
        )


Holder = Hashable
"""The fault that applied toxics or node states. They stay until it is released."""


def _latency(on: Controls, holder: Holder, fault: catalogue.Latency) -> None:
    toxic = toxics.Latency(fault.ms, fault.jitter)
    on.links.hold_toxic(holder, on.chosen(fault.links), toxic, [Stream.DOWNSTREAM])


def _bandwidth(on: Controls, holder: Holder, fault: catalogue.Bandwidth) -> None:
    on.links.hold_toxic(holder, on.chosen(fault.links), toxics.Bandwidth(fault.kb_s), BOTH)


def _loss(on: Controls, holder: Holder, fault: catalogue.Loss) -> None:
    on.links.hold_toxic(holder, on.chosen(fault.links), toxics.loss(fault.share, fault.ms), BOTH)


def _blackhole(on: Controls, holder: Holder, fault: catalogue.Blackhole) -> None:
    on.links.hold_stall(holder, dict.fromkeys(on.chosen(fault.links), BOTH))


def _refuse(on: Controls, holder: Holder, fault: catalogue.Refuse) -> None:
    on.links.hold_refused(holder, on.chosen(fault.links))


def _reset(on: Controls, holder: Holder, fault: catalogue.Reset) -> None:
    on.links.hold_toxic(holder, on.chosen(fault.links), toxics.ResetPeer(), [Stream.UPSTREAM])


def _toxic(on: Controls, holder: Holder, fault: catalogue.Toxic) -> None:
    links = on.chosen(fault.links)
    on.links.hold_toxic(holder, links, fault.toxic, fault.streams, fault.toxicity)


def _replication_lag(on: Controls, holder: Holder, fault: catalogue.ReplicationLag) -> None:
    # On all links that replication may use, so that it stays when roles move.
    zones = {on.topology.node(name).zone for name in fault.replicas or ()}
    links = [k for k in on.links.values() if k.is_replication and k.source in zones]
    toxic = toxics.Latency(round(fault.seconds * 1000))
    on.links.hold_toxic(holder, links, toxic, [Stream.DOWNSTREAM])


def _partition(on: Controls, holder: Holder, fault: catalogue.Partition) -> None:
    def cut(link: Link) -> tuple[Stream, ...]:
        if not link.joins(fault.a, fault.b):
            return ()
        forward = Stream.UPSTREAM if link.source == fault.a else Stream.DOWNSTREAM
        return (forward,) if fault.one_way else BOTH

    on.links.hold_stall_where(holder, cut)


def _isolate(on: Controls, holder: Holder, fault: catalogue.Isolate) -> None:
    on.cut_around(holder, fault.zone)


def _az_power(on: Controls, holder: Holder, fault: catalogue.AzPower) -> None:
    def synced(node: str) -> tuple[float, int] | None:
        # The writes that were not fsynced are lost: up to a second of them.
        if on.topology.node(node).service is not Service.REDIS:
            return None
        return on.aof_sizes.aof_size(node, on.draws.uniform(0, EVERYSEC))

    # First, as a link to a frozen process can't be changed.
    on.cut_around(holder, fault.zone)
    on.nodes.cut_power(holder, fault.zone, synced)


def _kill(on: Controls, holder: Holder, fault: catalogue.Kill) -> None:
    on.nodes.kill(holder, fault.nodes)


def _stop(on: Controls, holder: Holder, fault: catalogue.Stop) -> None:
    on.nodes.stop(holder, fault.nodes)


def _pause(on: Controls, holder: Holder, fault: catalogue.Pause) -> None:
    on.nodes.pause(holder, fault.nodes)


def _memory_fill(on: Controls, holder: Holder, fault: catalogue.MemoryFill) -> None:
    on.limits.fill_memory(holder, fault.nodes, fault.to)


def _connection_limit(on: Controls, holder: Holder, fault: catalogue.ConnectionLimit) -> None:
    on.limits.limit_connections(holder, fault.nodes, fault.most)


def _rule(on: Controls, fault: catalogue.Answer | catalogue.Delay) -> Rule:
    """Return a rule for the commands of a fault, which has yet no effect."""
    commands = frozenset(it.lower() for it in fault.commands or ())
    return Rule(commands, random.Random(on.draws.random()).random, fault.share)


def _answer(on: Controls, holder: Holder, fault: catalogue.Answer) -> None:
    rule = _rule(on, fault)
    rule.answer = ERRORS.get(fault.error) or OF_MEMCACHED.get(fault.error) or fault.error
    rule.left = fault.times
    on.limits.answer(holder, fault.nodes, rule, fault.to)


def _delay(on: Controls, holder: Holder, fault: catalogue.Delay) -> None:
    rule = _rule(on, fault)
    rule.seconds = fault.ms / 1000
    on.limits.answer(holder, fault.nodes, rule)


def _slow(on: Controls, holder: Holder, fault: catalogue.Slow) -> None:
    on.limits.slow(holder, fault.nodes, fault.cpu / 100)


def _hot_key(on: Controls, holder: Holder, fault: catalogue.HotKey) -> None:
    on.limits.read_hot_key(holder, fault.nodes, HotKey(fault.key, fault.rate))


def _aof_error(on: Controls, holder: Holder, fault: catalogue.AofError) -> None:
    on.limits.fill_disk(holder, fault.nodes)


def _auth_rotate(on: Controls, holder: Holder, fault: catalogue.AuthRotate) -> None:
    on.limits.rotate_token(holder, fault.nodes, fault.strategy)


def _bad_certificate(on: Controls, holder: Holder, fault: catalogue.BadCertificate) -> None:
    on.limits.spoil_certificate(holder, fault.nodes, fault.problem)


def _expire(on: Controls, _holder: Holder, fault: catalogue.Expire) -> None:
    draws = random.Random(on.draws.random())
    on.limits.expire(fault.nodes, fault.pattern, lambda: draws.random() >= fault.share)


def _flush(on: Controls, _holder: Holder, fault: catalogue.Flush) -> None:
    on.limits.flush(fault.nodes)


def _replace(on: Controls, _holder: Holder, fault: catalogue.Replace) -> None:
    for node in fault.nodes:
        on.replacer.replace(node, new_address=fault.new_address, hangs=fault.old == HANG)


def _scale(on: Controls, holder: Holder, fault: catalogue.Scale) -> None:
    on.scales.hold(holder, fault.memcached)


def _stale(on: Controls, holder: Holder, fault: catalogue.Stale) -> None:
    on.names.hold(holder, fault.endpoints)


Apply = Callable[[Controls, Holder, Any], None]
"""Applies a fault whose names are resolved, for a holder. Releasing the holder undoes all of it."""

APPLY: Mapping[type[FaultSpec], Apply] = {
    catalogue.Latency: _latency,
    catalogue.Bandwidth: _bandwidth,
    catalogue.Loss: _loss,
    catalogue.Blackhole: _blackhole,
    catalogue.Refuse: _refuse,
    catalogue.Reset: _reset,
    catalogue.Toxic: _toxic,
    catalogue.ReplicationLag: _replication_lag,
    catalogue.Partition: _partition,
    catalogue.Isolate: _isolate,
    catalogue.AzPower: _az_power,
    catalogue.Kill: _kill,
    catalogue.Stop: _stop,
    catalogue.Pause: _pause,
    catalogue.MemoryFill: _memory_fill,
    catalogue.ConnectionLimit: _connection_limit,
    catalogue.Answer: _answer,
    catalogue.Delay: _delay,
    catalogue.Slow: _slow,
    catalogue.HotKey: _hot_key,
    catalogue.AofError: _aof_error,
    catalogue.AuthRotate: _auth_rotate,
    catalogue.BadCertificate: _bad_certificate,
    catalogue.Expire: _expire,
    catalogue.Flush: _flush,
    catalogue.Replace: _replace,
    catalogue.Scale: _scale,
    catalogue.Stale: _stale,
}
"""The function that applies each fault, by the fault's class."""
