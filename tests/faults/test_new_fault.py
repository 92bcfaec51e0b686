"""A new fault is one class and one function: here a made-up one, and all that is made from it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from cachesim.cli import commands
from cachesim.cli.fault_commands import fault_commands
from cachesim.errors import CachesimError
from cachesim.faults.appliers import APPLY, Controls
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.fields import Name, Part, Whole
from cachesim.faults.spec import FaultSpec
from cachesim.runs.calls import Call
from cachesim.topology import NodeState
from tests.faults.rig import Rig


@dataclass(frozen=True)
class Swap(FaultSpec):
    """Let a node swap."""

    name = "swap"
    effect = "answers come in bursts"

    node: Annotated[str, Name("Which node.", part=Part.NODE)]
    percent: Annotated[int, Whole("Share of its memory.", "%", least=1, most=100)] = 50


def swap(on: Controls, holder: object, fault: Swap) -> None:
    """Apply it."""
    on.nodes.pause(holder, [fault.node])


FUNCTIONS = {**APPLY, Swap: swap}
CATALOGUE = Catalogue(FUNCTIONS)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology that knows the fault."""
    rig = Rig(functions=FUNCTIONS)
    yield rig
    rig.links.close()


@pytest.fixture
def main(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> click.Group:
    """The command `fault`, whose calls go to that topology."""

    def call(_run: object, operation: str, **arguments: Any) -> Any:
        return rig.connection.call(operation, **arguments)

    monkeypatch.setattr(commands, "find_run", lambda name: name)
    monkeypatch.setattr(commands, "call", call)
    return click.Group("fault", commands=fault_commands(CATALOGUE))


def test_is_applied(rig: Rig) -> None:
    """It is applied as a value and as JSON, and healed."""
    for fault in (Swap("redis-a"), {"fault": "swap", "node": "redis-a", "percent": 50}):
        with rig.faults.apply(fault) as applied:
            assert rig.backend.states["redis-a"] is NodeState.PAUSED
            assert (applied.kind, applied.target) == ("swap", "redis-a")
        assert rig.is_whole()
    with pytest.raises(ValueError, match=r"no fault 'swop': .* Did you mean swap\?"):
        rig.faults.apply({"fault": "swop"})


def test_is_unknown_without_its_function() -> None:
    """Without its function it is unknown."""
    plain = Rig()
    with pytest.raises(ValueError, match="no fault 'swap': there are latency, "):
        plain.faults.apply(Swap("redis-a"))
    plain.links.close()


def test_is_a_command(rig: Rig, main: click.Group) -> None:
    """It is a command, with its field as an argument and the other as an option."""
    done = CliRunner().invoke(main, ["swap", "redis-a", "--percent", "5", "--for", "1h"])
    assert done.output == "Fault 1: swap on redis-a, healed in 3600 s.\n"
    (fault,) = rig.faults.active
    assert fault.spec == Swap("redis-a", 5)
    done = CliRunner().invoke(main, ["swap", "redis-a", "--percent", "0"])
    assert done.exit_code == 2
    assert "Error: swap: percent must be at least 1 %, got 0" in done.output
    fault.heal()


def test_has_help(main: click.Group) -> None:
    """Its help is that of its class and its fields."""
    assert "swap              Let a node swap.\n" in CliRunner().invoke(main, ["--help"]).output
    help_text = CliRunner().invoke(main, ["swap", "--help"]).output
    assert "Usage: fault swap [OPTIONS] NODE\n\n  Let a node swap.\n" in help_text
    assert "--percent INTEGER  Share of its memory.  [default: 50]\n" in help_text


@pytest.mark.parametrize(
    ("words", "begun", "offered"),
    [
        ([], "sw", ["swap"]),
        (["swap"], "redis", ["redis-a", "redis-b", "redis-c"]),
        (["swap", "redis-a"], "--p", ["--percent"]),
    ],
)
def test_is_completed(main: click.Group, words: list[str], begun: str, offered: list[str]) -> None:
    """A shell completes it, its nodes and its options."""
    complete = ShellComplete(main, {}, "fault", "_FAULT_COMPLETE")
    assert [it.value for it in complete.get_completions(words, begun)] == offered


def test_is_in_files(main: click.Group, rig: Rig) -> None:
    """A file may have it, and the printed schema has it."""
    faults = '[{"fault": "swap", "node": "redis-a"}, {"fault": "kill", "nodes": ["redis-b"]}]'
    done = CliRunner().invoke(main, ["apply", "-"], input=faults)
    assert done.output == "Fault 1: swap on redis-a.\nFault 2: kill on redis-b.\n"
    assert [fault.kind for fault in rig.faults.active] == ["swap", "kill"]
    schema = json.loads(CliRunner().invoke(main, ["schema"]).output)
    assert schema["$defs"]["swap"]["properties"]["percent"]["maximum"] == 100


def test_is_a_call(rig: Rig) -> None:
    """The call of the topology's process takes it, and refuses a wrong one."""

    def call(**fault: object) -> object:
        return rig.connection.call(Call.APPLY, faults=[{"fault": "swap", **fault}])

    value = {"fault": "swap", "node": "redis-c", "percent": 50}
    answer = {"id": "1", "kind": "swap", "target": "redis-c", "fault": value, "seconds": None}
    assert call(node="redis-c") == [answer]
    assert rig.backend.states["redis-c"] is NodeState.PAUSED
    with pytest.raises(CachesimError, match="swap: percent must be at most 100 %, got 101"):
        call(node="redis-c", percent=101)


def test_is_in_the_reference() -> None:
    """The tables of the reference page have it."""
    pytest.importorskip("sphinx")
    from docs._ext import generated

    assert "| `swap` | a node | answers come in bursts |" in generated.faults(CATALOGUE)
    row = "| `swap` | `percent` | whole number | 1 to 100 % | `50` | Share of its memory. |"
    assert row in generated.fault_fields(CATALOGUE)
    assert any('"const": "swap"' in line for line in generated.fault_schema(CATALOGUE))
