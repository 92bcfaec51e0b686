"""Runs a timeline on a topology under a workload, and records the history of it.

`run` returns the history's file, of which checkers and reports are made. See
`docs/reference/scenarios.md` for what is done when.
"""

import contextlib
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.control_plane.states import State
from cachesim.errors import CachesimError, WorkloadError
from cachesim.events import Event
from cachesim.history.reader import History, Span
from cachesim.history.recorder import Recorder
from cachesim.scenarios.checkers import recovery
from cachesim.scenarios.running.addresses import access_of, follow, ways_of
from cachesim.scenarios.running.alarms import AlarmWatch
from cachesim.scenarios.running.beats import Beats
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.course import Course, Interrupted, is_calm
from cachesim.scenarios.running.cuts import Cutter, settling_of_names
from cachesim.scenarios.running.final_reads import final_reads
from cachesim.scenarios.running.firing import Firing
from cachesim.scenarios.running.operations import Workload, WorkloadOf
from cachesim.scenarios.running.sampling import EventFollower, Sampler, roles_in
from cachesim.scenarios.running.traffic import Traffic
from cachesim.scenarios.running.witnesses import Witnesses, medians, touched
from cachesim.scenarios.targets import Roles
from cachesim.scenarios.timeline import Timeline
from cachesim.topology import NodeState

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator

HISTORY = "history.sqlite"
"""The name of the history in a run's folder."""
RUNS = Path("cachesim-runs")
"""The folder of all runs' folders, where none is given."""
_SOON = 0.3  # seconds from the word to begin until the first operation is due
_HASTE = 1.0  # seconds for calls under way when a run is cut short
_EPS = 0.005  # seconds that a reading may be off, at least
_LOOKS = 5  # tries to get an answer of all Redis nodes


def folder_of(name: str, seed: int) -> Path:
    """Return the folder of a run that begins now, where none is given."""
    return RUNS / f"{name}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def run(
    sim: "Simulator",
    timeline: Timeline,
    folder: Path,
    *,
    workload: WorkloadOf,
    progress: Callable[[str], None] = lambda _line: None,
    begun: Callable[[], None] = lambda: None,
    is_interrupted: Callable[[], bool] = lambda: False,
    quiet_cut: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Run a timeline, and return the history of the run.

    The topology is reset before, and healed after it. Nobody else should change it meanwhile: have
    its lease. However the run ends, its history can be read up to then.

    Args:
        sim: a topology that runs, with the timing of the run.
        folder: of the run. It is made; it must not have a history.
        workload: makes the operations.
        progress: called with a short line when something happens.
        begun: called when the workload begins.
        is_interrupted: looked at several times a second. True: the run ends in order, cut short.
        quiet_cut: cut holds in which all is as before; for a run at speed 1.
        facts: further facts of the run for the history, by key.

    Raises:
        SettingsError: the timeline can't run so: see `Timeline.check`.
        CachesimError: the folder has a history, the topology can't be reset, or the workload does
            not start.
    """
    timeline.check(sim.backend, sim.control_plane.timing.speed, quiet_cut=quiet_cut)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / HISTORY
    if path.exists():
        raise CachesimError(f"{folder} has the record of a run already: give another folder")
    with contextlib.ExitStack() as life:
        recorder = Recorder(path)
        life.callback(recorder.close, seal=True)
        it = _Run(sim, timeline, recorder, path, progress, is_interrupted, quiet_cut, life)
        is_complete = False
        try:
            it.prepare(workload(sim, timeline, path), facts or {})
            begun()
            it.go()
            is_complete = True
        except Interrupted as error:
            recorder.set("interrupted", str(error))
        except BaseException as error:
            recorder.set("interrupted", f"{type(error).__name__}: {error}")
            raise
        finally:
            it.end(is_complete=is_complete)
    return path


class _Run:
    """One run, from its preparation to its end."""

    def __init__(
        self,
        sim: "Simulator",
        timeline: Timeline,
        recorder: Recorder,
        path: Path,
        progress: Callable[[str], None],
        is_interrupted: Callable[[], bool],
        quiet_cut: bool,
        life: contextlib.ExitStack,
    ) -> None:
        self._sim = sim
        self._timeline = timeline
        self._recorder = recorder
        self._path = path
        self._say = progress
        self._is_interrupted = is_interrupted
        self._quiet_cut = quiet_cut
        self._life = life
        self._timing = sim.control_plane.timing
        self._speed = self._timing.speed
        self._workload: Workload | None = None
        self._firing: Firing | None = None
        self._client: dict[str, float] = {}
        self._workload_eps = 0.0
        self._failure: str | None = None
        self._alarms: AlarmWatch | None = None

    # --- before -------------------------------------------------------------------------------

    def prepare(self, workload: Workload, facts: Mapping[str, Any]) -> None:
        """Make the topology as new, watch it, and get the workload ready."""
        sim, timeline = self._sim, self._timeline
        self._say("resetting the topology")
        draws = f"scenario {timeline.scenario.name}"
        sim.reset(draws, timing=self._timing, seed=timeline.seed)
        self._alarms = AlarmWatch(sim, timeline.expect.get("alarms", {}))
        self._beats = self._life.enter_context(contextlib.closing(self._make_beats()))
        self._sampler = Sampler(sim.servers.readings, self._recorder.add, self._beats)
        self._life.callback(self._sampler.close)
        self._log = EventFollower(sim, self._recorder.add, self._happened)
        self._life.callback(self._log.close)
        self._record_facts(facts)
        for part in (self._beats, self._sampler, self._log):
            part.start()
        self._workload = self._life.enter_context(workload)
        self._say("opening the workload's pools")
        self._workload.open()
        self._record_client(self._workload)

    def _make_beats(self) -> Beats:
        from cachesim.runs import env as names
        from cachesim.servers.certificates import client_context

        sim, env = self._sim, self._sim.env()
        return Beats(
            {node.name: node.endpoint for node in sim.nodes.values()},
            frozenset(node.name for node in sim.topology.redis),
            token=partial(Path(env[names.REDIS_PASSWORD_FILE]).read_text, encoding="utf-8"),
            tls=client_context(Path(env[names.CA_FILE]).read_bytes()),
            primary=sim.redis.primary.name,
            record=self._recorder.add,
        )

    def _record_facts(self, facts: Mapping[str, Any]) -> None:
        timeline, scenario = self._timeline, self._timeline.scenario
        found: dict[str, Any] = {
            "scenario": timeline.as_dict(),
            "expect": timeline.expect,
            "steady": {
                name: it.model_dump(exclude_none=True)
                for name, it in scenario.baseline.steady.items()
            },
            "seed": timeline.seed,
            "speed": self._speed,
            "quiet_cut": self._quiet_cut,
            "settings": self._sim.settings.model_dump(mode="json"),
            "backend": self._sim.backend,
            "versions": _versions(),
            "deadline": scenario.deadline,
            "utc_offset": time.time() - time.monotonic(),
            **facts,
        }
        for key, value in found.items():
            self._recorder.set(key, value)

    def _record_client(self, workload: Workload) -> None:
        declared = self._timeline.scenario.client.model_dump(exclude_none=True)
        self._client = {**workload.profile, **(declared if not workload.profile else {})}
        self._recorder.set("client", self._client)
        self._recorder.set("clients", dict(workload.profiles))
        self._recorder.set("pods", len(workload.alive))
        self._recorder.set("pool", workload.pool)

    def _happened(self, event: Event) -> None:
        is_node = event.data.get("source_type") != "replication-group"
        if event.kind in ("failover", "role") and is_node:
            self._beats.primary = event.source
        follow(event, self._beats, self._workload)

    # --- meanwhile ----------------------------------------------------------------------------

    def go(self) -> None:
        """Run the baseline, the timeline, and the quiet after it.

        Raises:
            Interrupted: the run is to end.
        """
        assert self._workload is not None  # noqa: S101 - for the type checker
        scenario, say = self._timeline.scenario, self._say
        begin = time.monotonic() + _SOON
        self._workload.begin(begin)
        traffic = self._life.enter_context(
            contextlib.closing(Traffic(self._path, scenario.deadline, begin))
        )
        course = Course(self._workload, traffic, lambda: self._log.events, say, self._is_to_end)
        baseline = Span(begin, begin + scenario.baseline.length)
        say(f"baseline, {scenario.baseline.length:g} s")
        course.sleep_until(baseline.end)
        self._recorder.set("baseline", baseline._asdict())
        clock = ProductionClock(baseline.end, self._speed)
        firing = self._firing = self._make_firing(baseline, clock)
        cutter = self._make_cutter(traffic, baseline) if self._quiet_cut else None
        course.fire(
            firing,
            clock,
            baseline.end,
            stop_if=scenario.stop_if,
            speed=self._speed,
            cutter=cutter,
        )
        if firing.heal_at is not None:
            self._recorder.set("heal_at", firing.heal_at)
            say("all is healed; waiting until all is as before")
            if not self._quiet_cut:
                end = clock.at(firing.heal_at) + self._timeline.recovery_within
                course.sleep_until(time.monotonic() + clock.until(scenario.duration or end))
            course.wait_recovered(firing, self._path, self._client.get("comeback"))
        firing.tick()

    def _is_to_end(self) -> bool:
        """Return whether the run is interrupted.

        Raises:
            Interrupted: the topology has ended.
        """
        if self._log.failure is not None:
            raise Interrupted(self._log.failure)
        return self._is_interrupted()

    def _make_firing(self, baseline: Span, clock: ProductionClock) -> Firing:
        sim = self._sim
        before = medians(self._beats, sim.nodes, baseline.begin)
        witnesses = Witnesses(
            sim.topology,
            self._beats,
            before,
            lambda: self._sampler.latest,
            access_of(sim, self._beats),
            ways_of(sim, self._beats),
        )
        return Firing(
            self._timeline,
            sim.topology,
            sim.faults,
            clock,
            self._speed,
            roles=self._roles,
            witness=witnesses.of,
            record=self._recorder.add,
            say=self._say,
        )

    def _make_cutter(self, traffic: Traffic, baseline: Span) -> Cutter:
        cuts: list[dict[str, float]] = []

        def cut(seconds: float, at: float) -> None:
            cuts.append({"at": at, "seconds": seconds})
            self._recorder.set("cuts", cuts)
            self._say(f"{seconds:.0f} s without anything new are cut")

        return Cutter(
            self._settling,
            is_calm=lambda seconds: is_calm(traffic, baseline, seconds),
            is_idle=self._is_idle,
            cut=cut,
        )

    def _settling(self) -> float:
        """Return for how long what faults changed may go on in a hold, in seconds."""
        faults = () if self._firing is None else self._firing.faults
        names = settling_of_names(faults, self._timing.dns_ttl[1])
        return max(self._comeback(), names)

    def _comeback(self) -> float:
        """Return the longest comeback of the clients whose nodes a fault touched, in seconds."""
        assert self._workload is not None  # noqa: S101 - for the type checker
        topology, profiles = self._sim.topology, self._workload.profiles
        if not profiles or self._firing is None:
            return self._client.get("comeback", recovery.UNDECLARED)
        reached = touched(topology, [it.as_dict() for it in self._firing.faults])
        used = {"sessions": topology.redis, "api_cache": topology.memcached}
        return max(
            (
                profile["comeback"]
                for service, profile in profiles.items()
                if any(node.name in reached for node in used[service])
            ),
            default=0.0,
        )

    def _is_idle(self) -> bool:
        """Return whether the control plane has nothing under way."""
        sim = self._sim
        if any(it.state in (State.DETECTING, State.PROMOTING) for it in sim.shards):
            return False
        dark = {
            str(fault.spec.as_dict()["zone"])
            for fault in sim.faults.active
            if fault.spec.name == "az-power"
        }
        # Any other node that does not run is about to be replaced.
        return all(
            node.state is NodeState.RUNNING or node.zone in dark for node in sim.nodes.values()
        )

    def _roles(self) -> Roles:
        """Return what the Redis nodes are now; those that are slow are asked again."""
        primary, count = self._sim.redis.primary.name, len(self._sim.topology.redis)
        for _ in range(_LOOKS):
            found = roles_in(self._sim.servers.readings(), primary)
            if found.primary is not None and len(found.replicas) == count - 1:
                break
        return found

    # --- after --------------------------------------------------------------------------------

    def end(self, *, is_complete: bool) -> None:
        """Heal, end the workload, and read what the nodes have.

        Args:
            is_complete: whether the run was not cut short.
        """
        if self._firing is not None and not is_complete:
            self._firing.stop()
            if self._firing.heal_at is not None:
                self._recorder.set("heal_at", self._firing.heal_at)
        if self._alarms is not None and (states := self._alarms.facts()) is not None:
            self._recorder.set("alarms", states)
        if not is_complete:
            with contextlib.suppress(CachesimError):  # the topology may be what has failed
                self._sim.heal()
        else:  # until all is read: a kill would leave a record that looks whole
            self._recorder.set("interrupted", "it ended before what the nodes have was read")
        if self._workload is not None:
            self._recorder.set("end_at", time.monotonic())
            self._say("ending the workload")
            patience = self._client.get("patience") if is_complete else _HASTE
            self._end_workload(self._workload, patience)
        if self._firing is not None:
            self._firing.finish()
        if is_complete:
            self._beats.close()  # else the primary gets writes all the time
            self._say("reading what the nodes have")
            self._recorder.flush()
            with History(self._path) as history:
                redis = [node.name for node in self._sim.topology.redis]
                for row in final_reads(history, self._sim.servers, redis):
                    self._recorder.add(row)
            fastest = min(self._sampler.fastest, 1.0)
            self._recorder.set("eps", max(_EPS, fastest / 2, self._workload_eps))
            self._recorder.set("interrupted", self._failure)

    def _end_workload(self, workload: Workload, patience: float | None) -> None:
        # Before the end: what is ended now has not failed.
        self._recorder.set("dead", dict(workload.dead))
        if (code := workload.command_code) is not None:
            self._recorder.set("command_code", code)
            self._recorder.set("command_ended_at", workload.command_ended_at)
        try:
            self._recorder.set("exit_codes", dict(workload.end(patience)))
        except WorkloadError as error:
            self._failure = f"the workload failed: {error}"
            self._recorder.set("interrupted", self._failure)
            self._say(str(error))
        self._workload_eps = workload.eps
        self._recorder.set("operations_eps", workload.eps)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": sys.platform}
    for name in ("cachesim", "redis", "pymemcache"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
