"""The calls that the process of a topology answers: see `cachesim.runs.calls`."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cachesim.control_plane.timing import Timing
from cachesim.daemon.leases import Leases
from cachesim.daemon.log_following import check_lines, follow_log
from cachesim.daemon.monitoring_calls import monitoring_calls
from cachesim.daemon.operations import Operations
from cachesim.daemon.placing import seen_from
from cachesim.daemon.restoring import Restorer
from cachesim.daemon.scaling import of_each
from cachesim.daemon.server import Caller, Handler, Hangup
from cachesim.daemon.waiting import Waits
from cachesim.errors import CachesimError
from cachesim.faults.courses import Course
from cachesim.faults.injector import AppliedFault
from cachesim.faults.named import unknown
from cachesim.runs.calls import (
    VERBS,
    Call,
    Description,
    FaultData,
    LinkStatus,
    NodeStatus,
    Readings,
    ShardStatus,
    Status,
)
from cachesim.runs.owner import Owner
from cachesim.servers.admin import stored
from cachesim.topology import Link, Role
from cachesim.topology import Service as Kind

_HEARTBEAT = 5.0  # seconds within which the end of a caller that follows is noticed


class Life(Protocol):
    """The end of the process of a topology."""

    owner: str | None

    @property
    def requested(self) -> bool:
        """Whether the process is to end."""
        ...

    def detach(self) -> None:
        """Let the process outlive its owner."""
        ...

    def request(self) -> None:
        """Make the process end soon."""
        ...

    def wait_taken_down(self) -> None:
        """Wait until all is taken down.

        Raises:
            CachesimError: not everything could be taken down.
        """
        ...


class Answers(Handler):
    """Answers the calls."""

    def __init__(self, operations: Operations, life: Life) -> None:
        self._operations = operations
        self._files = operations.provision.files
        self._life = life
        self._since = time.time()
        self._restorer = Restorer(operations)
        self._restorer.begin()
        self._waits = Waits(operations)
        self._leases = Leases(operations, self._restorer, self._files.save_holder)
        self._calls: Mapping[str, Callable[..., object]] = {
            Call.DESCRIBE: lambda _caller: self.describe(),
            Call.STATUS: self._status,
            Call.NODE: self._node,
            Call.SHARD: self._shard,
            Call.LOGS: self._logs,
            Call.EVENTS: self._events,
            Call.FOLLOW_EVENTS: self._follow_events,
            Call.FAULTS: lambda _caller: [_as_data(it) for it in operations.faults.active],
            Call.LINKS: lambda _caller: of_each(
                operations.links,
                lambda name: self._link_status(operations.links[name]),
                lambda name: name in operations.links,
            ),
            Call.LINK: self._link,
            Call.SEEN_FROM: lambda _caller, zone: seen_from(operations.provision, zone),
            Call.READINGS: lambda _caller: self._readings(),
            Call.VALUES: self._values,
            Call.TIMING: lambda _caller: operations.control_plane.timing.as_dict(),
            Call.WAIT: self._wait,
            **monitoring_calls(operations),
            Call.APPLY: self._apply,
            Call.HEAL: self._heal,
            Call.RESUME: self._resume,
            Call.RESTART: self._restart,
            Call.REPLACE: self._replace,
            Call.ROLL: self._roll,
            Call.SCALE: self._scale,
            Call.RESET: self._reset,
            Call.FAILOVER: self._failover,
            Call.SET_TIMING: self._set_timing,
            Call.SUSPEND: self._suspend,
            Call.LEASE: self._lease,
            Call.RETURN: self._return,
            Call.OFFER: self._offer,
            Call.DETACH: self._detach,
            Call.DOWN: self._down,
        }

    def answer(self, caller: Caller, operation: str, arguments: dict[str, Any]) -> object:
        """See `Handler.answer`."""
        if operation not in self._calls:
            raise CachesimError(
                f"the process of the topology {self._name!r} does not know {operation!r}: it runs "
                "another version of cachesim. Take the topology down and start it again."
            )
        try:
            with self._leases.verb(caller) if operation in VERBS else contextlib.nullcontext():
                return self._calls[operation](caller, **arguments)
        except Exception as error:
            if self._life.requested and operation != Call.DOWN:
                raise Hangup from error  # it failed because the topology is being taken down
            raise

    def hung_up(self, caller: Caller) -> None:
        """See `Handler.hung_up`."""
        self._operations.control_plane.resume(caller)
        if not self._life.requested:
            self._leases.end(caller, returned=False)

    # --- looking ----------------------------------------------------------------------------

    def describe(self) -> Description:
        """Return what a client needs to know of the topology once."""
        it = self._operations.provision
        services = (Kind.REDIS, Kind.MEMCACHED)
        endpoints = self._operations.scaling.each(
            lambda node: (node, str(it.backend.endpoint(node)))
        )
        return {
            "name": it.name,
            "backend": it.backend.name,
            "reason": it.reason,
            "settings": self._operations.settings.model_dump(mode="json"),
            "seed": self._operations.seed,
            "endpoints": dict(endpoints),
            "memcached": len(endpoints) - len(it.topology.redis),
            "configuration": {str(of): str(it.configuration.address(of)) for of in services},
            "toxiproxy": {z.name: it.backend.toxiproxy(z.name) for z in it.topology.zones},
            "ca_file": str(it.files.ca),
            "token": it.credentials.token,
            "env": it.env(),
            "folder": str(self._files.folder),
            "owner": str(Owner.current()),
            "events": len(self._operations.events),
        }

    def _status(self, _caller: Caller) -> Status:
        it, operations = self._operations.provision, self._operations
        shards = operations.control_plane.shards.values()
        return {
            "name": it.name,
            "backend": it.backend.name,
            "folder": self._folder,
            "engine": it.settings.engine,
            "speed": operations.control_plane.timing.speed,
            "seed": operations.seed,
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self._since, 1),
            "owned_by": self._life.owner,
            "leased_by": self._leases.holder,
            "control_plane": ", ".join(str(shard.state) for shard in shards),
            "nodes": operations.scaling.each(self._node_status),
            "faults": [_as_data(fault) for fault in operations.faults.active],
            "toxiproxy": {z.name: it.backend.toxiproxy(z.name) for z in it.topology.zones},
        }

    def _node(self, _caller: Caller, node: str) -> NodeStatus:
        return self._node_status(node)

    def _shard(self, _caller: Caller, shard: str | None = None) -> ShardStatus:
        it = self._operations.control_plane.shard(shard)
        return {
            "id": it.id,
            "state": str(it.state),
            "primary": it.primary,
            "failovers": it.failovers,
        }

    def _logs(self, caller: Caller, node: str, lines: int, follow: bool = False) -> str:
        name, logs = self._known(node), self._operations.backend.logs
        check_lines(lines)
        if follow:
            follow_log(lambda count: logs(name, count), lines, caller.send)
        return logs(name, lines)

    def _events(self, caller: Caller, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        log = self._operations.events
        if wait:
            self._waits.until(caller, lambda: len(log) > after, wait)
        return self._events_after(after)

    def _follow_events(self, caller: Caller, after: int = 0) -> None:
        log = self._operations.events
        while True:
            log.next(after, _HEARTBEAT)
            events = self._events_after(after)
            caller.send(events)
            after += len(events)

    def _events_after(self, after: int) -> list[dict[str, Any]]:
        events = self._operations.events.since(after)
        return [{"number": n, **event.as_dict()} for n, event in enumerate(events, after + 1)]

    def _link(self, _caller: Caller, link: str) -> LinkStatus:
        return self._link_status(self._operations.links[link])

    def _readings(self) -> Readings:
        it = self._operations
        return {"nodes": it.readings.read(), "heard": it.prober.heard()}

    def _values(self, _caller: Caller, node: str, keys: Sequence[str], length: int) -> object:
        if self._operations.topology.node(self._known(node)).service is not Kind.REDIS:
            raise CachesimError(f"{node} is no Redis node")
        return stored(self._operations.admin.redis(node), keys, length)

    def _wait(
        self,
        caller: Caller,
        what: str,
        shard: str | None = None,
        after: int | None = None,
        seconds: float | None = None,
        node: str | None = None,
    ) -> ShardStatus:
        waiting = self._operations.control_plane.shard(shard)
        known = None if node is None else self._known(node)
        self._waits.wait(caller, what, waiting, after, seconds, known)
        return self._shard(caller, shard)

    # --- breaking and restoring -------------------------------------------------------------

    def _apply(
        self,
        caller: Caller,
        faults: Sequence[Any],
        seconds: float | None = None,
        over: float | None = None,
        flap: tuple[float, float] | None = None,
    ) -> list[FaultData]:
        applied = self._operations.faults.apply(faults, Course(over, flap, seconds))
        if caller.has_hung_up:  # it was interrupted, and has nothing to heal them by
            for fault in applied:
                self._operations.faults.heal(fault.id)
            raise Hangup
        return [{**_as_data(fault), "seconds": seconds} for fault in applied]

    def _heal(self, _caller: Caller, fault: str | None = None) -> list[FaultData]:
        faults = self._operations.faults
        before = faults.active
        if fault is None:
            faults.heal_all()
        else:
            faults.heal(fault)
        return [_as_data(it) for it in before if fault in (None, it.id)]

    def _resume(self, _caller: Caller, node: str) -> None:
        self._operations.nodes.resume(self._known(node))

    def _restart(self, _caller: Caller, node: str) -> None:
        self._operations.nodes.replace(self._known(node))
        self._operations.events.record("restart", node, "by hand")

    def _replace(
        self, _caller: Caller, node: str, new_address: bool = False, hangs: bool = False
    ) -> NodeStatus:
        replacing = self._operations.replacing
        replacing.replace(self._known(node), new_address=new_address, hangs=hangs)
        return self._node_status(node)

    def _roll(
        self, _caller: Caller, new_addresses: bool = False, hangs: bool = False
    ) -> list[NodeStatus]:
        self._operations.replacing.roll(new_addresses=new_addresses, hangs=hangs)
        return self._operations.scaling.each(self._node_status)

    def _scale(self, _caller: Caller, memcached: int) -> list[NodeStatus]:
        self._operations.scaling.scale(memcached)
        return [it for it in self._operations.scaling.each(self._node_status) if it["role"] is None]

    def _reset(
        self,
        _caller: Caller,
        draws: str = "",
        timing: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        wanted = None if timing is None else Timing.from_dict(timing)
        self._restorer.reset(draws, timing=wanted, seed=seed)

    def _failover(
        self, caller: Caller, to: str | None = None, shard: str | None = None
    ) -> ShardStatus:
        before = self._shard(caller, shard)
        self._operations.control_plane.failover(to, shard=shard)
        return before

    def _set_timing(self, _caller: Caller, timing: Mapping[str, Any]) -> None:
        self._operations.control_plane.timing = Timing.from_dict(timing)

    def _suspend(self, caller: Caller) -> None:
        self._operations.control_plane.suspend(caller)

    # --- life -------------------------------------------------------------------------------

    def _lease(self, caller: Caller, settings: Mapping[str, Any]) -> Description:
        self._leases.take(caller, settings)
        return self.describe()

    def _return(self, caller: Caller) -> None:
        self._leases.end(caller, returned=True)

    def _offer(self, _caller: Caller) -> None:
        self._files.save_user(None)

    def _detach(self, caller: Caller) -> None:
        self._offer(caller)
        self._life.detach()

    def _down(self, caller: Caller, force: bool = False) -> None:
        if not force:
            self._leases.check_down(caller)
        caller.send(self._folder)
        self._life.request()
        self._life.wait_taken_down()

    # --- helpers ----------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._operations.provision.name

    @property
    def _folder(self) -> str | None:
        folder = self._operations.provision.folder
        return None if folder is None else str(folder)

    def _node_status(self, name: str) -> NodeStatus:
        topology = self._operations.topology
        node = topology.node(self._known(name))
        role = None
        if node.service is Kind.REDIS:
            shard = self._operations.control_plane.shards[topology.shard_of(name).id]
            role = str(Role.PRIMARY if name == shard.primary else Role.REPLICA)
        return {
            "name": name,
            "zone": node.zone,
            "role": role,
            "state": str(self._operations.nodes.state(name)),
            "endpoint": str(self._operations.backend.endpoint(name)),
        }

    def _link_status(self, link: Link) -> LinkStatus:
        links = self._operations.links
        proxy = links.server(link).proxy(link.name)
        return {
            "name": link.name,
            "listen": str(proxy["listen"]),
            "enabled": bool(proxy["enabled"]),
            "toxics": links.toxics(link),
        }

    def _known(self, name: str) -> str:
        nodes = [node.name for node in self._operations.provision.nodes]
        if name not in nodes:
            raise CachesimError(unknown("node", name, nodes))
        return name


def _as_data(fault: AppliedFault) -> FaultData:
    spec = fault.spec
    return {
        "id": fault.id,
        "kind": spec.kind,
        "target": spec.target,
        "fault": spec.as_dict(),
        "seconds": fault.remaining,
    }
