"""`cachesim run`: runs a scenario, once or several times, and reports the verdict."""

import contextlib
import json
import os
import random
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cachesim.cli import options
from cachesim.cli.printing import print_json
from cachesim.cli.report_commands import EXIT_CODES, Unusable, show_report
from cachesim.cli.scenario_commands import shipped
from cachesim.daemon.signals import INTERRUPTED, Interrupted, Interrupts
from cachesim.errors import CachesimError, InvalidScenario, SettingsError

if TYPE_CHECKING:
    from cachesim.scenarios.forms import Scenario
    from cachesim.scenarios.timeline import Timeline
    from cachesim.settings import Settings
    from cachesim.simulator.simulator import Simulator

_SEEDS = 1_000_000


@dataclass(frozen=True)
class Order:
    """What `cachesim run` was asked for.

    Attributes:
        scenario: a file, or the name of a shipped one.
        settings: of the topology, by name; None: not given.
        name: a topology that is up, to be attached to.
        seed: of the first run; None: that of the settings, or else a random one.
        record: the run's folder.
        repeat: how many runs.
        command: a command of the user, which makes the operations.
    """

    scenario: str
    settings: Mapping[str, Any]
    name: str | None = None
    seed: int | None = None
    quiet_cut: bool = False
    record: Path | None = None
    repeat: int = 1
    command: tuple[str, ...] = ()
    as_json: bool = False


def run(order: Order) -> int:
    """Run a scenario, and print the verdict.

    Returns:
        The exit code: 0 pass, 1 fail, 3 unknown, 130 interrupted.

    Raises:
        InvalidScenario: the file has mistakes.
        SettingsError: the options contradict each other, or the folder has a record already.
        CachesimError: the topology did not start, or the run could not begin.
    """
    from cachesim.scenarios.files import read_file
    from cachesim.scenarios.runner import HISTORY
    from cachesim.scenarios.timeline import plan
    from cachesim.settings import load_settings

    scenario = read_file(order.scenario)
    if order.record is not None and any(order.record.glob(f"**/{HISTORY}")):
        raise SettingsError(f"{order.record} has the record of a run already: name another folder")
    settings = load_settings({**order.settings, "seed": order.seed}).settings
    seed = random.SystemRandom().randrange(_SEEDS) if settings.seed is None else settings.seed
    if order.name is None:
        order = _checked(order, plan(scenario, seed), settings)
    results: list[str] = []
    folders: list[Path] = []
    try:
        with Interrupts("Ending the run. What was recorded is kept.") as interrupts:
            with _topology(order, interrupts) as sim:
                for number in range(order.repeat):
                    if interrupts.requested:
                        break
                    folder = _folder(order, scenario.name, seed + number, number)
                    folders.append(folder)
                    results.append(
                        _run_once(order, sim, scenario, seed + number, folder, interrupts)
                    )
            if order.as_json and folders:
                _print_records(folders, order)
            if interrupts.requested:
                return INTERRUPTED
    except Interrupted:
        return INTERRUPTED
    if order.repeat > 1 and not order.as_json:
        passed = results.count("pass")
        print(f"{passed} of {len(results)} runs pass; seeds {seed} to {seed + len(results) - 1}.")
        if passed == len(results):
            print(f"Of all such runs, up to {min(1.0, 3 / passed):.0%} may still not pass.")
    return EXIT_CODES[next((it for it in ("fail", "unknown") if it in results), "pass")]


def _checked(order: Order, timeline: "Timeline", settings: "Settings") -> Order:
    """Return the order with emulated nodes, if a step needs them and nobody asks for others.

    Raises:
        SettingsError: the timeline can't run with the settings. Nothing is started yet.
    """
    backend = "embedded" if settings.backend == "auto" else settings.backend
    timeline.check(backend, settings.speed, quiet_cut=order.quiet_cut)
    if settings.backend != "auto" or not timeline.of_emulated:
        return order
    steps = ", ".join(timeline.of_emulated)
    print(f"The nodes are emulated, as {steps} needs it.", file=sys.stderr)
    return replace(order, settings={**order.settings, "backend": "embedded"})


@contextlib.contextmanager
def _topology(order: Order, interrupts: Interrupts) -> "Iterator[Simulator]":
    """Start a topology, or attach to one, and lease it."""
    if order.name is not None:
        from cachesim.simulator.simulator import Simulator

        with interrupts.breaking():
            sim = Simulator.attach(order.name, **_given(order.settings)).start()
    else:
        from cachesim.cli.starting import started

        # Not the name of CACHESIM_NAME: after `cachesim env`, that is one that is up.
        own = {"seed": order.seed, "name": f"run-{os.urandom(3).hex()}"}
        sim, _ = started({**order.settings, **own}, interrupts)
        sim.lease()
    try:
        yield sim
    finally:
        sim.stop()


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _run_once(
    order: Order,
    sim: "Simulator",
    scenario: "Scenario",
    seed: int,
    folder: Path,
    interrupts: Interrupts,
) -> str:
    """Run once, write the reports, and return the verdict."""
    from cachesim.history.reader import History
    from cachesim.scenarios.judging import judgement_of
    from cachesim.scenarios.report import write
    from cachesim.scenarios.runner import run as run_timeline
    from cachesim.scenarios.timeline import plan
    from cachesim.scenarios.workloads import pods_of

    timeline = plan(scenario, seed)
    path = run_timeline(
        sim,
        timeline,
        folder,
        workload=partial(pods_of, command=order.command),
        progress=_progress(time.monotonic()),
        is_interrupted=lambda: interrupts.requested,
        quiet_cut=order.quiet_cut,
        facts={"again": again(order, sim, seed)},
    )
    with History(path) as history:
        judgement = judgement_of(history)
        record = write(folder, history, judgement, history.meta["scenario"])
        if not order.as_json:
            show_report(folder, record)
    return str(judgement.run.result)


def _print_records(folders: Sequence[Path], order: Order) -> None:
    """Print the record of the run, or a list of them if it is repeated."""
    records = [json.loads((it / "record.json").read_text(encoding="utf-8")) for it in folders]
    print_json(records if order.repeat > 1 else records[0])


def again(order: Order, sim: "Simulator", seed: int) -> str:
    """Return the command that does a run again, without the AUTH token."""
    from cachesim.runs.env import REDIS_PASSWORD

    words = ["cachesim", "run", order.scenario, "--backend", _backend(sim.backend)]
    words += ["--engine", str(sim.settings.engine), "--speed", f"{sim.settings.speed:g}"]
    words += ["--seed", str(seed), *(["--quiet-cut"] if order.quiet_cut else [])]
    text = shlex.join([*words, *(["--", *order.command] if order.command else [])])
    # A command may have been given the token, of a topology that was up.
    return text.replace(sim.env()[REDIS_PASSWORD], f"${REDIS_PASSWORD}")


def _backend(name: str) -> str:
    return name if name in ("embedded", "docker") else "auto"


def _progress(begun: float) -> Any:
    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"{time.monotonic() - begun:7.1f} s  {line}", file=sys.stderr, flush=True)

    return say


def _folder(order: Order, name: str, seed: int, number: int) -> Path:
    from cachesim.scenarios.runner import folder_of

    if order.record is None:
        return folder_of(name, seed)
    return order.record if order.repeat == 1 else order.record / str(number + 1)


# --- the command ------------------------------------------------------------------------------


class _WithCommand(click.Command):
    """Leaves what comes after `--` to a command of the user."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta["command"] = tuple(args[place + 1 :])
        if place == len(args) - 1:  # a shell's variable is empty, say
            raise click.UsageError("after -- comes the command that makes the operations", ctx)
        return super().parse_args(ctx, args[:place])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """See click."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@click.command(
    "run", cls=_WithCommand, epilog="Example: cachesim run az-outage --speed 30 --seed 7"
)
@click.argument("scenario", shell_complete=options.complete(shipped))
@options.run_settings
@click.option("--quiet-cut", is_flag=True, help="At speed 1: cut holds in which nothing goes on.")
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The run's folder.  [default: cachesim-runs/NAME-SEED-TIME]",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Run it N times, each with the next seed.",
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    scenario: str,
    quiet_cut: bool,
    record: Path | None,
    repeat: int,
    as_json: bool,
    name: str | None,
    seed: int | None,
    **settings: object,
) -> None:
    """Run SCENARIO, a file or the name of a shipped one, and judge it.

    Without COMMAND, the traffic of the architecture runs meanwhile. The exit code is 0 for a pass,
    1 for a fail, 2 for mistakes in the file or the options or if the run could not begin, and 3 if
    the verdict is unknown.
    """
    order = Order(
        scenario, settings, name, seed, quiet_cut, record, repeat, ctx.meta["command"], as_json
    )
    try:
        ctx.exit(run(order))
    except InvalidScenario:
        raise
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    except CachesimError as error:
        raise Unusable(str(error)) from error
    except (OSError, sqlite3.Error) as error:  # a disk that is full, or can't be written
        raise Unusable(f"the run can't be recorded: {error}") from error
