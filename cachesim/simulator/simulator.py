"""The public class `Simulator`: a topology that runs, from its start to its end."""

import atexit
import contextlib
import os
import secrets
import threading
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cachesim.backends.base import Progress
from cachesim.clock import Deadline
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.daemon import provisioning
from cachesim.daemon.operations import Operations
from cachesim.daemon.provisioning import Provider, Provision
from cachesim.daemon.readiness import wait_through_links
from cachesim.daemon.restoring import Restorer
from cachesim.errors import CachesimError, FaultError, StartError
from cachesim.events import EventLog
from cachesim.faults.injector import Faults
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import find_run
from cachesim.runs.running import Running, WhileRunning, forget, not_running
from cachesim.servers import clients
from cachesim.settings import Settings, load_settings
from cachesim.simulator.handles import (
    LinkHandles,
    NodeHandle,
    RedisShardHandle,
    ZoneHandle,
    handles_of,
)
from cachesim.topology import production

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.cluster import RedisCluster


def _silent(_line: str) -> None:
    pass


class Simulator:
    """A production cache topology on this machine, to be broken on purpose.

    Use it as a context manager, or call `start` and `stop`. Every method is synchronous and
    thread-safe. Before the start and after the stop, what needs a running topology raises
    NotRunning; so do, in a forked child, faults and all else that would change it.

    Args:
        settings: all settings at once; None: they are loaded, from `arguments` first, then from
            environment, file and defaults.
        arguments: single settings by name, such as `engine="valkey"`, `speed=30`, `seed=7`.

    Raises:
        SettingsError: a setting is wrong.

    Attributes:
        name: the topology's name.
        seed: the seed of all random draws.
        events: the event log.
        backend_reason: why this backend was chosen; empty before the start.
        shards: the Redis shards.
        nodes: every node, by its name.
        memcached: the Memcached nodes, by zone.
        zones: the availability zones, by name.
        links: every link, by source, target and service.
        faults: applies faults.
        control_plane: fails over and replaces nodes.
    """

    shards = WhileRunning[tuple[RedisShardHandle, ...]]()
    nodes = WhileRunning[dict[str, NodeHandle]]()
    memcached = WhileRunning[dict[str, NodeHandle]]()
    zones = WhileRunning[dict[str, ZoneHandle]]()
    links = WhileRunning[LinkHandles]()
    faults = WhileRunning[Faults]()
    control_plane = WhileRunning[ControlPlane]()
    _provision = WhileRunning[Provision]()
    _running = WhileRunning[Running]()

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        self.settings = settings or load_settings(arguments).settings
        self.topology = production(self.settings.memory_scale)
        self.name = self.settings.name or secrets.token_hex(3)
        self.seed = secrets.randbits(32) if self.settings.seed is None else self.settings.seed
        self.events = EventLog()
        self.backend_reason = ""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._life: contextlib.ExitStack | None = None
        self._provide: Provider = self._start_servers

    @classmethod
    def attach(cls, name: str | None = None, **arguments: Any) -> Self:
        """Return a simulator that leases a topology of `cachesim up`, from `start` to `stop`.

        Meanwhile this process applies the faults and has a control plane of its own; the owner's is
        suspended. At the end all faults are healed; the data and the primary stay. If this process
        dies, the owner resets the topology.

        Args:
            name: the topology's name; None: the one in the settings, or else the only free one.
            arguments: settings by name for the time of the lease, such as `speed=30`.

        Raises:
            CachesimError: no topology is up and free, or several are.
            SettingsError: a setting is wrong.
        """
        run = find_run(name)
        sim = cls(load_settings({**arguments, "name": run.name}).settings)
        asked = {k: getattr(sim.settings, k) for k, v in arguments.items() if v is not None}
        sim._provide = partial(provisioning.lease, run, asked, sim.seed)
        return sim

    @classmethod
    def attach_composed(
        cls, folder: Path, settings: Settings | None = None, **arguments: Any
    ) -> Self:
        """Return a simulator for containers that `docker compose` has brought up.

        At the end all faults are healed; the containers keep their data and their primary.

        Args:
            folder: a folder that `cachesim compose` has written. The name and the settings that it
                was written with override the other settings.
            settings: all settings at once; None: they are loaded, as for the class.
            arguments: single settings by name, such as `speed=30`, `seed=7`.

        Raises:
            StartError: `cachesim compose` has not written this folder, or it has no secrets.
            BackendUnavailable: no Docker engine answers.
            SettingsError: a setting is wrong.
        """
        from cachesim.backends.compose.backend import ComposeBackend

        settings = settings or load_settings(arguments).settings
        backend = ComposeBackend(folder, settings.start_timeout_seconds)
        sim = cls(settings.model_copy(update=backend.composed.settings))
        sim._provide = partial(
            provisioning.take_over_composed, backend, sim.name, sim.settings, sim.seed
        )
        return sim

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress = _silent) -> Self:
        """Start the topology, and return when every node is ready through its client link.

        Args:
            progress: called with a short line when a step begins.

        Raises:
            StartError: it did not start; nothing is left behind.
            SettingsError: attached, a setting differs from the owner's.
            CachesimError: attached, the owner did not lend the topology.
        """
        with self._lock:
            if self._life is not None:
                raise StartError(f"the topology {self.name!r} is running already: stop it first")
            self._pid = os.getpid()
            with contextlib.ExitStack() as life:
                self._bring_up(progress, life)
                # A killed process does not get here: the next start removes what it leaves.
                atexit.register(self.stop)
                life.callback(atexit.unregister, self.stop)
                life.callback(self.events.end, not_running(self.name))
                self.events.go_on()
                self._life = life.pop_all()
            self.events.record("started", self.name, f"on {self.backend}, seed {self.seed}")
        return self

    def stop(self) -> None:
        """Stop the topology, whatever its state. Repeating it is harmless.

        After `attach` and `attach_composed` it is healed and goes on running. In a forked child,
        which does not own the topology, nothing happens.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            life, self._life = self._life, None
            if life is not None:
                life.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_servers(self, progress: Progress, life: contextlib.ExitStack) -> Provision:
        return provisioning.start(self.name, self.settings, self.seed, progress, life)

    def _bring_up(self, progress: Progress, life: contextlib.ExitStack) -> None:
        it = self._provide(progress, life)
        life.callback(forget, self)
        self._provision, self._running = it, Running(self.name)
        self.settings, self.topology, self.seed = it.settings, it.topology, it.seed
        self.backend_reason = it.reason
        if it.folder is not None:
            life.callback(self._leave_healthy, it)
        if it.files is not None:  # the owner of a leased topology has waited already
            progress("waiting until all is ready through the links")
            wait_through_links(it, Deadline(self.settings.start_timeout_seconds))
        self._operate()
        life.callback(self._close)
        if it.files is not None:
            it.files.save_env(self.env())
        else:
            life.callback(self._leave_healed)

    def _close(self) -> None:
        self._running.end()
        self._operations.close()

    def _operate(self) -> None:
        """Start what watches the topology, and make the handles for users."""
        self._operations = it = Operations(self._provision, self.events, self._running)
        self._restorer = Restorer(it)
        self.faults, self.control_plane = it.faults, it.control_plane
        self.shards, self.nodes, self.memcached, self.zones, self.links = handles_of(it)

    @property
    def redis(self) -> RedisShardHandle:
        """The only Redis shard.

        Raises:
            CachesimError: there are several.
        """
        if len(self.shards) > 1:
            raise CachesimError(
                f"the topology {self.name!r} has {len(self.shards)} Redis shards: choose one of "
                "`shards`, such as `shards[0]`."
            )
        return self.shards[0]

    # --- leases -----------------------------------------------------------------------------

    def lend(self) -> dict[str, Any]:
        """Stop operating the topology: another process does so until `take_back`.

        Returns:
            The data that `attach` needs in that process, secrets included.

        Raises:
            FaultError: a fault or a failover is active.
        """
        with self._lock, self.control_plane.suspended():
            if active := self.faults.active:
                raise FaultError(
                    f"the topology {self.name!r} has faults ({active[0]}): "
                    f"`cachesim heal --name {self.name}` first."
                )
            for shard in self.shards:
                if shard.state is not State.AVAILABLE:
                    raise FaultError(
                        f"the topology {self.name!r} is {shard.state}: wait until `cachesim "
                        f"status` says {State.AVAILABLE}, or `cachesim reset --name {self.name}`."
                    )
        with self._lock:
            self._operations.close()
            backend = self._provision.backend
            nodes = [node.name for node in self.topology.nodes]
            return {
                "settings": self.settings.model_dump(mode="json"),
                "backend": backend.name,
                "endpoints": {node: str(backend.endpoint(node)) for node in nodes},
                "admin": {node: str(backend.admin(node)) for node in nodes},
                "toxiproxy": {z.name: backend.toxiproxy(z.name) for z in self.topology.zones},
                "admin_password": self._provision.credentials.admin_password,
                "ca_file": str(self._provision.ca_file),
                "token_file": str(self._provision.token_file),
            }

    def take_back(self, *, reset: bool) -> None:
        """Operate the topology again.

        Args:
            reset: whether to reset it, because the process that leased it died.
        """
        with self._lock:
            if self._life is None:
                return  # it was stopped meanwhile
            self._operate()
            with self.control_plane.suspended():
                if reset:
                    self._restorer.start_nodes()
                    self.reset()
                    return
                primaries = self._restorer.make_healthy()
                self.control_plane.restart(primaries, str(self.seed))

    def _leave_healed(self) -> None:
        """Heal a leased topology before it is returned. If that fails, the owner heals it."""
        with contextlib.suppress(CachesimError, RuntimeError):  # no threads when Python ends
            self.heal()

    def _leave_healthy(self, it: Provision) -> None:
        """Restore the servers that docker compose keeps. If that fails, the next attach does it."""
        # docker compose may have taken them down before.
        with contextlib.suppress(Exception):
            # The old operations are closed, and another process may have had the topology since.
            operations = Operations(it, self.events, Running(self.name))
            with contextlib.closing(operations):
                # For good, or it might replace a node because of an old failure.
                operations.control_plane.stop()
                Restorer(operations).make_healthy()

    # --- between tests ----------------------------------------------------------------------

    def heal(self) -> None:
        """Heal every fault, and undo what was done to the proxies by hand."""
        self.faults.heal_all()

    def reset(
        self, draws: str = "", *, timing: Timing | None = None, seed: int | None = None
    ) -> None:
        """Make the topology as new: healed, all nodes up, the first primary is primary, empty.

        Args:
            draws: with the seed, determines all random draws until the next reset.
            timing: the control plane's timing until the next reset; None: the settings'.
            seed: used until the next reset; None: the topology's.

        Raises:
            FaultError: a node stayed unhealthy; the message names it and has its log.
            NotRunning: the topology does not run, or belongs to another process.
        """
        self._running.check()
        with self._lock:
            self._restorer.reset(draws, timing=timing, seed=seed)
            for shard in self.shards:
                shard.forget_failovers()

    # --- for clients ------------------------------------------------------------------------

    def redis_cluster(self, **overrides: Any) -> "RedisCluster":
        """Return a RedisCluster with AUTH, TLS and timeouts of 0.5 s.

        Args:
            overrides: keyword arguments of RedisCluster; they win.
        """
        it = self._provision
        nodes = it.endpoints(self.topology.redis)
        return clients.redis_cluster(nodes, it.credentials.token, it.ca_file, **overrides)

    def memcached_client(self, **overrides: Any) -> "HashClient":
        """Return a HashClient with TLS, pools and timeouts of 0.5 s.

        Args:
            overrides: keyword arguments of HashClient; they win.
        """
        nodes = self._provision.endpoints(self.topology.memcached)
        return clients.memcached_client(nodes, self._provision.tls, **overrides)

    def toxiproxy(self, zone: str) -> Any:
        """Return toxiproxy-python's `Toxiproxy` for one zone's proxies."""
        name = self.topology.zone(zone).name
        with self._lock:  # it imports a module
            return clients.toxiproxy(name, self._provision.backend.toxiproxy(name))

    def env(self) -> dict[str, str]:
        """Return the variables that a service reads, by name, secrets included."""
        return self._provision.env()

    @property
    def files(self) -> RunFiles:
        """The files of the run, for the process that owns the topology."""
        if self._provision.files is None:
            raise StartError(f"another process owns the topology {self.name!r} and its files")
        return self._provision.files

    @property
    def provision(self) -> Provision:
        """The servers, for the process that owns the topology."""
        return self._provision

    @property
    def backend(self) -> str:
        """The backend's name, such as `docker`."""
        return self._provision.backend.name

    def __repr__(self) -> str:
        state = "stopped" if self._life is None else "running"
        return f"<Simulator {self.name}, {state}, seed {self.seed}>"
