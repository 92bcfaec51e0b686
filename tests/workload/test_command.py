"""A user's command as a workload: what it reports, how it ends, and what it leaves."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cachesim.errors import WorkloadError
from cachesim.history.reader import History
from cachesim.history.rows import Operation
from cachesim.workload.plan import Plan
from cachesim.workload.pods import Pods
from cachesim.workload.reported import parse, parts
from tests.processes import alive_children

LIMIT = 30.0
ENV = {"CACHESIM_CA_FILE": os.devnull, "CACHESIM_REDIS_PASSWORD": "its own"}


@contextmanager
def command(folder: Path, script: str) -> Iterator[Pods]:
    """A Python script as a command."""
    plan = Plan(command=(sys.executable, "-c", script))
    with Pods(plan, env=ENV, path=folder / "history.sqlite", deadline=1.0, seed=7) as pods:
        yield pods


def code_of(pods: Pods) -> int:
    """Wait for the command's own end."""
    limit = time.monotonic() + LIMIT
    while (code := pods.command_code) is None:
        assert time.monotonic() < limit, "it did not end"
        time.sleep(0.02)
    return code


def rows(folder: Path) -> list[Operation]:
    """What was recorded."""
    with History(folder / "history.sqlite") as history:
        return list(history.operations())


REPORTS = """
import json, os, sys, time
assert os.environ["CACHESIM_REDIS_PASSWORD"] == "its own"
for number in range(20):
    print(json.dumps({"op": "basket.write", "ok": True, "key": "k", "written": number}))
    print(json.dumps({"op": "login", "ok": False, "duration": 0.25, "error": "Refused"}))
    print(json.dumps({"op": "then", "ok": True, "at": time.time() - 30, "duration": 2}))
print("a word for people")
print("an error for people", file=sys.stderr)
print("{not json")
sys.exit(3)
"""


def test_reports(tmp_path: Path) -> None:
    """Lines of JSON become operations, all else goes to the log, and the exit code is kept."""
    with command(tmp_path, REPORTS) as pods:
        began = time.monotonic()
        pods.open()
        pods.begin(began)
        assert pods.alive == ("command",)
        assert pods.pool is None  # its connections are its own
        assert code_of(pods) == 3
        ended = time.monotonic()
        assert pods.end() == {"command": 0}
        assert pods.command_code == 3
        assert began < (pods.command_ended_at or 0) <= ended
    found = rows(tmp_path)
    assert len(found) == 60
    writes = [it for it in found if it.service == "basket"]
    assert [(it.kind, it.written, it.writer) for it in writes] == [
        ("write", number, "command") for number in range(20)
    ]
    assert all(it.end is not None and began <= it.end <= ended for it in writes)
    logins = [it for it in found if it.service == "login"]
    assert {(it.kind, it.outcome, it.error) for it in logins} == {("read", "info", "Refused")}
    assert all(it.end is not None and it.end - it.start == pytest.approx(0.25) for it in logins)
    earlier = [it for it in found if it.service == "then"]
    assert all(began - 31 < it.start < ended - 29 for it in earlier)
    assert all(it.end is not None and it.end - it.start == pytest.approx(2) for it in earlier)
    log = (tmp_path / "workload.log").read_text()
    assert {"a word for people", "an error for people", "{not json"} <= set(log.splitlines())
    assert "basket" not in log


def test_a_buffer_makes_times_unsure(tmp_path: Path) -> None:
    """What comes at once, from a buffer, may have happened since the output before it."""
    script = """
import json, sys, time
line = json.dumps({"op": "get", "ok": True})
print(line, flush=True)
time.sleep(0.6)
print((line + "\\n") * 200, end="", flush=True)
time.sleep(0.1)
print(line, flush=True)
"""
    with command(tmp_path, script) as pods:
        pods.open()
        assert code_of(pods) == 0
        pods.end()
        assert 0.2 < pods.eps < LIMIT  # of 0.6 s; the first line may be read late
    assert len(rows(tmp_path)) == 202


def test_what_a_buffer_has_at_the_end(tmp_path: Path) -> None:
    """The last of a buffer comes with the end, however little it is."""
    script = """
import json, time
print("begun", flush=True)
time.sleep(0.3)
print((json.dumps({"op": "get", "ok": True}) + "\\n") * 3, end="")
"""
    with command(tmp_path, script) as pods:
        pods.open()
        assert code_of(pods) == 0
        pods.end()
        assert 0.25 < pods.eps < LIMIT


HALVES = """
import json
for name in ("first", "half a character \\ud83d", "last"):
    print(json.dumps({"op": name, "ok": False, "key": name, "error": name}), flush=True)
"""


def test_half_a_character(tmp_path: Path) -> None:
    """It is recorded, and so is all else."""
    with command(tmp_path, HALVES) as pods:
        pods.open()
        pods.begin(time.monotonic())
        code_of(pods)
        pods.end()
    found = sorted((it.service, it.key, it.error) for it in rows(tmp_path))
    assert found == [(it, it, it) for it in ("first", r"half a character \ud83d", "last")]


def test_single_lines_are_sure(tmp_path: Path) -> None:
    """Lines that come one by one are as sure as the reading of them."""
    script = """
import json, time
for _ in range(20):
    print(json.dumps({"op": "get", "ok": True}), flush=True)
    time.sleep(0.02)
"""
    with command(tmp_path, script) as pods:
        pods.open()
        assert code_of(pods) == 0
        pods.end()
        assert pods.eps < 0.1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [""]),
        ("hello", ["hello"]),
        ('{"a": 1}', ["", '{"a": 1}', ""]),
        ('{"a": {}}{"b": 1}', ["", '{"a": {}}', "", '{"b": 1}', ""]),
        ('now {"a": 1} {then', ["now ", '{"a": 1}', " {then"]),
        ('{{"a": 1}', ["{", '{"a": 1}', ""]),
    ],
)
def test_parts_of_a_line(line: str, expected: list[str]) -> None:
    """Objects are found wherever they are, and nothing gets lost."""
    assert list(parts(line)) == expected


THREADS = """
import json, threading, time
def work(thread):
    for number in range(50):
        print(json.dumps({"op": "get", "ok": True, "key": f"{thread} {number}"}))
        time.sleep(0.001)
threads = [threading.Thread(target=work, args=(it,)) for it in range(20)]
for it in threads:
    it.start()
for it in threads:
    it.join()
print('waited{"op": "get", "ok": true, "key": "last"}', end="")
"""


def test_threads_that_print_at_once(tmp_path: Path) -> None:
    """No operation gets lost, though Python writes the end of a line by itself."""
    with command(tmp_path, THREADS) as pods:
        pods.open()
        assert code_of(pods) == 0
        pods.end()
    assert len({it.key for it in rows(tmp_path)}) == 1001
    assert (tmp_path / "workload.log").read_text().split() == ["waited"]


STUBBORN = """
import json, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(json.dumps({"op": "get", "ok": True}), flush=True)
time.sleep(60)
"""


def _commands() -> list[psutil.Process]:
    """The commands under pods of this process, and what they have started."""
    hosts = [it for it in alive_children() if "workload" in " ".join(it.cmdline())]
    pods = [pod for host in hosts for pod in host.children()]
    return [child for pod in pods for child in pod.children(recursive=True)]


def test_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """After its patience it is killed, and so is its child."""
    with command(tmp_path, STUBBORN) as pods:
        pods.open()
        running = _commands()
        assert len(running) == 2
        assert pods.command_code is None
        assert pods.end(patience=0.1) == {"command": 0}
        assert pods.command_code == -signal.SIGKILL
    assert psutil.wait_procs(running, timeout=LIMIT)[1] == []


GENTLE = """
import json, pathlib, signal, sys, time
def end(*_):
    pathlib.Path("ENDED").touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print(json.dumps({"op": "get", "ok": True}), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("script", [GENTLE, STUBBORN], ids=["gentle", "stubborn"])
def test_ends_with_a_pod_that_is_killed(tmp_path: Path, script: str) -> None:
    """It gets SIGTERM at once, and is killed if it has not ended at the end of the run."""
    ended = tmp_path / "ended"
    with command(tmp_path, script.replace("ENDED", str(ended))) as pods:
        pods.open()
        running = _commands()
        (pod,) = {it for command in running if (it := command.parent()) and it not in running}
        pod.kill()
        limit = time.monotonic() + LIMIT
        while not pods.dead or (script is GENTLE and not ended.exists()):
            assert time.monotonic() < limit, "it was not told"
            time.sleep(0.02)
        assert pods.end(patience=0.1) == {"command": -signal.SIGKILL}
        assert pods.command_code is None
    assert psutil.wait_procs(running, timeout=LIMIT)[1] == []


def test_ends_with_whoever_has_it(tmp_path: Path) -> None:
    """Closed during its open, it leaves nothing either."""
    with command(tmp_path, "import time; time.sleep(60)") as pods:
        with pytest.raises(WorkloadError, match="not ready"):
            pods.open(timeout=1.0)
        limit = time.monotonic() + LIMIT
        while not (running := _commands()):
            assert time.monotonic() < limit, "it was not started"
            time.sleep(0.02)
    assert psutil.wait_procs(running, timeout=LIMIT)[1] == []


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """The open says so."""
    plan = Plan(command=("no-such-command",))
    with (
        Pods(plan, env=ENV, path=tmp_path / "h.sqlite", deadline=1.0, seed=7) as pods,
        pytest.raises(WorkloadError, match="no-such-command can't be started"),
    ):
        pods.open()


@pytest.mark.parametrize(
    "line",
    ["", "hello", "[1]", "{", '{"op": "get"}', '{"ok": true}', "null", '{"a":' * 5000],
)  # fmt: skip
def test_not_an_operation(line: str) -> None:
    """What has no `op` and `ok` is for people."""
    assert parse(line, "command", 100.0, 0.0) is None


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('{"op": "a.b.touch", "ok": true}', {"service": "a.b", "kind": "touch"}),
        ('{"op": "a.b", "ok": true}', {"service": "a.b", "kind": "read"}),
        ('{"op": "write", "ok": true}', {"service": "write", "kind": "read"}),
        ('{"op": "x", "ok": true, "kind": "delete"}', {"service": "x", "kind": "delete"}),
        ('{"op": "x", "ok": true, "kind": null, "at": null}', {"kind": "read", "start": 100.0}),
        ('{"op": "x", "ok": true, "service": "s"}', {"service": "s"}),
        ('{"op": "x.write", "ok": true, "service": "s"}', {"service": "s", "kind": "write"}),
        ('{"op": "x", "ok": true, "duration": -1}', {"start": 100.0, "end": 100.0}),
        ('{"op": "x", "ok": true, "duration": 2}', {"start": 98.0, "end": 100.0}),
        ('{"op": "x", "ok": true, "at": 1050, "duration": 1}', {"start": 50.0, "end": 51.0}),
        ('{"op": "x", "ok": true, "read": 4, "key": "k"}', {"read": 4, "key": "k"}),
        ('{"op": "x", "ok": false}', {"error": "not ok", "outcome": "info"}),
        ('{"op": "x", "ok": true, "error": "none"}', {"error": None, "outcome": "ok"}),
    ],
)
def test_fields(line: str, fields: dict[str, Any]) -> None:
    """Each field has its meaning."""
    found = parse(line, "command", 100.0, 1000.0)
    assert found is not None
    values = found[0]._asdict()
    assert {name: values[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ('"kind": "eat"', "kind has to be one of read, write, delete, touch, not 'eat'"),
        ('"duration": true', "duration has to be a number of seconds, not True"),
        ('"at": NaN', "at has to be a number of seconds, not nan"),
        (f'"at": {10**400}', "at has to be a number of seconds, not 1000"),
        ('"ok": 0', "ok has to be true or false, not 0"),
        ('"ok": null', "ok has to be true or false, not None"),
        ('"op": 1', "op has to be a text, not 1"),
        ('"written": "4"', "written has to be an integer, not '4'"),
        (f'"read": {2**63}', f"read has to be an integer, not {2**63}"),
        ('"key": 7', "key has to be a text, not 7"),
    ],
)
def test_wrong_fields(field: str, said: str) -> None:
    """One that was left out would be missing in the verdict."""
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(f'{{"op": "x", "ok": true, {field}}}', "command", 100.0, 1000.0)


def test_a_mistake_ends_in_an_error(tmp_path: Path) -> None:
    """A run with it is not judged as if all were there."""

    def open_and_end(pods: Pods) -> None:
        pods.open()  # which may have read both lines
        code_of(pods)
        pods.end()

    script = """
print('{"op": "basket.write", "ok": true}', flush=True)
print('{"op": "basket", "ok": true, "kind": "wriet"}', flush=True)
"""
    with (
        command(tmp_path, script) as pods,
        pytest.raises(WorkloadError, match=r"its line .*wriet.* is no operation: kind has to"),
    ):
        open_and_end(pods)
    assert [it.kind for it in rows(tmp_path)] == ["write"]
