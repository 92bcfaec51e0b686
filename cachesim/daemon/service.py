"""The calls that the process of a topology answers for other processes of this user.

The operations are the methods `do_...` of `Service`: JSON in, JSON out. The process of a topology
answers while `serving` is entered; the command line and lease holders call `cachesim.runs.rpc`.
"""

import contextlib
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cachesim.errors import CachesimError, FaultError, InvalidFault, Leased
from cachesim.events import Event
from cachesim.faults.injector import Fault
from cachesim.runs.rpc import Caller, Hangup, Server
from cachesim.simulator.handles import NodeHandle, RedisHandle
from cachesim.simulator.simulator import Simulator

_LOOK = 0.5  # seconds between two reads of a node's log
_WINDOW = 1000  # lines that may be added between two reads
_HEARTBEAT = 5.0  # seconds within which the end of a caller that follows is noticed
_ALWAYS = ("status", "logs", "events", "backend", "down", "borrow")


class Life(Protocol):
    """Ends the process of the topology.

    Attributes:
        requested: whether the process is to end.
    """

    requested: bool

    def request(self) -> None:
        """Make the process end soon."""
        ...


@contextlib.contextmanager
def serving(sim: Simulator, life: Life) -> Iterator[None]:
    """Answer calls inside the context."""
    server = Server(sim.files.folder, Service(sim, life))
    try:
        yield
    finally:
        server.close()


class Service:
    """Answers calls; a `cachesim.runs.rpc.Handler`."""

    def __init__(self, sim: Simulator, life: Life) -> None:
        self._sim = sim
        self._life = life
        self._since = time.time()
        self._lock = threading.RLock()
        self._faults: dict[str, Fault] = {}
        self._numbers = itertools.count(1)
        self._holder: str | None = None
        self._lease: str | None = None
        self._leased_at: float | None = None  # None as soon as the holder has gone

    def __call__(self, caller: Caller, operation: str, arguments: dict[str, Any]) -> object:
        """Answer a call."""
        method = getattr(self, f"do_{operation}", None)
        if method is None:
            raise CachesimError(
                f"the process of the topology {self._sim.name!r} does not know {operation!r}: it "
                "runs another version of cachesim. Take the topology down and start it again."
            )
        if self._holder is not None and operation not in _ALWAYS:
            raise Leased(
                f"the topology {self._sim.name!r} is leased by {self._holder}: wait until it ends"
            )
        try:
            return method(caller, **arguments)
        except Exception as error:
            if self._life.requested:
                raise Hangup from error  # it failed because the topology is being taken down
            raise

    # --- looking ----------------------------------------------------------------------------

    def do_status(self, _caller: Caller) -> dict[str, Any]:
        """Return what runs, and its state."""
        sim = self._sim
        states = ", ".join(str(shard.state) for shard in sim.shards)
        return {
            "name": sim.name,
            "backend": sim.backend,
            "folder": self._folder,
            "engine": sim.settings.engine,
            "speed": sim.settings.speed,
            "seed": sim.seed,
            "pid": os.getpid(),
            "uptime_seconds": round(time.time() - self._since, 1),
            "borrowed_by": self._holder,
            "control_plane": None if self._holder else states,
            "nodes": [self._describe(node) for node in sim.nodes.values()],
            "faults": [] if self._holder else self._active(),
            "toxiproxy": {
                zone.name: sim.provision.backend.toxiproxy(zone.name) for zone in sim.topology.zones
            },
        }

    def do_logs(self, caller: Caller, node: str, lines: int, follow: bool) -> str | None:
        """Return the last lines of a node's log; with `follow`, send new lines in parts."""
        handle = self._node(node)
        if not follow:
            return handle.logs(lines)
        window = max(lines, _WINDOW)
        seen, told = handle.logs(window).splitlines(), time.monotonic()
        caller.send("\n".join(seen[-lines:]))
        while True:
            time.sleep(_LOOK)
            now = handle.logs(window).splitlines()
            news, seen = added(seen, now), now
            if news or time.monotonic() - told > _HEARTBEAT:
                caller.send("\n".join(news))
                told = time.monotonic()

    def do_events(self, caller: Caller, follow: bool) -> list[dict[str, Any]] | None:
        """Return the event log; with `follow`, send new events in parts."""
        log = self._sim.events
        if not follow:
            return [_as_json(event) for event in log]
        told = 0
        while True:
            events = log.next(told, _HEARTBEAT)
            told += len(events)
            caller.send([_as_json(event) for event in events])

    # --- breaking ---------------------------------------------------------------------------

    def do_fault(
        self, _caller: Caller, fault: Any, seconds: float | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Apply a fault, or all faults of a list or none.

        Args:
            fault: as `Faults.apply` takes it in JSON.
            seconds: the time after which the faults are healed.
        """
        is_time = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_time and seconds > 0):
            raise InvalidFault(f"seconds must be a number above 0, got {seconds!r}")
        applied = self._sim.faults.apply(fault)
        if isinstance(applied, Fault):
            return self._remember_for(applied, seconds)
        return [self._remember_for(it, seconds) for it in applied]

    def do_faults(self, _caller: Caller) -> list[dict[str, Any]]:
        """Return the active faults."""
        return self._active()

    def do_links(self, _caller: Caller) -> list[dict[str, Any]]:
        """Return all links with their toxics, including those added by hand."""
        return [
            {
                "name": link.name,
                "enabled": link.enabled,
                "toxics": [f"{it['type']} {it['stream']}" for it in link.toxics],
            }
            for link in self._sim.links.values()
        ]

    def do_heal(self, _caller: Caller, number: str | None) -> list[dict[str, Any]]:
        """Heal one fault, or all.

        Returns:
            The healed faults.
        """
        before = self._active()
        if number is None:
            self._sim.heal()
            return before
        there = {it["id"]: it for it in before}
        fault = self._faults.get(number)
        if number not in there or fault is None:
            raise CachesimError(
                f"no fault {number}: there are {', '.join(there) or 'none'}. "
                "`cachesim fault list` shows them."
            )
        fault.heal()
        return [there[number]]

    def do_reset(self, _caller: Caller) -> None:
        """Heal all faults, start all nodes, restore the first primary, and flush everything."""
        self._sim.reset()

    def do_node(self, _caller: Caller, verb: str, node: str) -> dict[str, Any]:
        """Kill, stop, pause, resume or restart a node."""
        handle = self._node(node)
        verbs: dict[str, Callable[[], Fault | None]] = {
            "kill": handle.kill,
            "stop": handle.stop,
            "pause": handle.pause,
            "resume": handle.resume,
            "restart": handle.restart,
        }
        if verb not in verbs:
            raise CachesimError(f"no verb {verb!r} for nodes: there are {', '.join(verbs)}")
        fault = verbs[verb]()
        if fault is not None:
            self._remember(fault)
        return self._describe(handle)

    def do_failover(self, _caller: Caller, to: str | None, wait: bool) -> dict[str, Any]:
        """Fail over, as ElastiCache's TestFailover does."""
        plane, events = self._sim.control_plane, self._sim.events
        before = plane.failovers
        plane.failover(to)
        if wait:
            limit = plane.timing.longest_failover + 10
            if not events.wait(lambda: plane.failovers > before, limit):
                raise FaultError(
                    f"the failover was not completed within {limit:g} s. `cachesim events` shows "
                    "what happened."
                )
        return {"primary": plane.primary, "state": str(plane.state)}

    # --- leases and the end -----------------------------------------------------------------

    def do_borrow(self, caller: Caller, pid: int) -> None:
        """Lease the topology to the caller until the caller returns it or ends."""
        lease = secrets.token_hex(8)
        with self._lock:
            if self._holder is not None:
                raise Leased(
                    f"the topology {self._sim.name!r} is leased by {self._holder} already. "
                    "Wait until it ends, or start another with `cachesim up -d --name ...`."
                )
            loan = self._sim.lend()
            self._holder, self._lease = f"process {pid}", lease
            self._leased_at = time.monotonic()
            self._sim.files.save_holder(self._holder)
        self._sim.events.record("leased", self._sim.name, f"by {self._holder}")
        returned = False
        try:
            caller.send({**loan, "lease": lease})
            returned = caller.receive() == "returned"
        except Hangup:
            pass
        finally:
            self._leased_at = None
            how = "by its holder" if returned else "as its holder has ended"
            try:
                self._sim.take_back(reset=not returned)
            except Exception as error:
                how += f", but not restored: {error}. `cachesim reset` may help"
                raise
            finally:
                self._holder = self._lease = None
                self._sim.files.save_holder(None)
                self._sim.events.record("returned", self._sim.name, how)

    def do_backend(
        self, _caller: Caller, lease: str, verb: str, arguments: Sequence[Any]
    ) -> object:
        """Call the backend for the holder of the lease."""
        backend = self._sim.provision.backend
        verbs: dict[str, Callable[..., object]] = {
            "state": backend.state,
            "kill": backend.kill,
            "shut_down": backend.shut_down,
            "pause": backend.pause,
            "resume": backend.resume,
            "start_node": backend.start_node,
            "truncate_aof": backend.truncate_aof,
            "renew_redis": backend.renew_redis,
            "logs": backend.logs,
            "renew_toxiproxy": backend.renew_toxiproxy,
        }
        if lease != self._lease or verb not in verbs:
            raise CachesimError("the lease of the topology has ended. Attach again.")
        return verbs[verb](*arguments)

    def do_down(self, _caller: Caller, force: bool = False) -> str | None:
        """End the process of the topology.

        Args:
            force: even while another process has the lease.

        Returns:
            The folder of `cachesim compose`, if its containers keep running.
        """
        if self._leased_at is not None and not force:
            raise Leased(
                f"the topology {self._sim.name!r} has been leased by {self._holder} for "
                f"{time.monotonic() - self._leased_at:.0f} s: wait until that ends, or end it. "
                f"`cachesim down --name {self._sim.name} --force` takes the topology down anyway."
            )
        self._life.request()
        return self._folder

    # --- helpers ----------------------------------------------------------------------------

    @property
    def _folder(self) -> str | None:
        folder = self._sim.provision.folder
        return None if folder is None else str(folder)

    def _remember(self, fault: Fault) -> str:
        with self._lock:
            number = str(next(self._numbers))
            self._faults[number] = fault
        return number

    def _remember_for(self, fault: Fault, seconds: float | None) -> dict[str, Any]:
        """Remember a fault, and heal it after some seconds."""
        number = self._remember(fault)
        if seconds is not None:
            timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._expire, [fault])
            timer.daemon = True
            timer.start()
        return {"id": number, "kind": fault.kind, "target": fault.target, "seconds": seconds}

    def _active(self) -> list[dict[str, Any]]:
        with self._lock:
            active = self._sim.faults.active
            self._faults = {n: f for n, f in self._faults.items() if f in active}
            return [
                {"id": number, "kind": fault.kind, "target": fault.target}
                for number, fault in self._faults.items()
            ]

    def _expire(self, fault: Fault) -> None:
        # If it was healed meanwhile, nothing happens. If it can't be healed, the event log says so.
        try:
            fault.heal()
        except CachesimError as error:
            self._sim.events.record("error", fault.target, f"{fault.kind} not healed: {error}")

    def _describe(self, node: NodeHandle) -> dict[str, Any]:
        role = node.role if isinstance(node, RedisHandle) and not self._holder else None
        return {
            "name": node.name,
            "zone": node.zone,
            "role": None if role is None else str(role),
            "state": str(node.state),
            "endpoint": str(node.endpoint),
        }

    def _node(self, name: str) -> NodeHandle:
        nodes: Mapping[str, NodeHandle] = self._sim.nodes
        if name not in nodes:
            raise CachesimError(f"no node {name!r}: there are {', '.join(nodes)}")
        return nodes[name]


def added(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the lines that a log has gained.

    Args:
        before: the last lines of the log, some time ago.
        now: the last lines now.
    """
    for start in range(len(before) + 1):
        rest = len(before) - start
        if before[start:] == now[:rest]:
            return list(now[rest:])
    return list(now)


def _as_json(event: Event) -> dict[str, Any]:
    return {
        "date": event.date.isoformat(timespec="milliseconds"),
        "monotonic_seconds": event.at,
        "kind": event.kind,
        "source": event.source,
        "message": event.message,
        "data": event.data,
        "text": str(event),
    }
