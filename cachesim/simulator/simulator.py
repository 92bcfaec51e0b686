"""The public class `Simulator`: a topology that runs, from its start to its end."""

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cachesim.errors import CachesimError, NotRunning, SettingsError, StartError
from cachesim.runs.calls import Call
from cachesim.runs.registry import Run, find_run
from cachesim.simulator.event_mirror import EventMirror
from cachesim.simulator.for_clients import ForClients
from cachesim.simulator.launching import DaemonProcess, is_json, load
from cachesim.simulator.session import STUCK, Session, leased, owned, shared
from cachesim.simulator.spare import spare
from cachesim.simulator.while_running import WhileRunning, forget
from cachesim.topology import FEWEST_MEMCACHED, Endpoint, production

if TYPE_CHECKING:
    from cachesim.control_plane.timing import Timing
    from cachesim.settings import Settings
    from cachesim.simulator.faults import Faults
    from cachesim.simulator.handles import (
        LinkHandles,
        NodeHandle,
        RedisShardHandle,
        ZoneHandle,
    )
    from cachesim.simulator.monitoring import Alarms, Inbox, Metrics
    from cachesim.simulator.observe import Observer
    from cachesim.simulator.servers import Servers

Progress = Callable[[str], None]
"""Called with a short line when a step of the start begins."""


def _given(arguments: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that are given; None means not given."""
    return [key for key, value in arguments.items() if value is not None]


def _check_whole(settings: object, arguments: Mapping[str, Any]) -> None:
    """Raise SettingsError unless these are all settings at once, and there are no others."""
    from cachesim.settings import Settings  # imported already, if it is as it should be

    if not isinstance(settings, Settings):
        raise SettingsError(
            f"settings = {settings!r}: should be a cachesim.settings.Settings. Give single ones by "
            'name, such as name="demo", speed=30.'
        )
    if given := _given(arguments):
        raise SettingsError(
            f"{', '.join(given)}: `settings` has all settings at once. Leave them out, or use "
            "settings.model_copy(update=...)."
        )


class Simulator(ForClients):
    """A production cache topology on this machine, to be broken on purpose.

    It runs in a process of its own, which ends with this one. Use it as a context manager, or call
    `start` and `stop`. Every method is synchronous and thread-safe. Before the start and after the
    stop, what needs a running topology raises NotRunning; so do, in a forked child, faults and all
    else that would change it.

    Args:
        settings: all settings at once; None: they are loaded, from `arguments` first, then from
            environment, file and defaults.
        arguments: single settings by name, such as `engine="valkey"`, `speed=30`, `seed=7`.

    Raises:
        SettingsError: a setting is wrong.
        StartError: no process can be started.

    Attributes:
        name: the topology's name.
        seed: the seed of all random draws.
        topology: its zones, nodes and links.
        events: the event log.
        backend_reason: why this backend was chosen; empty before the start.
        shards: the Redis shards.
        nodes: every node, by its name.
        memcached: the Memcached nodes, by zone.
        zones: the availability zones, by name.
        links: every link, by source, target and service.
        faults: applies faults.
        servers: what the servers say and have.
        control_plane: fails over and replaces nodes.
        metrics: the metrics of all nodes, under their CloudWatch names.
        alarms: the alarms on them, by name; `inbox` has their messages.
    """

    shards: "WhileRunning[tuple[RedisShardHandle, ...]]" = WhileRunning()
    memcached: "WhileRunning[dict[str, NodeHandle]]" = WhileRunning()
    zones: "WhileRunning[dict[str, ZoneHandle]]" = WhileRunning()
    links: "WhileRunning[LinkHandles]" = WhileRunning()
    faults: "WhileRunning[Faults]" = WhileRunning()
    servers: "WhileRunning[Servers]" = WhileRunning()
    metrics: "WhileRunning[Metrics]" = WhileRunning()
    alarms: "WhileRunning[Alarms]" = WhileRunning()
    inbox: "WhileRunning[Inbox]" = WhileRunning()

    def __init__(self, settings: "Settings | None" = None, **arguments: Any) -> None:
        self._prepare(settings, arguments)

    def _prepare(
        self,
        settings: "Settings | None",
        arguments: dict[str, Any],
        *,
        folder: Path | None = None,
        process: DaemonProcess | None = None,
    ) -> None:
        self._folder = folder
        if settings is not None:
            _check_whole(settings, arguments)
        elif not is_json(arguments):
            settings = load(arguments)
        order: dict[str, Any] = {"arguments": arguments}
        if settings is not None:
            order = {"settings": settings.model_dump(mode="json")}
        # The topology's process completes them: it is needed soon, and reads settings anyway.
        if process is None and (settings is None or folder is not None):
            process = spare().take()
        if process is not None:
            process.order(order, folder)
            for part in ("handles", "monitoring", "servers"):  # while it reads the settings
                import_module(f"cachesim.simulator.{part}")
            order["settings"] = process.settings()
        self._settings: dict[str, Any] = order["settings"]
        self._present: dict[str, Any] = {}  # what the last reset has changed
        self._process = process
        self.topology = production(self._settings["memory_scale"])
        self.name: str = self._settings["name"] or os.urandom(3).hex()
        seed = self._settings["seed"]
        self.seed: int = int.from_bytes(os.urandom(4)) if seed is None else seed
        self.events = EventMirror(self.name)
        self.backend_reason = ""
        self._run: Run | None = None
        self._leases = True
        self._asked: dict[str, Any] = {}
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._life: contextlib.ExitStack | None = None

    @classmethod
    def prepared(
        cls, process: DaemonProcess, settings: "Settings", folder: Path | None = None
    ) -> Self:
        """Return a simulator for a process that was started before, so that it could get ready.

        Args:
            folder: a folder of `cachesim compose`, as for `attach_composed`.
        """
        sim = cls.__new__(cls)
        sim._prepare(settings, {}, folder=folder, process=process)
        return sim

    @classmethod
    def attach(cls, name: str | None = None, *, lease: bool = True, **arguments: Any) -> Self:
        """Return a simulator that leases a topology that is up, from `start` to `stop`.

        Meanwhile other clients may only look at it. At the end all faults are healed; the data and
        the primary stay. If this process dies, the topology is reset.

        Args:
            name: the topology's name; None: the one in the settings, or else the only free one.
            lease: False: it is shared with other clients, and stays as it is at the end.
            arguments: settings by name for the time of the lease, such as `speed=30`.

        Raises:
            CachesimError: no topology is up and free, or several are.
            SettingsError: a setting is wrong.
        """
        asked = _given(arguments)
        if asked and not lease:
            raise SettingsError(
                f"{', '.join(asked)}: settings are changed for the time of a lease. Leave them "
                "out, or leave out lease=False."
            )
        run = find_run(name)
        settings = load({**arguments, "name": run.name})
        sim = cls(settings)
        given = settings.model_dump(mode="json")
        sim._run, sim._leases = run, lease
        sim._asked = {key: given[key] for key in asked}
        return sim

    @classmethod
    def attach_composed(
        cls,
        folder: Path,
        settings: "Settings | None" = None,
        **arguments: Any,
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
        sim = cls.__new__(cls)
        sim._prepare(settings, arguments, folder=folder)
        return sim

    @property
    def settings(self) -> "Settings":
        """The settings, with those of a lease and of the last `reset`."""
        from cachesim.settings import Settings  # slow to import

        return Settings.model_validate(self._settings | self._present)

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress = lambda _line: None) -> Self:
        """Start the topology, and return when every node is ready through its client link.

        Args:
            progress: called with a short line when a step begins.

        Raises:
            StartError: it did not start; nothing is left behind.
            SettingsError: attached, a setting differs from the topology's.
            CachesimError: attached, the topology can't be leased.
        """
        with self._lock:
            if self._life is not None:
                raise StartError(f"the topology {self.name!r} is running already: stop it first")
            if os.getpid() != self._pid:
                self._process = None  # that of the parent, which has forked this process
            self._pid = os.getpid()
            with contextlib.ExitStack() as life:
                self._use(life.enter_context(self._begin(progress)), life)
                # If this process is killed, the topology's process takes everything down.
                atexit.register(self.stop)
                life.callback(atexit.unregister, self.stop)
                self._life = life.pop_all()
        if self._run is None:
            spare().keep(self._settings)
        return self

    def stop(self) -> None:
        """Stop the topology, whatever its state. Repeating it is harmless.

        After `attach` and `attach_composed` it is healed and goes on running. In a forked child,
        which does not own the topology, nothing happens.

        Raises:
            NotRunning: the topology's process has died. The message has the tail of its log.
            CachesimError: not everything could be taken down.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            life, self._life = self._life, None
            if life is not None:
                life.close()

    def detach(self) -> None:
        """Leave it running, until `cachesim down`; healed, if it was leased. This is as stopped."""
        with self._lock:
            self._session.detach()
            self.stop()

    def lease(self) -> None:
        """Let other clients only look at the topology, until it ends."""
        with self._lock:
            self._session.lease()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except NotRunning:
            if error is None:  # else the block's own error says more
                raise

    def _begin(self, progress: Progress) -> "contextlib.AbstractContextManager[Session]":
        if self._run is not None:
            progress(f"attaching to {self._run.name} of process {self._run.owner.pid}")
            return leased(self._run, self._asked) if self._leases else shared(self._run)
        process, self._process = self._process or spare().take(), None
        process.order({"settings": self._settings}, self._folder)
        return owned(process, self.name, self.seed, progress)

    def _use(self, session: Session, life: contextlib.ExitStack) -> None:
        """Make the handles for users, until the end of a life."""
        from cachesim.simulator.faults import Faults
        from cachesim.simulator.handles import ControlPlaneHandle, Means, handles_of
        from cachesim.simulator.monitoring import Alarms, Inbox, Metrics
        from cachesim.simulator.servers import Servers

        self._session = session
        life.callback(self._forget)
        it, connection = session.description, session.connection
        self._settings, self.seed, self._present = it["settings"], it["seed"], {}
        self.topology = production(self._settings["memory_scale"])
        self.backend_reason = it["reason"]
        self.faults, self.servers = Faults(self.topology, connection), Servers(connection)
        self.metrics, self.alarms = Metrics(connection), Alarms(connection)
        self.inbox = Inbox(connection)
        endpoints = {k: Endpoint.parse(v) for k, v in it["endpoints"].items()}
        configuration = {k: Endpoint.parse(v) for k, v in it["configuration"].items()}
        means = Means(self.topology, connection, self.faults, endpoints, configuration)

        def take() -> None:
            """Make the handles, again when nodes were added or removed."""
            self.shards, self.nodes, self.memcached, self.zones, self.links = handles_of(means)

        self._scaled = partial(means.scale, then=take)
        self.control_plane = ControlPlaneHandle(means, self._scaled)
        self._scaled(it["memcached"])
        self.events.follow(connection, session.first_event)

    def _forget(self) -> None:
        """Let everything that needs a running topology raise NotRunning."""
        self._session.wake()
        self.events.catch_up(STUCK)
        self._session.connection.end()
        forget(self)

    @property
    def redis(self) -> "RedisShardHandle":
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

    # --- between tests ----------------------------------------------------------------------

    def heal(self) -> None:
        """Heal every fault, and undo what was done to the proxies by hand."""
        self.faults.heal_all()

    def reset(
        self, draws: str = "", *, timing: "Timing | None" = None, seed: int | None = None
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
        wanted = timing and timing.as_dict()
        self._session.connection.call(Call.RESET, draws=draws, timing=wanted, seed=seed)
        self._scaled(FEWEST_MEMCACHED)
        changed: dict[str, Any] = timing.as_settings() if timing else {}
        self._present = changed if seed is None else {**changed, "seed": seed}

    def refresh(self) -> None:
        """Make handles for Memcached nodes that other clients have added, and drop removed ones.

        Raises:
            NotRunning: the topology does not run, or belongs to another process.
        """
        nodes = self._session.connection.call(Call.STATUS)["nodes"]
        self._scaled(len(nodes) - len(self.topology.redis))

    # --- for clients ------------------------------------------------------------------------

    def observe(self, target: object, every: float = 0.02, **options: Any) -> "Observer":
        """Return what makes small operations beside a test: an `Observer` with these arguments."""
        from cachesim.simulator.observe import Means, Observer

        return Observer(target, Means.of(self), every=every, **options)

    @property
    def backend(self) -> str:
        """The backend's name, such as `docker`."""
        return self._session.description["backend"]

    def __repr__(self) -> str:
        state = "stopped" if self._life is None else "running"
        return f"<Simulator {self.name}, {state}, seed {self.seed}>"
