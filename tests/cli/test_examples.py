"""Every command's help ends with an example, which is a command line that would be taken."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cachesim.cli.app import main
from cachesim.faults.catalogue import CATALOGUE


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command."""
    for name, command in group.commands.items():
        yield (*words, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


@pytest.mark.parametrize("words", list(commands(main)), ids=" ".join)
def test_example(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help has an example of this command; click and the fault take its words."""
    shown = CliRunner().invoke(main, [*words, "--help"]).output
    example = shown.rpartition("Example: ")[2].strip()
    assert " ".join(["cachesim", *words]) in example
    monkeypatch.chdir(tmp_path)
    Path("cachesim-runs/az-outage-7-20260102-030405").mkdir(parents=True)
    for name in ("faults.json", "before", "after", "mine.yaml"):
        Path(name).touch()
    line = example.removeprefix('eval "$(').removesuffix(')"').partition(" > ")[0]
    rest = shlex.split(line)[1:]
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    ctx = command.make_context(str(command.name), rest)
    fault = {it.name: it for it in CATALOGUE}.get(str(command.name))
    if words[0] == "fault" and fault is not None:
        fault(**{key: ctx.params[key] for key in fault.required()})
