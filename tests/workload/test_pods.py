"""The processes of a workload: their begin, their end, and what they leave."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cachesim.errors import WorkloadError
from cachesim.history.reader import History
from cachesim.workload.plan import Plan
from cachesim.workload.pods import Pods
from cachesim.workload.user_code import Load
from tests.contract.helpers import until
from tests.processes import alive_children, environment

LIMIT = 30.0
SECRET = "not-for-others"  # noqa: S105
ENV = {"CACHESIM_CA_FILE": os.devnull, "CACHESIM_REDIS_PASSWORD": SECRET}

LOAD = """
import os, time

def run(load):
    assert os.environ["CACHESIM_REDIS_PASSWORD"] == load.env["CACHESIM_REDIS_PASSWORD"]
    print(f"begun {load.pod}\\n", end="", flush=True)  # in one write, as pods share the log
    number = 0
    while not load.stop.wait(0.01):
        number += 1
        load.record("basket.write", True, key=load.pod, written=number, duration=0.002)
        load.record("login", False, error="Refused")

def deaf(load):
    load.record("begun", True)
    time.sleep(60)

def failing(load):
    raise ValueError("no good")

def telling(load):
    url = f"rediss://:{load.env['CACHESIM_REDIS_PASSWORD']}@redis"
    load.record("basket", False, key=url, error=f"no answer from {url}")
    load.stop.wait()
    raise ValueError(f"no answer from {url} " * 50)

def telling_the_new_one(load):
    from pathlib import Path
    token = Path(load.env["CACHESIM_REDIS_PASSWORD_FILE"]).read_text()
    load.record("basket", False, error=f"no answer from rediss://:{token}@redis")
    load.stop.wait()
    raise ValueError(f"no answer from rediss://:{token}@redis")

def failing_at_length(load):
    raise ValueError("no good" * 50_000)

def failing_later(load):
    load.record("begun", True)
    load.stop.wait()
    raise ValueError("no good")

def failing_meanwhile(load):
    load.record("begun", True)
    while not os.path.exists("fail"):
        time.sleep(0.01)
    raise ValueError("no good")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's code, in which the test runs."""
    (tmp_path / "basket_load.py").write_text(textwrap.dedent(LOAD))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pods_of(folder: Path, function: str = "run", pods: int = 2) -> Pods:
    """Return pods that run a function, not opened."""
    plan = Plan(pods=pods, python=f"basket_load:{function}")
    return Pods(plan, env=ENV, path=folder / "history.sqlite", deadline=1.0, seed=7)


@pytest.fixture
def pods(folder: Path) -> Iterator[Pods]:
    """Two pods, opened."""
    with pods_of(folder) as made:
        made.open()
        yield made


def operations(folder: Path) -> int:
    """How many operations there are."""
    with History(folder / "history.sqlite") as history:
        [(count,)] = history.rows("SELECT count(*) FROM operations")
        return int(count)


def wait_for_operations(folder: Path, least: int = 1) -> None:
    """Wait until there are some."""
    limit = time.monotonic() + LIMIT
    while operations(folder) < least:
        assert time.monotonic() < limit, "nothing was recorded"
        time.sleep(0.02)


def children() -> list[psutil.Process]:
    """The pods of this process."""
    hosts = [it for it in alive_children() if "workload" in " ".join(it.cmdline())]
    return [pod for host in hosts for pod in host.children()]


def watched(folder: Path) -> set[str]:
    """The pods that were looked at, which is done ten times a second."""
    with History(folder / "history.sqlite") as history:
        return {it.pod for it in history.generator()}


def test_a_function_runs_in_each_pod(pods: Pods, folder: Path) -> None:
    """What each one records is in the history, and the pods end as they should."""
    assert pods.alive == ("pod-0", "pod-1")
    assert pods.profile == {}
    pods.begin(time.monotonic())
    wait_for_operations(folder, 20)
    until(lambda: len(watched(folder)) == 2)
    assert pods.end() == {"pod-0": 0, "pod-1": 0}
    assert not pods.alive
    assert pods.dead == {}
    with History(folder / "history.sqlite") as history:
        rows = list(history.operations("service = 'basket'"))
        assert {row.pod for row in rows} == {"pod-0", "pod-1"}
        assert {(row.kind, row.outcome, row.writer == row.pod == row.key) for row in rows} == {
            ("write", "ok", True)
        }
        assert all(row.end is not None and row.end > row.start for row in rows)
        logins = list(history.operations("service = 'login'"))
        assert {(row.kind, row.outcome, row.error) for row in logins} == {
            ("read", "info", "Refused")
        }
        assert {it.pod for it in history.generator()} == {"pod-0", "pod-1"}
    assert "begun pod-1" in (folder / "workload.log").read_text()


def test_secrets_are_not_shown(pods: Pods) -> None:
    """Neither arguments nor the environment that others can see has them."""
    found = alive_children(recursive=True)
    assert len(found) >= 3
    for it in found:
        assert SECRET not in " ".join(it.cmdline())
        assert SECRET not in str(it.environ())
    assert SECRET not in repr(pods)


def test_secrets_are_not_printed() -> None:
    """What a user's function gets may be printed, and the log is kept."""
    load = Load(ENV, "pod-0", 7, threading.Event(), print)
    assert "pod-0" in repr(load)
    assert SECRET not in repr(load)


def test_a_killed_pod_is_told(pods: Pods, folder: Path) -> None:
    """The others go on; the dead one has the signal's number for its exit code."""
    pods.begin(time.monotonic())
    wait_for_operations(folder)
    children()[0].kill()
    limit = time.monotonic() + LIMIT
    while len(pods.alive) == 2:
        assert time.monotonic() < limit
        time.sleep(0.01)
    [alive] = pods.alive
    [(dead, what)] = pods.dead.items()
    assert {alive, dead} == {"pod-0", "pod-1"}
    assert what == "killed by SIGKILL"
    assert pods.end() == {alive: 0, dead: -signal.SIGKILL}


def test_all_end_with_the_process_that_they_were_forked_from(pods: Pods, folder: Path) -> None:
    """Killed, it leaves nobody, and that is told."""
    pods.begin(time.monotonic())
    wait_for_operations(folder)
    found = children()
    found[0].parent().kill()  # type: ignore[union-attr]
    assert psutil.wait_procs(found, timeout=LIMIT)[1] == []
    limit = time.monotonic() + LIMIT
    while pods.alive:
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert pods.dead == dict.fromkeys(("pod-0", "pod-1"), "killed by SIGKILL")
    assert set(pods.end().values()) == {-signal.SIGKILL}


def test_a_function_that_does_not_return_ends_with_its_pod(folder: Path) -> None:
    """It is told so, and nothing stays."""
    with pods_of(folder, "deaf", 1) as pods:
        pods.open()
        pods.begin(time.monotonic())
        with pytest.raises(WorkloadError, match="basket_load:deaf did not return within"):
            pods.end(patience=0.1)
    assert not children()


def test_a_function_that_raises(folder: Path) -> None:
    """Its exception is the error of the open, or of the end."""
    with (
        pods_of(folder, "failing", 1) as pods,
        pytest.raises(WorkloadError, match="failing failed: ValueError: no good"),
    ):
        pods.open()
    with pods_of(folder, "failing_later", 1) as pods:
        pods.open()
        pods.begin(0)
        with pytest.raises(WorkloadError, match="failing_later failed: ValueError: no good"):
            pods.end()


def test_a_function_that_raises_meanwhile(folder: Path) -> None:
    """Its pod ends at once, and that is told: the run need not go on without it."""
    with pods_of(folder, "failing_meanwhile", 1) as pods:
        pods.open()
        pods.begin(time.monotonic())
        assert (pods.dead, pods.failure) == ({}, None)
        (folder / "fail").touch()
        until(lambda: bool(pods.dead), LIMIT)
        assert "failing_meanwhile failed: ValueError: no good" in str(pods.failure)
        with pytest.raises(WorkloadError, match="failing_meanwhile failed: ValueError: no good"):
            pods.end()


def test_errors_do_not_tell_the_token(folder: Path) -> None:
    """A user's own code may have its URL in an error: no record and no log has it."""
    with pods_of(folder, "telling", 1) as pods:
        pods.open()
        pods.begin(0)
        with pytest.raises(WorkloadError, match=r"no answer from rediss://:\*\*\*@redis") as raised:
            pods.end()
    assert SECRET not in str(raised.value)
    assert operations(folder) == 1
    for path in (folder / "history.sqlite", folder / "workload.log"):
        assert SECRET.encode() not in path.read_bytes()
    assert b"rediss://:***@redis" in (folder / "workload.log").read_bytes()


def test_errors_do_not_tell_the_token_of_a_rotation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor have they the token that is in the token file meanwhile."""
    (folder / "token").write_text("not-for-others-either")
    monkeypatch.setitem(ENV, "CACHESIM_REDIS_PASSWORD_FILE", str(folder / "token"))
    with pods_of(folder, "telling_the_new_one", 1) as pods:
        pods.open()
        pods.begin(0)
        with pytest.raises(WorkloadError, match=r"no answer from rediss://:\*\*\*@redis"):
            pods.end()
    for path in (folder / "history.sqlite", folder / "workload.log"):
        assert b"not-for-others" not in path.read_bytes()


def test_long_errors_of_several_pods(folder: Path) -> None:
    """They do not mix: the begin of one is the error of the open."""
    with (
        pods_of(folder, "failing_at_length", 10) as pods,
        pytest.raises(
            WorkloadError, match=r"^the workload .* failed: ValueError: (no good)+.*\.\.\.$"
        ),
    ):
        pods.open()


def test_a_function_that_is_not_there(folder: Path) -> None:
    """The open fails, and nothing stays."""
    with pods_of(folder, "nothing", 2) as pods, pytest.raises(WorkloadError, match="nothing"):
        pods.open()
    assert not children()


OWNER = """
import sys, time
from pathlib import Path
from cachesim.workload.plan import Plan
from cachesim.workload.pods import Pods

plan = Plan(pods=2, python="basket_load:run")
env = {"CACHESIM_CA_FILE": "", "CACHESIM_REDIS_PASSWORD": ""}
with Pods(plan, env=env, path=Path("history.sqlite"), deadline=1, seed=7) as pods:
    pods.open()
    pods.begin(time.monotonic())
    print("ready", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print(*pods.alive, flush=True)
        print(pods.end(), flush=True)
"""


@pytest.fixture
def owner(folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """Another process with two pods, in a group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_ctrl_c_leaves_pods_alone(owner: "subprocess.Popen[str]", folder: Path) -> None:
    """The group gets SIGINT; the owner ends its pods in order."""
    wait_for_operations(folder)
    os.killpg(owner.pid, signal.SIGINT)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "pod-0 pod-1\n"
    assert owner.stdout.readline() == "{'pod-0': 0, 'pod-1': 0}\n"
    assert owner.wait(LIMIT) == 0


def test_pods_end_with_their_owner(owner: "subprocess.Popen[str]", folder: Path) -> None:
    """After SIGKILL nothing is left, and the history has what was done."""
    wait_for_operations(folder)
    pods = psutil.Process(owner.pid).children(recursive=True)
    assert len(pods) == 3
    owner.kill()
    gone, alive = psutil.wait_procs(pods, timeout=LIMIT)
    assert (len(gone), alive) == (3, [])
    assert operations(folder) > 0
