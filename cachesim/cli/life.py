"""The commands of a topology's life: its start, its end, its state, and what is left of it."""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cachesim.cli.printing import print_json, tell
from cachesim.errors import CachesimError, Leased
from cachesim.runs import env
from cachesim.runs.calls import Call
from cachesim.runs.directory import LOG
from cachesim.runs.registry import Run, dead_runs, ended, find_run, living_runs, remove_dead_runs
from cachesim.runs.rpc import Channel, TakenDown, call

_ENDING = 90.0  # seconds that taking a topology down may take
_STUCK = 5.0  # seconds after which a process that does not answer gets a signal
_HUNG = 10.0  # seconds after which a process that does not answer `status` counts as hung
_POLL = 0.02  # seconds


def up(arguments: Mapping[str, object], folder: Path | None = None, *, as_json: bool) -> int:
    """Start a detached topology, or attach to the containers of a folder of `cachesim compose`.

    Returns:
        The exit code: 0, or 130 if an interrupt came before the topology was up.
    """
    from cachesim.cli.starting import started
    from cachesim.daemon.signals import INTERRUPTED, Interrupted, Interrupts

    doing = "Taking everything down." if folder is None else "Detaching from it."
    try:
        with Interrupts(doing) as interrupts:
            sim, _ = started(arguments, interrupts, folder)
            if interrupts.requested:
                sim.stop()
                return INTERRUPTED
            sim.detach()
            state = call(find_run(sim.name), Call.STATUS)
    except Interrupted:
        return INTERRUPTED
    if as_json:
        print_json(state)
    else:
        from cachesim.cli import output

        output.show_status(state)
        output.show_way_in(sim.name)
    return 0


def down(name: str | None, *, force: bool, as_json: bool) -> None:
    """Take a topology down, or detach it from its containers, and wait until its process has ended.

    Args:
        force: even while another process has the lease.

    Raises:
        CachesimError: not everything could be taken down.
    """
    run, left = find_run(name), None
    is_heard = False
    try:
        with contextlib.closing(Channel(run)) as channel:
            channel.begin(Call.DOWN, force=force)
            left = channel.part(_STUCK)
            is_heard = True
            channel.result(_ENDING)
    except TakenDown:
        pass
    except Leased:
        raise
    except CachesimError:
        if is_heard or run.owner.is_gone or (run.holder is not None and not force):
            raise
        _end(run.owner.pid)  # it does not answer; a signal ends it
    limit = time.monotonic() + _ENDING
    while not run.owner.is_gone and run.folder.exists():
        if time.monotonic() > limit:
            raise CachesimError(
                f"process {run.owner.pid} is still taking {run.name!r} down after {_ENDING:g} s. "
                f"Its log is {run.folder / LOG}. If it does not end, kill it, then run "
                "`cachesim gc`."
            )
        time.sleep(_POLL)
    if run.folder.exists():
        raise CachesimError(ended(run))
    limit = time.monotonic() + _STUCK  # all is down: if the process hangs now, nobody needs to know
    while not run.owner.is_gone and time.monotonic() < limit:
        time.sleep(_POLL)
    if left is None:
        tell({"name": run.name, "state": "down"}, f"The topology {run.name} is down.", as_json)
        return
    from cachesim.backends.compose.folder import compose_command

    tell(
        {"name": run.name, "state": "detached"},
        f"Nothing is attached to {run.name} any more. Its containers keep running: "
        f"`{compose_command(Path(left))} down` takes them down.",
        as_json,
    )


def compose(
    folder: Path, arguments: Mapping[str, object], base_port: int | None, *, as_json: bool
) -> None:
    """Write a folder for `docker compose`."""
    from cachesim.backends.compose.folder import compose_command, kept_settings, write_folder

    files = write_folder(folder, *kept_settings(folder, arguments, base_port))
    folder = folder.resolve()
    steps = [
        f"{compose_command(folder)} up -d --wait",
        f"cachesim attach {shlex.quote(str(folder))}",
    ]
    text = f"Wrote {len(files)} files to {folder}. Bring the topology up and attach to it:\n"
    tell(
        {"folder": str(folder), "files": [str(file) for file in files], "next": steps},
        "\n".join([text, *(f"    {step}" for step in steps)]),
        as_json,
    )


def status(name: str | None, *, as_json: bool) -> bool:
    """Show the topologies that are up.

    Args:
        name: show this one only; None: all.

    Returns:
        Whether any of them is up.
    """
    runs = [run for run in living_runs() if name in (None, run.name)]
    dead = [run for run in dead_runs() if name in (None, run.name)]
    states = []
    for run in runs:
        try:
            states.append(call(run, Call.STATUS, timeout=_HUNG))
        except CachesimError as error:
            states.append({"name": run.name, "pid": run.owner.pid, "unreachable": str(error)})
    if as_json:
        gone = [{"name": run.name, "pid": run.owner.pid} for run in dead]
        print_json({"topologies": states, "dead": gone})
        return bool(states)
    from cachesim.cli import output

    for state in states:
        output.show_status(state)
    for run in dead:
        text = ended(run)
        print(f"{text[0].upper()}{text[1:]}", file=sys.stderr)
    if not states and not dead:
        which = "No topology is up." if name is None else f"No topology named {name} is up."
        print(f"{which} `cachesim up` starts one, `cachesim up -d` detached.", file=sys.stderr)
    return bool(states)


def gc(*, as_json: bool) -> None:
    """Remove what killed processes have left behind."""
    from cachesim.daemon.leftovers import remove_orphans

    removed: list[str] = []
    nothing = "Nothing was left behind."
    try:
        removed = remove_orphans()
    except CachesimError as error:
        if in_containers := [run.name for run in dead_runs() if _has_containers(run)]:
            remove_dead_runs()
            raise CachesimError(
                f"only the files of {', '.join(in_containers)} were removed, not their containers: "
                f"{error} Then run `cachesim gc` again."
            ) from error
        print(f"Containers could not be listed: {error}", file=sys.stderr)
        nothing = "No files were left behind."
    names = sorted({*removed, *remove_dead_runs()})
    tell(
        {"removed": names},
        f"Removed what was left of {', '.join(names)}." if names else nothing,
        as_json,
    )


def _has_containers(run: Run) -> bool:
    # docker compose keeps its own.
    return (run.env() or {}).get(env.BACKEND) not in ("embedded", "compose")


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        if sys.platform != "win32":
            os.kill(pid, signal.SIGCONT)  # a stopped process handles no other signal
