"""Runs of timelines on emulated topologies: what is done, what is recorded, and how they end."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from cachesim import Simulator
from cachesim.errors import CachesimError, WorkloadError
from cachesim.history.reader import History
from cachesim.runs.env import REDIS_PASSWORD
from cachesim.scenarios import runner
from cachesim.scenarios.checkers import Judgement
from cachesim.scenarios.checkers.faults_seen import problem_of
from cachesim.scenarios.files import read
from cachesim.scenarios.judging import judgement_of
from cachesim.scenarios.runner import run
from cachesim.scenarios.timeline import plan
from cachesim.scenarios.workloads import pods_of
from cachesim.topology import Endpoint

SHORT = """\
version: 1
name: short
baseline: {for: 2s}
workload:
  pods: 2
  sessions: {rate: 120, population: 100}
  api_cache: {rate: 60, population: 20}
timeline:
  - {id: crash, at: 10s, fault: kill, target: {role: primary}, for: 60s}
  - {id: after, after: {event: failover-completed}, fault: latency, ms: 300,
     target: {links: client-to-memcached-*}, for: 45s}
expect:
  lost_writes: {max: bound}
  recovery: {within: 60s}
"""


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology."""
    with Simulator(backend="embedded", speed=30, seed=7) as it:
        yield it


class Still:
    """A workload that does nothing.

    Attributes:
        did: what was asked of it.
    """

    profile = {"patience": 1.0, "comeback": 1.0}  # noqa: RUF012 - it is never changed
    profiles: dict[str, dict[str, float]] = {}  # noqa: RUF012
    pool = 1
    alive = ("p0",)
    dead: dict[str, str] = {}  # noqa: RUF012
    failure: str | None = None
    command_code: int | None = None
    command_ended_at: float | None = None
    eps = 0.5

    def __init__(self) -> None:
        self.did: list[str] = []

    def open(self) -> None:
        """Get ready."""
        self.did.append("open")

    def know(self, node: str, address: Endpoint) -> None:
        """Learn an address."""

    def begin(self, at: float) -> None:  # noqa: ARG002
        """Begin."""
        self.did.append("begin")

    def end(self, patience: float | None = None) -> dict[str, int]:
        """End."""
        self.did.append("end" if patience is None else "end soon")
        return {"p0": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.did.append("close")


@pytest.fixture(scope="module")
def record(sim: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The history of a short run."""
    said: list[str] = []
    path = run(
        sim,
        plan(read(SHORT, "short.yaml"), 3),
        tmp_path_factory.mktemp("run") / "it",
        workload=pods_of,
        progress=said.append,
        facts={"again": "cachesim run short"},
    )
    assert any(it.startswith("crash: kill on redis-a") for it in said), said
    assert not list(path.parent.glob("history.sqlite-*")), "it is one file"
    with History(path) as history:
        yield history


@pytest.fixture(scope="module")
def judgement(record: History) -> Judgement:
    """The verdict on it."""
    return judgement_of(record)


def test_faults_were_there(record: History, judgement: Judgement) -> None:
    """Each step was applied in its time, seen by a witness, and gone in the end."""
    crash, after = record.steps()
    assert (crash.id, after.id) == ("crash", "after")
    assert {crash.outcome, after.outcome} == {"applied"}
    for step in (crash, after):
        assert step.witness["seen"], step
        assert step.witness["gone"], step
        assert step.begin_call is not None
        assert step.end_call is not None
    assert crash.fault == {"fault": "kill", "nodes": ["redis-a"]}
    assert record.baseline is not None
    assert (crash.begin_call or 0) - record.baseline.end == pytest.approx(10 / 30, abs=1)
    assert (crash.end_call or 0) - (crash.begin_call or 0) == pytest.approx(2, abs=0.5)
    assert record.heal_at == max(crash.end_call or 0, after.end_call or 0)
    (failover,) = [
        it for it in record.events("failover") if it.data["source_type"] == "cache-cluster"
    ]
    assert failover.at <= (after.begin_call or 0) <= failover.at + 1
    faults = next(it for it in judgement.gates if it.name == "faults")
    assert faults.result == "pass", faults.reason


def test_facts(record: History) -> None:
    """The facts of the run are there, for whoever judges it without its topology."""
    meta = record.meta
    assert (meta["seed"], meta["speed"], meta["deadline"]) == (3, 30, 1)
    assert (meta["pods"], meta["pool"], meta["backend"]) == (2, 10, "embedded")
    assert meta["client"].keys() == {"patience", "comeback"}
    assert meta["clients"].keys() == {"sessions", "api_cache"}
    assert meta["expect"] == {"lost_writes": {"max": "bound"}, "recovery": {"within": 60}}
    assert meta["exit_codes"] == {"pod-0": 0, "pod-1": 0}
    assert meta["again"] == "cachesim run short"
    assert record.interrupted is None
    assert record.end_at > (record.heal_at or 0) + 5


def test_no_secrets(record: History, sim: Simulator) -> None:
    """Nothing in a run's folder has the password."""
    [(_, _, file)] = record.rows("PRAGMA database_list")
    password = sim.env()[REDIS_PASSWORD].encode()
    for path in Path(file).parent.iterdir():
        assert password not in path.read_bytes(), path


def test_what_watched(record: History) -> None:
    """Beats, samples, the log, the pods' own readings and the final reads are recorded."""
    nodes = {*("redis-a", "redis-b", "redis-c"), *("memcached-a", "memcached-b", "memcached-c")}
    assert {node for (node,) in record.rows("SELECT DISTINCT node FROM beats")} == nodes
    for name in ("role", "offset", "fenced", "connections", "evicted_keys", "used_memory"):
        sampled = {it.node for it in record.samples(name)}
        assert sampled == (nodes if name in ("connections", "evicted_keys", "used_memory")
                           else {node for node in nodes if node.startswith("redis")})  # fmt: skip
    kinds = [it.kind for it in record.events()]
    assert [it for it in kinds if it in ("fault", "failover", "heal")][:2] == ["fault", "failover"]
    assert {it.pod for it in record.generator()} == {"pod-0", "pod-1"}
    finals = list(record.final_reads())
    assert {it.node for it in finals} == {"redis-a", "redis-b", "redis-c"}
    assert sum(it.version is not None for it in finals) > len(finals) / 2


def test_verdicts(judgement: Judgement) -> None:
    """Nothing is wrong with the built-in clients; a busy machine can make it unknown."""
    found = {it.name: it for it in judgement.verdicts}
    assert found.keys() == {"lost_writes", "recovery"}
    assert found["lost_writes"].result == "pass", found["lost_writes"].reason
    assert found["recovery"].result != "fail", found["recovery"].reason
    assert judgement.run.result != "fail"


def test_a_record_is_not_overwritten(sim: Simulator, tmp_path: Path) -> None:
    """A folder has one run."""
    (tmp_path / "history.sqlite").touch()
    with pytest.raises(CachesimError, match="has the record of a run"):
        run(sim, plan(read(SHORT, "s"), 1), tmp_path, workload=lambda *_: Still())


CALM = SHORT.replace("at: 10s", "at: 1s").replace("{for: 2s}", "{for: 1s}")


def test_interrupted(sim: Simulator, tmp_path: Path) -> None:
    """A run that is interrupted heals, ends its workload, and says so in its record."""
    over = threading.Event()

    def said(line: str) -> None:
        if line.startswith("crash: "):
            over.set()

    still = Still()
    path = run(
        sim,
        plan(read(CALM, "s"), 1),
        tmp_path,
        workload=lambda *_: still,
        progress=said,
        is_interrupted=over.is_set,
    )
    assert still.did == ["open", "begin", "end soon", "close"]
    assert sim.faults.active == []
    with History(path) as history:
        assert history.interrupted == "it was interrupted"
        assert judgement_of(history).run.result == "unknown"
        outcomes = {it.id: it.outcome for it in history.steps()}
        assert outcomes == {"crash": "applied", "after": "missing"}
        assert history.heal_at is not None


@pytest.mark.parametrize(
    "step",
    [
        "fault: kill, target: {role: primary}",
        "fault: latency, ms: 50, target: {links: client-to-redis-a}",
        "fault: partition, target: {zones: [a, b]}",
        "fault: az-power, target: {zone: b}",
        "fault: replace, target: {node: redis-b}",
        "fault: replace, target: {node: redis-b}, new_address: true",
        "fault: scale, memcached: 4",
        "fault: stale",
    ],
)
def test_a_fault_that_does_nothing(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What injects is not believed: without an effect there is no verdict."""

    class Healed:
        def heal(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(type(sim.faults), "apply", lambda _self, _faults: [Healed()])
    over = threading.Event()

    def said(line: str) -> None:
        if line.startswith("all is healed"):
            over.set()

    text = CALM[: CALM.index("timeline:")] + f"timeline: [{{id: it, at: 1s, {step}, for: 45s}}]\n"
    path = run(
        sim,
        plan(read(text, "s"), 1),
        tmp_path,
        workload=lambda *_: Still(),
        progress=said,
        is_interrupted=over.is_set,
    )
    with History(path) as history:
        [row] = history.steps()
        assert row.outcome == "applied"
        assert "its effect was not seen" in problem_of(history, row), row


class Failing(Still):
    """A workload that fails at its end, with a command that has ended and a pod that was killed."""

    command_code = 3
    command_ended_at = 7.0
    dead = {"p0": "killed by SIGKILL"}  # noqa: RUF012

    def end(self, patience: float | None = None) -> dict[str, int]:
        """End."""
        super().end(patience)
        raise WorkloadError("it broke")


def test_a_workload_that_fails(sim: Simulator, tmp_path: Path) -> None:
    """What became of a workload is recorded, and the run is undecided, not lost."""
    over = threading.Event()
    path = run(
        sim,
        plan(read(CALM, "s"), 1),
        tmp_path,
        workload=lambda *_: Failing(),
        begun=over.set,
        is_interrupted=over.is_set,
    )
    with History(path) as history:
        assert history.interrupted == "the workload failed: it broke"
        assert history.meta["command_code"] == 3
        assert history.meta["command_ended_at"] == 7.0
        assert history.meta["dead"] == {"p0": "killed by SIGKILL"}


def test_a_run_that_fails(sim: Simulator, tmp_path: Path) -> None:
    """An error of the workload is raised, and the record is closed."""

    class Broken(Still):
        def begin(self, at: float) -> None:  # noqa: ARG002
            raise CachesimError("no pods")

    with pytest.raises(CachesimError, match="no pods"):
        run(sim, plan(read(CALM, "s"), 1), tmp_path, workload=lambda *_: Broken())
    with History(tmp_path / "history.sqlite") as history:
        assert history.interrupted == "CachesimError: no pods"


def test_an_end_that_is_cut_short(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record without what the nodes have in the end is not that of a whole run."""

    def read_nothing(*_: object) -> Iterator[object]:
        raise CachesimError("the nodes are gone")

    monkeypatch.setattr(runner, "final_reads", read_nothing)
    monkeypatch.setattr(runner._Run, "go", lambda _self: None)
    with pytest.raises(CachesimError, match="the nodes are gone"):
        run(sim, plan(read(CALM, "s"), 1), tmp_path, workload=lambda *_: Still())
    with History(tmp_path / "history.sqlite") as history:
        assert history.interrupted == "it ended before what the nodes have was read"
        assert judgement_of(history).run.result == "unknown"


# --- the command ------------------------------------------------------------------------------


@contextmanager
def started(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Begin `cachesim run` of a short scenario, with a record in a folder."""
    file = folder / "calm.yaml"
    file.write_text(CALM.replace("for: 60s", "for: 20m"))
    command = [sys.executable, "-m", "cachesim", "run", str(file), "--backend", "embedded"]
    command += ["--speed", "30", "--record", str(folder / "record")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(process, "crash: kill")
            yield process
        finally:
            process.kill()


def wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    """Wait until a process has printed a text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    raise AssertionError("".join(lines))


def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    limit = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def recorded_steps(path: Path) -> int:
    """Return how many steps a history has that is being written."""
    with History(path) as history:
        return len(history.steps())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and those of theirs."""
    import psutil

    return [it.pid for it in psutil.Process(pid).children(recursive=True)]


def is_gone(pid: int) -> bool:
    """Return whether a process has ended."""
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C ends a run in order, with its record and report, and leaves nothing."""
    with started(tmp_path) as process:
        theirs = children(process.pid)
        assert len(theirs) >= 4, "a topology, what starts the pods, and two pods"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    until(lambda: all(map(is_gone, theirs)))
    with History(tmp_path / "record/history.sqlite") as history:
        assert history.interrupted == "it was interrupted"
        assert any(history.operations())
    assert json.loads((tmp_path / "record/record.json").read_text())


def test_the_topology_ends(tmp_path: Path) -> None:
    """The run ends with it, with a record: that nobody is served then is no client's fault."""
    import psutil

    with started(tmp_path) as process:
        topology = next(
            it
            for it in psutil.Process(process.pid).children()
            if "daemon" in " ".join(it.cmdline())
        )
        topology.kill()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 2, out + err
        assert "UNKNOWN" in out
    record = json.loads((tmp_path / "record/record.json").read_text())
    assert "has ended" in record["interrupted"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed(tmp_path: Path) -> None:
    """A killed run leaves no process, and its record can be read up to then."""
    path = tmp_path / "record/history.sqlite"
    with started(tmp_path) as process:
        theirs = children(process.pid)
        until(lambda: recorded_steps(path))
        process.kill()
    until(lambda: all(map(is_gone, theirs)))
    with History(path) as history:
        assert history.interrupted == "the run was killed"
        assert any(history.operations())
        assert history.steps()
        assert judgement_of(history).run.result == "unknown"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
