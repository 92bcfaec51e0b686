"""`cachesim run`: its options, its output and its exit codes."""

import errno
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cachesim import Simulator
from cachesim.cli import run_commands
from cachesim.cli.app import main
from cachesim.cli.run_commands import Order, again
from cachesim.daemon.signals import Interrupted
from cachesim.runs.env import REDIS_PASSWORD
from cachesim.scenarios import runner
from cachesim.scenarios.timeline import Timeline
from tests.scenarios.histories import history_of, load, readings

SCENARIO = """\
version: 1
name: tiny
baseline: {for: 1s}
workload: {pods: 1, sessions: {rate: 40, population: 20}}
timeline:
  - {at: 1s, fault: kill, target: {role: replica, pick: 1}, for: 15s}
expect: {error_budget: {sessions: {max: 50%}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A scenario's file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return str(path)


def invoke(*arguments: str) -> Any:
    """Run the command, without a topology."""
    return CliRunner().invoke(main, ["run", *arguments])


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """What was ordered; every run passes."""
    found: list[Order] = []

    def run(order: Order) -> int:
        found.append(order)
        return 0

    monkeypatch.setattr(run_commands, "run", run)
    return found


def test_options(orders: list[Order]) -> None:
    """All options reach the run."""
    text = "az-outage --speed 30 --seed 7 --repeat 3 --record x --json --engine valkey"
    assert invoke(*text.split()).exit_code == 0
    (order,) = orders
    assert order.scenario == "az-outage"
    assert (order.seed, order.repeat, order.record, order.as_json) == (7, 3, Path("x"), True)
    assert order.settings == {"backend": None, "engine": "valkey", "speed": 30.0}
    assert not order.quiet_cut


def test_command(orders: list[Order]) -> None:
    """What comes after two dashes is the user's command, with its own options."""
    assert invoke("x", "--speed", "2", "--", "load", "--speed", "3", "--", "y").exit_code == 0
    assert orders[0].command == ("load", "--speed", "3", "--", "y")
    assert orders[0].settings["speed"] == 2


def test_no_command_after_two_dashes(orders: list[Order]) -> None:
    """The traffic of the architecture does not stand in for a command that is missing."""
    result = invoke("x", "--")
    assert result.exit_code == 2
    assert "after -- comes the command" in result.output
    assert orders == []


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_interrupted_before_the_first_run(
    file: str, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    """There is no record to print."""

    @contextmanager
    def topology(_order: Order, _interrupts: object) -> Iterator[None]:
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(run_commands, "_topology", topology)
    result = invoke(file, *option)
    assert (result.exit_code, result.stdout) == (130, "")


def test_a_second_word_is_a_mistake(orders: list[Order]) -> None:
    """A command without two dashes is none."""
    assert invoke("x", "load").exit_code == 2
    assert orders == []


def test_mistakes_in_the_file(tmp_path: Path) -> None:
    """They are told with their place, and the exit code is 2."""
    path = tmp_path / "x.yaml"
    path.write_text(SCENARIO.replace("kill", "kil"))
    result = invoke(str(path))
    assert result.exit_code == 2
    assert "x.yaml:6:21: timeline[0].fault: no fault 'kil'" in result.output


def test_a_folder_with_a_record(file: str, tmp_path: Path) -> None:
    """A record is not overwritten, and nothing is started."""
    (tmp_path / "history.sqlite").touch()
    result = invoke(file, "--record", str(tmp_path))
    assert result.exit_code == 2
    assert "has the record of a run already" in result.output


@pytest.mark.parametrize(
    ("scenario", "backend", "wanted"),
    [
        ("loading-replica", None, "embedded"),
        ("loading-replica", "auto", "embedded"),
        ("az-outage", None, None),
    ],
)
def test_faults_of_emulated_nodes(
    monkeypatch: pytest.MonkeyPatch, scenario: str, backend: str | None, wanted: str | None
) -> None:
    """Where nobody says which backend, it is the one that has them."""
    asked: list[Order] = []

    @contextmanager
    def topology(order: Order, _interrupts: object) -> Iterator[None]:
        asked.append(order)
        raise Interrupted
        yield

    monkeypatch.setattr(run_commands, "_topology", topology)
    monkeypatch.delenv("CACHESIM_BACKEND", raising=False)
    assert invoke(scenario, *(("--backend", backend) if backend else ())).exit_code == 130
    assert [it.settings["backend"] for it in asked] == [wanted]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("loading-replica", "--backend", "docker"), "use the backend embedded"),
        (("az-outage", "--speed", "30", "--quiet-cut"), "for runs at speed 1"),
    ],
)
def test_nothing_is_started_for_a_mistake(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], why: str
) -> None:
    """What can't run is told before a topology is there."""
    monkeypatch.setattr(run_commands, "_topology", lambda *_: pytest.fail("it is started"))
    result = invoke(*arguments)
    assert (result.exit_code, why in result.output) == (2, True)


def test_no_such_topology(file: str) -> None:
    """What keeps a run from beginning is no verdict."""
    result = invoke(file, "--name", "nobody")
    assert result.exit_code == 2
    assert "no topology" in result.output


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology that is up."""
    with Simulator(backend="embedded", speed=30, seed=7) as it:
        yield it


def test_again(sim: Simulator) -> None:
    """The command that does it again has all that determines a run."""
    order = Order("a b.yaml", {}, quiet_cut=True, command=("load", "x y"))
    assert again(order, sim, 9) == (
        "cachesim run 'a b.yaml' --backend embedded --engine redis --speed 30 --seed 9 "
        "--quiet-cut -- load 'x y'"
    )


def test_again_has_no_token(sim: Simulator) -> None:
    """Who gives the token to the command finds the name of its variable in the record."""
    order = Order("x.yaml", {}, command=("redis-benchmark", "-a", sim.env()[REDIS_PASSWORD]))
    assert again(order, sim, 9).endswith(" -- redis-benchmark -a $CACHESIM_REDIS_PASSWORD")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The facts of each run, of which none is run: their histories are made by hand."""
    every: list[dict[str, Any]] = []

    def run(_sim: object, timeline: Timeline, folder: Path, **more: Any) -> Path:
        facts = {**more["facts"], "seed": timeline.seed, "scenario": timeline.as_dict()}
        facts["expect"] = timeline.expect
        every.append(facts)
        folder.mkdir(parents=True)
        with history_of([*load(0, 100), *readings(0, 100)], **facts) as history:
            [(_, _, file)] = history.rows("PRAGMA database_list")
            shutil.copy(file, folder / "history.sqlite")
        return folder / "history.sqlite"

    monkeypatch.setattr(runner, "run", run)
    return every


def test_what_can_not_be_written(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or can't be written, is no verdict."""

    def run(*_: object, **_more: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner, "run", run)
    result = invoke(file, "--backend", "embedded", "--speed", "60", "--record", str(tmp_path / "r"))
    assert result.exit_code == 2, result.output
    assert "No space left on device" in result.output


@pytest.mark.parametrize(("repeat", "seeds"), [("1", [4]), ("2", [4, 5])])
def test_as_json(
    file: str, tmp_path: Path, recorded: list[dict[str, Any]], repeat: str, seeds: list[int]
) -> None:
    """The record is printed, or a list of them; each run has its own folder and seed."""
    arguments = ["--backend", "embedded", "--speed", "60", "--seed", "4", "--repeat", repeat]
    result = invoke(file, *arguments, "--record", str(tmp_path / "r"), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    records = found if repeat == "2" else [found]
    assert [it["scenario"]["seed"] for it in records] == seeds == [it["seed"] for it in recorded]
    folders = [tmp_path / "r"] if repeat == "1" else [tmp_path / "r/1", tmp_path / "r/2"]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names >= {"history.sqlite", "record.json", "report.html", "junit.xml", "summary.md"}


def test_seed_of_the_settings(
    file: str, tmp_path: Path, recorded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the option, the seed is that of a variable or of cachesim.toml."""
    monkeypatch.setenv("CACHESIM_SEED", "4")
    invoke(file, "--backend", "embedded", "--speed", "60", "--record", str(tmp_path / "r"))
    assert [it["seed"] for it in recorded] == [4]


def test_beside_the_topology_of_the_shell(
    file: str,
    tmp_path: Path,
    recorded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    sim: Simulator,
) -> None:
    """After `cachesim env`, whose variables name a topology that is up, a run has its own."""
    monkeypatch.setenv("CACHESIM_NAME", sim.name)
    result = invoke(file, "--backend", "embedded", "--record", str(tmp_path / "r"))
    assert result.exit_code == 0, result.output
    assert len(recorded) == 1


def test_for_people(file: str, tmp_path: Path, recorded: list[dict[str, Any]]) -> None:
    """A person is told the verdict, where the report is, and how many runs pass."""
    arguments = ["--backend", "embedded", "--speed", "60", "--seed", "4", "--repeat", "2"]
    result = invoke(file, *arguments, "--record", str(tmp_path / "r"))
    assert len(recorded) == 2
    assert result.stdout.count("PASS") == 2
    assert "report.html" in result.stdout
    assert "2 of 2 runs pass; seeds 4 to 5." in result.stdout


def test_again_is_one_line(file: str, tmp_path: Path, recorded: list[dict[str, Any]]) -> None:
    """The command that does a run again can be copied, however long it is, and with brackets."""
    arguments = ["--backend", "embedded", "--speed", "60", "--record", str(tmp_path / "r")]
    result = invoke(file, *arguments, "--", "./load-test", "keys [a-z]", "and more" * 20)
    assert f"\nAgain    {recorded[0]['again']}\n" in result.stdout
