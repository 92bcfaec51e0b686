"""The commands about metrics and alarms."""

import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cachesim.cli import options
from cachesim.cli.report_commands import Unusable

if TYPE_CHECKING:
    from cachesim.runs.registry import Run

_POLL = 0.5  # seconds until a new minute is noticed
_FATAL = 1


@click.command(epilog="Example: cachesim metrics redis-a --follow")
@click.argument("nodes", metavar="[NODE]...", nargs=-1, shell_complete=options.nodes)
@click.option("-f", "--follow", is_flag=True, help="Print new minutes too, until Ctrl-C.")
@click.option(
    "--prometheus",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Serve them to Prometheus on 127.0.0.1, until Ctrl-C. 0: a free port.",
)
@options.name
@options.as_json
def metrics(
    nodes: tuple[str, ...],
    follow: bool,
    prometheus: int | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Print the metrics of the last minute of production, under their CloudWatch names.

    The first use begins to take them; until a minute has ended, it prints what there is of it. With
    --json, one minute a line.
    """
    from cachesim.errors import CachesimError
    from cachesim.faults.named import unknown
    from cachesim.runs.registry import find_run
    from cachesim.topology import production

    every = [node.name for node in production().nodes]
    for node in nodes:
        if node not in every:
            raise CachesimError(unknown("node", node, every))
    run = find_run(name)
    if prometheus is not None:
        _serve(run, prometheus)
        return
    chosen = nodes or tuple(every)
    last = _print_last(run, chosen, as_json=as_json, whole=follow)
    while follow:
        time.sleep(_POLL)
        data = _metrics(run, after=last)
        for minute in data["minutes"]:
            _print_minute(minute, data["metrics"], chosen, as_json=as_json)
            last = minute["number"]


def _metrics(run: "Run", after: int = 0, *, running: bool = False, last: bool = False) -> Any:
    from cachesim.runs.calls import Call
    from cachesim.runs.rpc import call

    return call(run, Call.METRICS, after=after, running=running, last=last)


def _print_last(run: "Run", nodes: tuple[str, ...], *, as_json: bool, whole: bool) -> int:
    """Print the last minute, or what there is of the first one; return its number, 0 if none."""
    data = _metrics(run, running=True, last=True)
    minute = data["minutes"][-1] if data["minutes"] else None
    if minute is not None:
        _print_minute(minute, data["metrics"], nodes, as_json=as_json)
        return int(minute["number"])
    if not whole:
        _print_minute(data["running"], data["metrics"], nodes, as_json=as_json)
    return 0


def _print_minute(
    minute: Mapping[str, Any],
    units: Mapping[str, Mapping[str, str]],
    nodes: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    from cachesim.cli import output

    points = {node: minute["nodes"].get(node, {}) for node in nodes}
    if as_json:
        print(json.dumps({**minute, "nodes": points}), flush=True)
        return
    if not any(points.values()):
        print("There is no data of them yet, or no node answers: ask again in a moment.")
        return
    seconds = minute["end"] - minute["begin"]
    at = datetime.fromtimestamp(time.time() - time.monotonic() + minute["end"])
    print(f"minute {minute['number']}, until {at:%H:%M:%S}, of {seconds:.3g} s\n")
    for engine in ("redis", "memcached"):
        some = [node for node in nodes if node.startswith(engine)]
        if not some:
            continue
        rows = [
            (metric, *(_value(points[node].get(metric), unit) for node in some))
            for metric, unit in units[some[0]].items()
        ]
        output.show_table(("metric", *some), rows)
    if minute["links"] and len(nodes) == len(units):
        crossed = [(link, _value(it, "Bytes")) for link, it in minute["links"].items()]
        output.show_table(("link between zones", "CrossZoneBytes"), crossed)


def _value(point: list[float] | None, unit: str) -> str:
    if point is None:
        return "-"
    number = point[0]
    if unit == "Bytes":
        for scale, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if number >= scale:
                return f"{number / scale:.1f} {name}"
    suffix = {"Percent": " %", "Seconds": " s", "Bytes": " B"}.get(unit, "")
    return f"{number:.1f}".removesuffix(".0") + suffix


def _serve(run: "Run", port: int) -> None:
    from threading import Event

    from cachesim.monitoring.prometheus import HOST, Exposition, serving
    from cachesim.runs.calls import Call
    from cachesim.runs.rpc import call
    from cachesim.topology import production

    def read() -> Any:
        return _metrics(run, last=True), call(run, Call.ALARMS)

    read()  # so that the first scrape finds something, and a topology that is gone is told
    with serving(Exposition(run.name, production(), read), port) as chosen:
        print(f"http://{HOST}:{chosen}/metrics", flush=True)
        Event().wait()


@click.group(invoke_without_command=True, epilog="Example: cachesim alarms inbox")
@options.name
@options.as_json
@click.pass_context
def alarms(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Print the alarms and their states.

    They are the architecture's or those of the setting `alarms`, and the thresholds of the
    architecture's table. The first use begins to watch them.
    """
    if ctx.invoked_subcommand is not None:
        # What is given before a command is meant for it.
        ctx.default_map = {ctx.invoked_subcommand: {"name": name, "as_json": as_json}}
        return
    from cachesim.cli import output
    from cachesim.cli.printing import print_json
    from cachesim.monitoring.alarms import SIGNS
    from cachesim.runs.calls import Call
    from cachesim.runs.registry import find_run
    from cachesim.runs.rpc import call

    found = call(find_run(name), Call.ALARMS)
    if as_json:
        print_json(found)
        return
    output.show_table(
        ("alarm", "state", "value", "threshold", "node"),
        [
            (
                it["name"],
                it["state"],
                "-" if it["value"] is None else f"{it['value']:.4g}",
                f"{SIGNS[it['comparison']]} {it['threshold']:g}",
                it["node"] if it["value"] is not None else "",
            )
            for it in found
        ],
    )
    for it in found:
        if it["out_of_reach"] and it["level"] is None:
            print(f"{it['name']} can't fire: {it['out_of_reach']}")


@alarms.command(epilog="Example: cachesim alarms check alarms.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@options.as_json
@click.pass_context
def check(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Tell which alarms of FILE can't work, why, and what is usually done.

    FILE has alarms in the architecture's form, or is a CloudFormation template. The exit code is 1
    if an alarm can never fire, and 2 if the file has mistakes.
    """
    from cachesim.cli.printing import print_json
    from cachesim.errors import SettingsError
    from cachesim.monitoring.alarm_files import examine
    from cachesim.topology import production

    try:
        found = examine(file, production())
    except SettingsError as error:
        raise Unusable(str(error)) from error
    if as_json:
        print_json(
            {
                "alarms": [it.name for it in found.alarms],
                "mistakes": found.mistakes,
                "findings": [it._asdict() for it in found.findings],
            }
        )
    else:
        for mistake in found.mistakes:
            click.echo(mistake, err=True)
        _print_findings(it._asdict() for it in found.findings)
        dead = {it.alarm for it in found.findings if it.is_fatal}
        alive = len([it for it in found.alarms if it.name not in dead])
        print(f"{alive} of {len(found.alarms)} alarms can fire.")
    if found.mistakes:
        ctx.exit(2)
    ctx.exit(_FATAL if any(it.is_fatal for it in found.findings) else 0)


def _print_findings(findings: Iterable[Mapping[str, Any]]) -> None:
    for it in findings:
        verb = "can't fire" if it["is_fatal"] else "note"
        print(f"{it['alarm']}: {verb}: {it['problem']}.\n  {it['remedy']}")


@alarms.command(epilog="Example: cachesim alarms inbox --json")
@options.name
@options.as_json
def inbox(name: str | None, as_json: bool) -> None:
    """Print the messages that alarms would have sent."""
    from cachesim.cli import output
    from cachesim.cli.printing import print_json
    from cachesim.runs.calls import Call
    from cachesim.runs.registry import find_run
    from cachesim.runs.rpc import call

    found = call(find_run(name), Call.INBOX)
    if as_json:
        print_json(found)
    elif found:
        output.show_table(
            ("sent", "to", "subject", "note"),
            [(it["envelope"]["Timestamp"], it["to"], it["subject"], it["note"]) for it in found],
        )
    else:
        print("The inbox is empty.")
