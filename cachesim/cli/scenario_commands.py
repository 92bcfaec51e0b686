"""The commands of `cachesim scenario`: writing, looking at and checking scenario files."""

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cachesim.cli import options

if TYPE_CHECKING:
    from cachesim.scenarios.steps import PlannedStep
    from cachesim.scenarios.timeline import Timeline

_NEW = """\
version: 1
name: {name}
description: |
  The Redis primary crashes.
timeline:
  - {{at: 30s, fault: kill, target: {{role: primary}}, for: 5m}}
expect:
  lost_writes: {{max: bound}}
  recovery: {{within: 60s}}
"""


def shipped() -> list[str]:
    """Return the names of the shipped scenarios."""
    from cachesim.scenarios.files import library

    return list(library())


@click.group(epilog="Example: cachesim scenario show az-outage")
def scenario() -> None:
    """Write, look at and check scenario files."""


@scenario.command(epilog="Example: cachesim scenario new mine.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    metavar="NAME",
    shell_complete=options.complete(shipped),
    help="The shipped scenario to begin with.  [default: a short one]",
)
def new(file: Path, source: str | None) -> None:
    """Write a new scenario to FILE, which must not exist."""
    from cachesim.faults.fields import unknown
    from cachesim.scenarios.files import library

    shipped = library()
    if source is not None and source not in shipped:
        raise click.BadParameter(unknown("scenario", source, shipped), param_hint="--from")
    text = _NEW.format(name=_name(file)) if source is None else shipped[source]
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    click.echo(f"{file} is written. `cachesim scenario check {shlex.quote(str(file))}` checks it.")


def _name(file: Path) -> str:
    """Return a name for the scenario of a file: one that YAML takes for text."""
    words = re.findall("[a-z0-9]+", file.stem.lower())
    name = "-".join(words)
    is_text = name[:1].isalpha() and name not in ("true", "false", "null")
    return name if is_text else "-".join(["scenario", *words])


@scenario.command("list", epilog="Example: cachesim scenario list")
@options.as_json
def list_(as_json: bool) -> None:
    """List the shipped scenarios."""
    from cachesim.scenarios.files import library, read

    titles = {
        name: read(text, name).description.partition("\n")[0] for name, text in library().items()
    }
    if as_json:
        click.echo(json.dumps([{"name": name, "title": it} for name, it in titles.items()]))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:<{width}}  {title}")


@scenario.command(epilog="Example: cachesim scenario show az-outage")
@click.argument("scenario", shell_complete=options.complete(shipped))
@click.option("--seed", type=int, default=1, show_default=True, help="The seed of the draws.")
@options.as_json
def show(scenario: str, seed: int, as_json: bool) -> None:
    """Show what SCENARIO does, and when. SCENARIO is a file, or the name of a shipped one."""
    from cachesim.scenarios.files import read_file
    from cachesim.scenarios.timeline import plan

    timeline = plan(read_file(scenario), seed)
    if as_json:
        click.echo(json.dumps(timeline.as_dict(), indent=2))
    else:
        click.echo("\n".join(_described(timeline)))


@scenario.command(epilog="Example: cachesim scenario check *.yaml")
@click.argument("files", metavar="SCENARIO...", nargs=-1, required=True)
@options.as_json
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check scenarios, and print every mistake with its line and column.

    SCENARIO is a file, or the name of a shipped one. The exit code is 2 if there is a mistake.
    """
    from cachesim.errors import InvalidScenario, Problem
    from cachesim.scenarios.files import read_file

    problems: list[Problem] = []
    for file in files:
        try:
            found = read_file(file)
        except InvalidScenario as error:
            problems += error.problems
        else:
            if not as_json:
                click.echo(f"{file}: {found.name} is valid. Steps: {len(found.timeline)}.")
    if as_json:
        click.echo(json.dumps([it._asdict() for it in problems]))
    elif problems:
        raise InvalidScenario(problems)
    ctx.exit(2 if problems else 0)


@scenario.command("schema", epilog="Example: cachesim scenario schema > scenario.schema.json")
def schema_() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from cachesim.scenarios.schema import schema

    click.echo(json.dumps(schema(), indent=2))


def _described(timeline: "Timeline") -> list[str]:
    scenario = timeline.scenario
    lines = [f"{scenario.name}, seed {timeline.seed}"]
    lines += [f"  {line}" for line in scenario.description.splitlines()]
    lines += ["", f"The baseline takes {scenario.baseline.length:g} s. Then, in production time:"]
    rows = [(_when(step), step.id, _what(step)) for step in timeline.steps]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines += [f"  {when:<{widths[0]}}  {id_:<{widths[1]}}  {it}" for when, id_, it in rows]
    lines.append(f"It ends after {timeline.latest_end:g} s at the latest.")
    lines += ["", "Expected:" if timeline.expect else "Nothing is expected, only measured."]
    for name, values in timeline.expect.items():
        text = json.dumps(values).replace('"', "").replace("{", "").replace("}", "")
        lines.append(f"  {name}: {text}")
    return lines


def _when(step: "PlannedStep") -> str:
    if step.at is not None:
        return f"{step.at:g} s"
    return f"after {step.after}{f', then {step.delay:g} s' if step.delay else ''}"


def _what(step: "PlannedStep") -> str:
    values = "".join(f" {name}={value}" for name, value in step.fields.items())
    on = f" on {step.target}" if step.target else ""
    flap = f", {step.flap.on:g} s on and {step.flap.off:g} s off" if step.flap else ""
    return f"{step.fault}{values}{on}, for {step.hold:g} s{flap}"
