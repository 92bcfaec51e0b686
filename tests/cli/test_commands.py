"""Commands on a detached topology, as a user types them, with their effect on a real client."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from cachesim.cli.app import main
from cachesim.runs.registry import find_run
from cachesim.topology import Endpoint
from tests.contract.helpers import plain_client, until
from tests.processes import Process, call, environment, left_behind

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")


@dataclass(frozen=True)
class Detached:
    """A detached topology, and the commands for it."""

    name: str
    folder: Path

    def run(self, *arguments: str) -> Result:
        """Run a command in this process."""
        return CliRunner().invoke(main, arguments, prog_name="cachesim")

    def ok(self, *arguments: str) -> str:
        """Run a command that has to succeed; its stdout."""
        result = self.run(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command that has to succeed; its stdout as data."""
        return json.loads(self.ok(*arguments, "--json"))

    def follow(self, *arguments: str) -> Process:
        """Run a command in a process of its own, beside others."""
        return Process(self.folder, *arguments)

    @property
    def pid(self) -> int:
        """The pid of its process."""
        return find_run(self.name).owner.pid

    def client(self, node: str, **options: Any) -> "redis.Redis":
        """A plain client of a Redis node through its link, without retries."""
        env = find_run(self.name).env(secrets=True)
        assert env
        address = env["CACHESIM_REDIS_NODES"].split(",")["abc".index(node[-1])]
        return plain_client(env, Endpoint.parse(address), **options)

    def answers(self, node: str) -> bool:
        """Whether a Redis node answers a new client."""
        with closing(self.client(node)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def primary(self) -> str:
        """The node that says that it is the primary."""
        for node in ("redis-a", "redis-b", "redis-c"):
            with closing(self.client(node)) as client:
                if client.info("replication")["role"] == "master":
                    return node
        raise AssertionError("no node is the primary")


@pytest.fixture(scope="module")
def topology(
    backend: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Detached, "subprocess.CompletedProcess[str]"]]:
    """A detached topology for most tests, and what the command said that started it."""
    folder, name = tmp_path_factory.mktemp("console"), f"console-{os.urandom(3).hex()}"
    # Nodes stay dead until a test brings them back, but not for the failover.
    (folder / "cachesim.toml").write_text("replacement_seconds = [9000, 9000]")
    settings = ["--name", name, "--speed", "100", "--seed", "7", "--backend", backend]
    started = call(folder, "-m", "cachesim", "up", "-d", "--json", *settings)
    assert started.returncode == 0, started.stderr
    yield Detached(name, folder), started
    ended = call(folder, "-m", "cachesim", "down", "--json", "--name", name)
    assert json.loads(ended.stdout) == {"name": name, "state": "down"}, ended.stderr
    assert left_behind(name, folder) == []


@pytest.fixture
def up(
    topology: tuple[Detached, object], alone: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Detached]:
    """The detached topology, healthy before and healed after."""
    assert alone
    detached, _ = topology
    monkeypatch.setenv("XDG_STATE_HOME", str(detached.folder))
    detached.ok("reset")
    yield detached
    detached.ok("heal")


# --- forms ------------------------------------------------------------------------------------

_NODE = {"name": str, "zone": str, "role": (str, None), "state": str, "endpoint": str}
_FAULT = {"id": str, "kind": str, "target": str, "fault": dict, "seconds": (float, None)}
_STATUS = {
    "name": str,
    "backend": str,
    "folder": (str, None),
    "engine": str,
    "speed": float,
    "seed": int,
    "pid": int,
    "uptime_seconds": float,
    "owned_by": (str, None),
    "leased_by": (str, None),
    "control_plane": str,
    "nodes": [_NODE],
    "faults": [_FAULT],
    "toxiproxy": {"a": str, "b": str, "c": str},
}
_PAUSE = {"fault": "pause", "nodes": ["memcached-a"]}
_ALARM = {
    **dict.fromkeys(("name", "state", "reason", "metric", "comparison", "missing", "node"), str),
    **dict.fromkeys(("threshold", "period"), (int, float)),
    **dict.fromkeys(("since", "value"), (int, float, None)),
    "periods": int,
    "level": (str, None),
    "actions": list,
    "out_of_reach": str,
    "changes": list,
}

FORMS: dict[str, object] = {
    "alarms": [_ALARM],
    "alarms inbox": list,
    "status": {"topologies": [_STATUS], "dead": [{"name": str, "pid": int}]},
    "env": dict[str, str],
    "fault latency client-to-redis-a --ms 5": {**_FAULT, "seconds": None},
    "fault pause memcached-a --for 1h": {**_FAULT, "seconds": float},
    "fault apply one.json": {**_FAULT, "seconds": None},
    "fault apply several.json --for 1h": [{**_FAULT, "seconds": float}],
    "fault list": [_FAULT],
    "fault list --links": [{"name": str, "listen": str, "enabled": bool, "toxics": [str]}],
    "heal": [_FAULT],
    "kill redis-b": _NODE,
    "restart redis-b": _NODE,
    "stop memcached-b": _NODE,
    "pause memcached-c": _NODE,
    "resume memcached-c": _NODE,
    "replace redis-b": _NODE,
    "rolling-replacement": [_NODE],
    "scale memcached 4": [_NODE],
    "failover": {"primary": str, "state": str},
    "wait available": {"primary": str, "state": str},
    "reset": {"name": str},
    "doctor": [{"subject": str, "level": str, "finding": str, "advice": str}],
    "gc": {"removed": [str]},
    "top": {"picture": dict, "at": float, "nodes": dict, "alarms": [dict]},
    "config": dict[str, dict[str, object]],
    "scenario list": [{"name": str, "title": str}],
    "scenario show az-outage": dict[str, object],
    "scenario check az-outage": [],
}
"""What `--json` gives: part of the interface. `up -d` and `attach` give a topology of `status`,
`down` gives `{"name": ..., "state": "down"}` or `"detached"`, `compose` the folder, its files and
the commands that come next."""
LINES: dict[str, object] = {
    "metrics": {
        "number": int,
        "begin": float,
        "end": float,
        "nodes": dict[str, object],
        "links": dict,
    },
    "events": {
        "date": str,
        "monotonic_seconds": float,
        "kind": str,
        "source": str,
        "message": str,
        "data": dict,
    },
    "logs redis-a": {"node": str, "line": str},
}
"""The commands that give an object a line, as what they tell may go on."""


def has_form(value: object, form: object) -> bool:
    """Whether data has a form: types, those of all items of a list, or all fields by name."""
    match form:
        case dict():
            return (
                isinstance(value, dict)
                and value.keys() == form.keys()
                and all(has_form(value[key], form[key]) for key in form)
            )
        case []:
            return value == []
        case [item]:
            return isinstance(value, list) and all(has_form(it, item) for it in value)
        case tuple():
            return any(has_form(value, one) for one in form)
        case None:
            return value is None
        case type():
            return type(value) is form
        case _:  # dict[str, ...]
            return isinstance(value, dict) and len(value) > 0


@pytest.mark.parametrize("command", FORMS)
def test_json(up: Detached, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--json` has the form that is promised, and is all of stdout."""
    words = command.split()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.json").write_text(json.dumps(_PAUSE))
    (tmp_path / "several.json").write_text(json.dumps([_PAUSE, _PAUSE]))
    if words[0] == "resume":
        up.ok("pause", words[1])
    if words[:2] == ["fault", "list"] or words[0] == "heal":
        up.ok("fault", "latency", "*-to-redis-a", "--ms", "5")
    value = up.json(*words)
    assert has_form(value, FORMS[command]), value


@pytest.mark.parametrize("command", LINES)
def test_json_lines(up: Detached, command: str) -> None:
    """Commands that can follow print one JSON object a line."""
    lines = up.ok(*command.split(), "--json").splitlines()
    assert lines
    for line in lines:
        assert has_form(json.loads(line), LINES[command]), line


def test_every_command_has_json() -> None:
    """No command that gives something to read is without `--json`."""
    tested = {command.split()[0] for command in (*FORMS, *LINES)}
    tested |= {"up", "down", "compose", "attach", "run", "report", "compare", "dashboard"}
    without = {"shell", "exec"}  # the server's own words, and the program's
    assert tested | without == set(main.commands)


def test_up_gives_the_status(
    topology: tuple[Detached, "subprocess.CompletedProcess[str]"],
) -> None:
    """`up -d --json` gives what `status` gives, and its steps go to stderr."""
    detached, started = topology
    state = json.loads(started.stdout)
    assert has_form(state, _STATUS), state
    assert (state["name"], state["seed"], state["speed"]) == (detached.name, 7, 100)
    assert [it["state"] for it in state["nodes"]] == ["running"] * 6
    assert "waiting until all is ready through the links" in started.stderr


@pytest.mark.parametrize("no_color", [True, False])
def test_no_colours_in_pipes(up: Detached, no_color: bool) -> None:
    """Output to a pipe has no escape codes, whatever TERM says."""
    up.ok("fault", "latency", "client-to-redis-a", "--ms", "1")
    for command in ("status", "fault list", "config"):
        done = subprocess.run(
            [sys.executable, "-m", "cachesim", *command.split()],
            env=environment(
                up.folder, TERM="xterm-256color", **({"NO_COLOR": "1"} if no_color else {})
            ),
            capture_output=True,
            check=True,
        )
        assert b"\x1b" not in done.stdout + done.stderr
        assert done.stdout


# --- looking ------------------------------------------------------------------------------------


def test_status(up: Detached) -> None:
    """Nodes with role, state and address, and faults."""
    up.ok("pause", "redis-c")
    text = up.ok("status")
    assert re.search(rf"^{up.name}: up for \d+ s in process {up.pid}, available$", text, re.M)
    env = json.loads(up.ok("env", "--json"))
    nodes = env["CACHESIM_REDIS_NODES"].split(",")
    assert re.search(rf"redis-a +primary +az-a +running +{nodes[0]}", text)
    assert re.search(rf"redis-c +replica +az-c +paused +{nodes[2]}", text)
    assert re.search(r"pause +redis-c", text)


def test_events(up: Detached) -> None:
    """Past events are printed, and new ones while following."""
    up.ok("kill", "memcached-b")
    assert re.search(r"^\S+  fault +memcached-b +kill$", up.ok("events"), re.M)
    with up.follow("events", "-f") as process:
        process.wait_for(r"fault +memcached-b +kill$")
        up.ok("heal")
        process.wait_for(r"heal +memcached-b +kill$")
        process.interrupt()
        assert process.end() == 130
    assert process.err == ""


def test_logs(up: Detached) -> None:
    """The tail of a log has as many lines as one wants."""
    assert len(up.ok("logs", "redis-b", "-n", "3").splitlines()) == 3


def test_logs_go_on(up: Detached) -> None:
    """`-f` gives the tail, then what is added and nothing twice, across a new process too."""
    with up.follow("logs", "-f", "-n", "2", "redis-b") as process:
        until(lambda: process.out.count("\n") >= 2)
        first = process.out.splitlines()
        assert first == up.ok("logs", "redis-b", "-n", "2").splitlines()
        for _ in range(2):
            up.ok("restart", "redis-b")
            before = process.out.count("Ready to accept")
            until(lambda: process.out.count("Ready to accept") > before, 30)  # noqa: B023
        process.interrupt()
        assert process.end() == 130
    lines = process.out.splitlines()
    assert lines[:2] == first
    everything = up.ok("logs", "redis-b", "-n", "100000").splitlines()
    start = len(everything) - everything[::-1].index(first[-1]) - 2
    assert everything[start:][: len(lines)] == lines


def test_env(up: Detached) -> None:
    """The variables lead a client to the nodes."""
    env = json.loads(up.ok("env", "--json", "--show-secrets"))
    with closing(
        redis.Redis.from_url(env["CACHESIM_REDIS_URL"], ssl_ca_certs=env["CACHESIM_CA_FILE"])
    ) as it:
        assert it.ping()


def test_doctor(up: Detached) -> None:
    """It reports the topologies that are up."""
    found = {it["subject"]: it for it in up.json("doctor")}
    assert found["topologies"]["finding"] == f"up: {up.name}"
    assert {it["level"] for it in found.values()} <= {"ok", "note"}


# --- breaking -----------------------------------------------------------------------------------


def test_fault_for_a_while(up: Detached) -> None:
    """A fault with `--for` is healed after that time."""
    with closing(up.client("redis-a", socket_timeout=5)) as client:
        client.ping()

        def seconds() -> float:
            began = time.monotonic()
            client.ping()
            return time.monotonic() - began

        begun = time.monotonic()
        said = up.ok("fault", "latency", "client-to-redis-a", "--ms", "300", "--for", "1.5s")
        assert re.fullmatch(
            r"Fault \d+: latency of 300 ms on client-to-redis-a, healed in 1.5 s.\n", said
        )
        assert seconds() >= 0.3
        until(lambda: seconds() < 0.2)
        assert time.monotonic() - begun >= 1.4
    assert up.ok("fault", "list") == "There are no faults.\n"


def test_fault_kill(up: Detached) -> None:
    """A killed node refuses, and healing that one fault brings it back."""
    other = up.json("fault", "latency", "client-to-redis-b", "--ms", "1")["id"]
    number = up.json("fault", "kill", "redis-c")["id"]
    assert not up.answers("redis-c")
    assert up.ok("heal", number) == f"Healed fault {number}: kill on redis-c.\n"
    until(lambda: up.answers("redis-c"))
    assert [it["id"] for it in up.json("fault", "list")] == [other]


def test_fault_partition(up: Detached) -> None:
    """A replica beyond a partition lags, and catches up when it is healed."""
    with closing(up.client("redis-a")) as primary, closing(up.client("redis-b")) as replica:
        replica.readonly()
        up.ok("fault", "partition", "a", "b")
        primary.set("k", "v")
        with closing(up.client("redis-c")) as near:
            near.readonly()
            until(lambda: near.get("k") == "v")
        assert replica.get("k") is None
        assert up.ok("heal").startswith("Healed fault ")
        until(lambda: replica.get("k") == "v")


@pytest.mark.parametrize(
    ("fault", "link"),
    [
        (["bandwidth", "client-to-redis-b", "--kb-s", "1"], "client-to-redis-b"),
        (["blackhole", "client-to-redis-b"], "client-to-redis-b"),
        (["reset", "client-to-redis-b"], "client-to-redis-b"),
        (["isolate", "b"], "client-to-redis-b"),
        (["replication-lag", "1500ms", "--replica", "redis-b"], "b-to-redis-a"),
    ],
    ids=lambda it: it[0] if isinstance(it, list) else "",
)
def test_fault_on_links(up: Detached, fault: list[str], link: str) -> None:
    """Each kind of fault is on its links, and gone when healed."""
    up.ok("fault", *fault)
    assert any(it["toxics"] for it in up.json("fault", "list", "--links") if it["name"] == link)
    up.ok("heal")
    assert not any(it["toxics"] for it in up.json("fault", "list", "--links"))


def test_fault_refuse(up: Detached) -> None:
    """A pattern chooses several links; refusing ones get nowhere."""
    up.ok("fault", "refuse", "client-to-redis-*")
    assert not any(map(up.answers, ("redis-a", "redis-b", "redis-c")))
    assert sum(not it["enabled"] for it in up.json("fault", "list", "--links")) == 3
    up.ok("heal")
    assert all(map(up.answers, ("redis-a", "redis-b", "redis-c")))


def test_fault_apply(up: Detached, tmp_path: Path) -> None:
    """The faults of a file are applied, each healed after the time that is given."""
    file = tmp_path / "faults.json"
    latency = {"fault": "latency", "links": ["client-to-redis-*"], "ms": 5}
    file.write_text(json.dumps([latency, {"fault": "kill", "nodes": ["redis-c"]}]))
    said = up.ok("fault", "apply", str(file), "--for", "1.5s")
    assert re.fullmatch(
        r"Fault \d+: latency of 5 ms on client-to-redis-a and 2 more, healed in 1.5 s.\n"
        r"Fault \d+: kill on redis-c, healed in 1.5 s.\n",
        said,
    )
    assert not up.answers("redis-c")
    until(lambda: up.ok("fault", "list") == "There are no faults.\n")
    until(lambda: up.answers("redis-c"))


def test_fault_apply_from_stdin(up: Detached) -> None:
    """A fault may come from stdin."""
    done = subprocess.run(
        [sys.executable, "-m", "cachesim", "fault", "apply", "-"],
        env=environment(up.folder),
        input=json.dumps(_PAUSE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"Fault \d+: pause on memcached-a.\n", done.stdout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"Expecting value: line 1 column 1 \(char 0\)"),
        ('{"fault": "kill"', r"Expecting ',' delimiter: line 1 column 17 \(char 16\)"),
        ('{"fault": "kill", "nodes": [], "nodes": []}', "the field `nodes` occurs twice"),
        ("[]", "the list has no faults: give at least one"),
        ('{"fault": "kil"}', r"no fault 'kil': there are latency, .*\. Did you mean kill\?"),
        ('{"fault": "kill"}', "kill: nodes is missing"),
        (
            json.dumps([_PAUSE, {}]),
            "fault 2 of 2: the field `fault` is missing. It has the fault's name",
        ),
        (
            json.dumps([_PAUSE, {"fault": "kill", "nodes": ["redis-d"]}]),
            "fault 2 of 2: kill: nodes: no node 'redis-d': there are redis-a, ",
        ),
    ],
)
def test_fault_apply_with_a_mistake(up: Detached, tmp_path: Path, text: str, message: str) -> None:
    """The error names the file, the position and the field, and nothing is applied."""
    file = tmp_path / "faults.json"
    file.write_text(text)
    result = up.run("fault", "apply", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.match(rf"Error: {re.escape(str(file))}: {message}", result.stderr)
    assert result.stderr.count("\n") == 1
    assert up.ok("fault", "list") == "There are no faults.\n"


def test_fault_toxic(up: Detached) -> None:
    """Any toxic of Toxiproxy may be a fault."""
    slicer = ["--toxic", "slicer,average_size=64,delay=5", "--stream", "upstream"]
    said = up.ok("fault", "toxic", "client-to-redis-b", *slicer, "--toxicity", "0.5")
    assert re.fullmatch(r"Fault \d+: slicer on client-to-redis-b.\n", said)
    (link,) = [it for it in up.json("fault", "list", "--links") if it["toxics"]]
    assert (link["name"], link["toxics"]) == ("client-to-redis-b", ["slicer upstream"])


def test_fault_az_power(up: Detached) -> None:
    """A zone without power is replaced as primary, and nothing starts there before."""
    up.ok("fault", "az-power", "az-a")
    result = up.run("restart", "redis-a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr
        == "Error: redis-a can't be started: az-a has no power. Heal `az-power` first.\n"
    )
    until(lambda: "Failover from primary node redis-a" in up.ok("events"))


@pytest.mark.parametrize(("verb", "done"), [("kill", "killed"), ("stop", "shut down")])
def test_node_down(up: Detached, verb: str, done: str) -> None:
    """A node is down until it is restarted, and then there is no fault any more."""
    assert up.ok(verb, "redis-b") == f"redis-b was {done}.\n"
    assert not up.answers("redis-b")
    assert up.ok("restart", "redis-b") == "redis-b was restarted.\n"
    until(lambda: up.answers("redis-b"))
    assert up.ok("fault", "list") == "There are no faults.\n"


def test_node_paused(up: Detached) -> None:
    """A paused node answers nothing until it is resumed, and then there is no fault any more."""
    with closing(up.client("redis-b")) as client:
        client.ping()
        assert up.ok("pause", "redis-b") == "redis-b was paused.\n"
        with pytest.raises(redis.TimeoutError):
            client.ping()
    assert up.ok("resume", "redis-b") == "redis-b was resumed.\n"
    until(lambda: up.answers("redis-b"))
    assert up.ok("fault", "list") == "There are no faults.\n"
    assert up.ok("resume", "redis-b") == "redis-b was not paused: it is running.\n"


def test_failover(up: Detached) -> None:
    """The replica of the wanted zone is the primary when the command returns."""
    assert up.ok("failover", "--to", "b") == "redis-b is the primary.\n"
    assert up.primary() == "redis-b"


def test_failover_without_waiting(up: Detached) -> None:
    """`--no-wait` returns at once."""
    assert up.ok("failover", "--to", "c", "--no-wait") == "A failover has begun.\n"
    until(lambda: up.primary() == "redis-c")


def test_reset(up: Detached) -> None:
    """Everything is as new: data, roles, faults."""
    with closing(up.client("redis-a")) as client:
        client.set("k", "v")
    up.ok("failover", "--to", "b")
    up.ok("kill", "memcached-a")
    assert up.ok("reset") == f"The topology {up.name} is as new.\n"
    assert up.primary() == "redis-a"
    with closing(up.client("redis-a")) as client:
        assert client.get("k") is None
    state = up.json("status")["topologies"][0]
    assert (state["faults"], {it["state"] for it in state["nodes"]}) == ([], {"running"})


# --- mistakes -----------------------------------------------------------------------------------

MISTAKES = {
    "kill redis-d": (1, r"no node 'redis-d': there are redis-a, memcached-a, redis-b, "),
    "logs nosuch": (1, r"no node 'nosuch': there are redis-a, "),
    "shell nosuch": (1, r"no node 'nosuch': there are redis-a, "),
    "exec --zone z -- true": (1, r"no zone 'z': there are a, b, c"),
    "exec --zone b": (2, r"Missing argument 'COMMAND\.\.\.'"),
    "exec --zone b --by-address --reach 5432 -- true": (2, r"--reach goes with a namespace"),
    "fault kill redis-a nosuch": (1, r"no node 'nosuch': there are redis-a, "),
    "fault latency to-nowhere* --ms 5": (1, r"no link 'to-nowhere\*': there are client-to-redis-a"),
    "fault partition a z": (1, r"no zone 'z': there are a, b, c"),
    "fault partition a a": (2, r"a partition is between two zones, not az-a and itself"),
    "fault isolate z": (1, r"no zone 'z': there are a, b, c"),
    "fault replication-lag 1s --replica x": (
        1,
        r"replicas: no Redis node 'x': there are redis-a, redis-b, redis-c",
    ),
    "fault toxic x --toxic slice,delay=5": (2, r"no type of toxic 'slice': .* you mean slicer\?"),
    "fault toxic x --toxic slicer,delay": (2, r"'delay' should be a name and a number, such as d"),
    "fault apply nosuch.json": (2, r"File 'nosuch.json' does not exist"),
    "fault refuse client-to-redis-d": (1, r"no link 'client-to-redis-d': .* Did you mean client-"),
    "failover --to z": (1, r"no zone 'z': there are a, b, c"),
    "failover --to a": (1, r"redis-a is the primary already"),
    "heal 99": (1, r"no fault with the id '99': there are none. `cachesim fault list` shows"),
    "status --name nosuch": (3, r"[Nn]o topology named nosuch is up. `cachesim up` starts one"),
    "env --name nosuch": (1, r"no topology named 'nosuch' .* is up, but these are: console-"),
    "down --name nosuch": (1, r"no topology named 'nosuch' .* is up, but these are: console-"),
    "kil redis-a": (2, r"No such command 'kil'"),
    "partition a b": (2, r"'partition'\. It is a fault: `cachesim fault partition a b`\."),
    "fault latncy x": (2, r"No such command 'latncy'"),
    "fault latency client-to-redis-a": (2, r"Missing option '--ms'"),
    "fault kill": (2, r"Missing argument 'NODE...'"),
    "fault latency x --ms 5 --for soon": (2, "should be a time such as 500ms, 10s, 2m or"),
    "fault bandwidth x --kb-s 0": (2, r"bandwidth: kb_s must be at least 1 KB/s, got 0; `blackhol"),
    "logs redis-a -n 0": (1, r"lines must be a whole number of at least 1, got 0"),
    "shell --nosuch redis-a": (2, r"No such option:? '?--nosuch"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes(up: Detached, command: str) -> None:
    """A mistake ends with its code and one line on stderr that tells what to do."""
    code, message = MISTAKES[command]
    result = up.run(*command.split())
    assert (result.exit_code, result.stdout) == (code, "")
    last = result.stderr.splitlines()[-1]
    assert re.search(message, last)
    if code == 2:
        assert last.startswith("Error: ")
        assert "Try 'cachesim " in result.stderr
    else:
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "code", "kind", "message"),
    [
        ("kill redis-d --json", 1, "UnknownName", "no node 'redis-d'"),
        ("fault latency x --ms 1.5 --json", 2, "InvalidFault", "ms must be a whole number"),
        ("failover --to z --json", 1, "CachesimError", "no zone 'z'"),
        ("wait soon --json", 2, "BadParameter", "'soon' is not one of"),
        ("wait failover --timeout 10ms --json", 1, "FailoverTimeout", "no failover was completed"),
        ("logs redis-a -n 0 --json", 1, "InvalidArgument", "lines must be a whole number"),
    ],
)
def test_errors_as_json(up: Detached, command: str, code: int, kind: str, message: str) -> None:
    """With `--json` an error is JSON on stdout, where a program reads."""
    result = up.run(*command.split())
    assert (result.exit_code, result.stderr) == (code, "")
    error = json.loads(result.stdout)["error"]
    assert (error["kind"], message in error["message"]) == (kind, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["status", "fault list", "events", "fault schema"])
def test_output_that_can_not_be_written(up: Detached, command: str, unbuffered: str) -> None:
    """A full disk is an error in one line."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cachesim", *command.split()],
            env=environment(up.folder, PYTHONUNBUFFERED=unbuffered),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*No space left on device\n", done.stderr), done.stderr


def test_fault_that_cannot_be_applied(up: Detached) -> None:
    """A fault that can't be applied is an error, and is not in the list."""
    up.ok("kill", "redis-b")
    result = up.run("fault", "pause", "redis-b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: redis-b can't be paused: it is not running. Start it first.\n"
    assert [it["kind"] for it in up.json("fault", "list")] == ["kill"]


def test_name_in_use(up: Detached) -> None:
    """A second topology of the same name is refused, and the first one goes on."""
    done = call(up.folder, "-m", "cachesim", "up", "-d", "--name", up.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: a topology named {up.name!r} is running already. Choose another name, or "
        f"take it down first: `cachesim down --name {up.name}`.\n"
    )
    assert up.answers("redis-a")


def test_wrong_setting(up: Detached) -> None:
    """A wrong setting is told before anything is started."""
    result = up.run("up", "-d", "--speed", "0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: speed = 0 (argument): should be greater than or equal to 0.01\n"


def test_folder_that_was_removed(up: Detached) -> None:
    """Commands work where the current folder is gone."""
    script = """
import os, sys
os.mkdir("x"); os.chdir("x"); os.rmdir("../x")
os.execv(sys.executable, [sys.executable, "-m", "cachesim", "fault", "list"])
"""
    done = call(up.folder, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "There are no faults.\n", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(up: Detached, closed: str) -> None:
    """Commands work without stdin, stdout or stderr."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m cachesim status {closed}', sys.executable],
        env=environment(up.folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (up.name in done.stdout) != (">&-" in closed.replace("2>&-", ""))


def test_reader_that_leaves(up: Detached) -> None:
    """If the reader of a pipe ends, a command ends without an error."""
    reading, writing = os.pipe()
    os.close(reading)
    with Process(up.folder, "status", stdout=writing) as process:
        os.close(writing)
        assert process.end() == 1
    assert process.err == ""


# --- shell --------------------------------------------------------------------------------------


def shell(up: Detached, *arguments: str, path: str | None = None, stdin: str = "") -> Any:
    """`cachesim shell` as a process."""
    variables = {} if path is None else {"PATH": path}
    return subprocess.run(
        [sys.executable, "-m", "cachesim", "shell", *arguments],
        env=environment(up.folder, **variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(params=["redis-cli", "plain"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH with redis-cli alone, or with nothing."""
    if request.param == "redis-cli":
        program = shutil.which("redis-cli") or shutil.which("valkey-cli")
        if program is None:
            pytest.skip("neither redis-cli nor valkey-cli is here")
        return str(Path(program).parent)
    return str(tmp_path)


def test_shell_command(up: Detached, path: str) -> None:
    """One command prints its answer."""
    done = shell(up, "redis-a", "SET", "a key", "v", path=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "OK\n", "")
    done = shell(up, "--name", up.name, "redis-a", "GET", "a key", path=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "v\n", "")


def test_shell_prompt(up: Detached, path: str) -> None:
    """A prompt takes commands from stdin, until it ends."""
    done = shell(up, "redis-a", path=path, stdin="SET k 'a value'\nGET k\n\nNOSUCH\nGET k\n")
    lines = [line for line in done.stdout.splitlines() if line]
    assert (done.returncode, done.stderr) == (0, "")
    assert [lines[1], lines[-1]] == ["a value", "a value"]
    assert any("unknown command" in line for line in lines)


def test_shell_value_that_is_no_text(up: Detached, tmp_path: Path) -> None:
    """The plain prompt shows bytes that are no UTF-8, such as those of a pickled session."""
    with closing(up.client("redis-a")) as client:
        client.set("k", b"\x80 v")
    done = shell(up, "redis-a", "GET", "k", path=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\x80 v\n", "")


@pytest.mark.parametrize("node", ["redis-a", "memcached-a"])
def test_shell_without_stdin(up: Detached, node: str) -> None:
    """A closed stdin is an empty one."""
    command = ["/bin/sh", "-c", f'exec "$0" -m cachesim shell {node} <&-', sys.executable]
    env = environment(up.folder, PATH="")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_characters_that_the_terminal_does_not_have(up: Detached) -> None:
    """They are replaced."""
    up.ok("fault", "latency", "client-to-*", "--ms", "1")
    env = environment(up.folder, PYTHONIOENCODING="ascii", COLUMNS="60")
    command = [sys.executable, "-m", "cachesim", "top", "--once"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" in done.stdout  # an ellipsis


def test_shell_options_of_the_command(up: Detached, path: str) -> None:
    """All words after the node belong to the command."""
    done = shell(up, "redis-a", "ECHO", "--name", path=path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "--name\n", "")


def test_shell_hides_the_token(up: Detached, tmp_path: Path) -> None:
    """The token is no argument of redis-cli, where others could read it."""
    program = tmp_path / "redis-cli"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o700)
    done = shell(up, "redis-a", path=f"{tmp_path}:/bin:/usr/bin")
    env = find_run(up.name).env(secrets=True) or {}
    assert "--tls" in done.stdout
    assert env["CACHESIM_REDIS_PASSWORD"] not in done.stdout


def test_shell_of_a_dead_node(up: Detached, tmp_path: Path) -> None:
    """If the node does not answer, the message says what to look at."""
    up.ok("fault", "refuse", "client-to-redis-b", "client-to-memcached-b")
    for node in ("redis-b", "memcached-b"):
        done = shell(up, node, "version", path=str(tmp_path))
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            r"Error: no answer at \S+: .* `cachesim status` shows the node's state and faults.\n",
            done.stderr,
        )


def test_shell_of_memcached(up: Detached) -> None:
    """Memcached's text protocol, as it is typed; also where the answer takes long."""
    done = shell(up, "memcached-a", stdin="set k 0 0 5\nvalue\nget k\nexit\nget no more\n")
    assert done.stdout == "STORED\nVALUE k 0 5\nvalue\nEND\n"
    up.ok("fault", "latency", "client-to-memcached-a", "--ms", "700")
    done = shell(up, "memcached-a", "get", "k")
    assert (done.returncode, done.stdout, done.stderr) == (0, "VALUE k 0 5\nvalue\nEND\n", "")


def test_shell_of_a_node_that_was_added(up: Detached) -> None:
    """It is one of Memcached's too."""
    up.ok("scale", "memcached", "4")
    done = shell(up, "memcached-a2", "get", "k")
    assert (done.returncode, done.stdout, done.stderr) == (0, "END\n", "")


# --- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("fa", ["failover", "fault"]),
        ("kill redis-", ["redis-a", "redis-b", "redis-c"]),
        ("fault pause redis-a mem", ["memcached-a", "memcached-b", "memcached-c"]),
        ("fault partition a ", ["a", "b", "c"]),
        ("failover --to ", ["a", "b", "c"]),
        ("wait ", ["failover", "available", "healthy"]),
        ("wait healthy --timeout 1m", ["1m", "1m30s"]),
        ("metrics redis-a memcached-", ["memcached-a", "memcached-b", "memcached-c"]),
        ("fault pause redis-a --for 3", ["30s"]),
        ("fault replication-lag 5", ["500ms", "5s"]),
        ("fault refuse client-to-r", [f"client-to-redis-{zone}" for zone in "abc"]),
        ("fault lat", ["latency"]),
        ("fault replication-lag 1s --replica ", ["redis-a", "redis-b", "redis-c"]),
        ("fault toxic client-to-redis-a --toxic s", ["slow_close", "slicer"]),
    ],
)
def test_completion(up: Detached, words: str, offered: list[str]) -> None:
    """A shell offers commands, nodes, links and zones."""
    assert complete(up, words) == offered


def test_completion_of_names(up: Detached) -> None:
    """And the names of what is up."""
    assert complete(up, "down --name ") == [up.name]


def test_completion_of_faults(up: Detached) -> None:
    """And the ids of active faults, if it is clear of which topology."""
    up.ok("kill", "redis-b")
    (fault,) = up.json("fault", "list")
    assert complete(up, "heal ") == complete(up, f"heal --name {up.name} ") == [fault["id"]]
    assert complete(up, "heal --name nosuch ") == complete(up, "heal x") == []


def complete(up: Detached, words: str) -> list[str]:
    """Return what bash completes after `cachesim `."""
    typed = ["cachesim", *words.split(" ")]
    variables = {"COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "cachesim"],
        env=environment(up.folder, _CACHESIM_COMPLETE="bash_complete", **variables),
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_completion_script(tmp_path: Path) -> None:
    """Bash takes the script that is to be sourced."""
    done = subprocess.run(
        [sys.executable, "-m", "cachesim"],
        env=environment(tmp_path, _CACHESIM_COMPLETE="bash_source"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "complete -o nosort -F _cachesim_completion cachesim" in done.stdout
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    subprocess.run([bash, "-n"], input=done.stdout, text=True, check=True)
