"""The commands: each calls the process of the topology and prints its answer."""

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.errors import CachesimError, Leased
from cachesim.events import Event
from cachesim.runs import env
from cachesim.runs.calls import Call
from cachesim.runs.directory import LOG
from cachesim.runs.registry import Run, dead_runs, ended, find_run, living_runs, remove_dead_runs
from cachesim.runs.rpc import Channel, TakenDown, call

if TYPE_CHECKING:
    from cachesim.faults.catalogue import Catalogue
    from cachesim.faults.spec import FaultSpec

_ENDING = 90.0  # seconds that taking a topology down may take
_STUCK = 5.0  # seconds after which a process that does not answer gets a signal
_HUNG = 10.0  # seconds after which a process that does not answer `status` counts as hung
_POLL = 0.02  # seconds


# --- a topology's life ----------------------------------------------------------------------


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
            env = sim.env()
            sim.detach()
            state = call(find_run(sim.name), Call.STATUS)
    except Interrupted:
        return INTERRUPTED
    if as_json:
        _print_json(state)
    else:
        from cachesim.cli import output

        output.show_status(state)
        output.show_way_in(env, sim.name)
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
        if is_heard or run.owner.is_gone:
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
        _tell({"name": run.name, "state": "down"}, f"The topology {run.name} is down.", as_json)
        return
    from cachesim.backends.compose.folder import compose_command

    _tell(
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
    _tell(
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
        _print_json({"topologies": states, "dead": gone})
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
    names = sorted({*removed, *remove_dead_runs()})
    _tell(
        {"removed": names},
        f"Removed what was left of {', '.join(names)}." if names else "Nothing was left behind.",
        as_json,
    )


def _has_containers(run: Run) -> bool:
    # docker compose keeps its own.
    return (run.env() or {}).get(env.BACKEND) not in ("embedded", "compose")


# --- looking --------------------------------------------------------------------------------


def logs(name: str | None, node: str, lines: int, *, follow: bool, as_json: bool) -> None:
    """Print a node's log."""
    for text in _answers(find_run(name), Call.LOGS, follow, node=node, lines=lines, follow=follow):
        if as_json:
            for line in text.splitlines():
                print(json.dumps({"node": node, "line": line}), flush=True)
        elif text:
            print(text.rstrip("\n"), flush=True)


def events(name: str | None, *, follow: bool, as_json: bool) -> None:
    """Print the event log."""
    call = Call.FOLLOW_EVENTS if follow else Call.EVENTS
    for found in _answers(find_run(name), call, follow):
        for data in found:
            event = Event.from_dict(data)
            print(json.dumps(event.as_dict()) if as_json else event, flush=True)


def config(arguments: Mapping[str, object], *, as_json: bool) -> None:
    """Print the settings with their sources."""
    from cachesim.cli import output
    from cachesim.settings import load_settings

    loaded = load_settings(arguments)
    values = loaded.settings.model_dump(mode="json")
    rows = {key: {"value": values[key], "source": loaded.sources[key]} for key in values}
    if as_json:
        _print_json(rows)
    else:
        output.show_table(
            ("setting", "value", "from"),
            [(key, output.as_text(row["value"]), row["source"]) for key, row in rows.items()],
        )


def doctor(*, as_json: bool) -> bool:
    """Print what was checked.

    Returns:
        Whether a topology can start.
    """
    from cachesim.cli import output
    from cachesim.cli.doctor import examine

    checks = examine()
    if as_json:
        _print_json([check.as_json() for check in checks])
    else:
        output.show_table(
            ("", "what", "finding"), [(str(it.level), it.subject, it.finding) for it in checks]
        )
        for it in checks:
            if it.advice:
                print(f"{it.subject}: {it.advice}")
    return all(it.is_well for it in checks)


# --- breaking -------------------------------------------------------------------------------


def fault(name: str | None, fault: "FaultSpec", heal_after: float | None, *, as_json: bool) -> None:
    """Apply a fault.

    Args:
        heal_after: seconds after which the fault is healed; None: never.
    """
    (it,) = call(find_run(name), Call.APPLY, faults=[fault.as_dict()], seconds=heal_after)
    _tell(it, _applied(it), as_json)


def apply_faults(
    name: str | None,
    file: str,
    catalogue: "Catalogue",
    heal_after: float | None,
    *,
    as_json: bool,
) -> None:
    """Apply the faults of a file, all or none.

    Args:
        file: one fault as JSON, or a list; `-` for stdin.
        heal_after: seconds after which the faults are healed; None: never.

    Raises:
        CachesimError: the message names the file, the position in the list and the field.
    """
    run, where = find_run(name), "stdin" if file == "-" else file
    try:
        data = _read_json(file)
        fault = catalogue.read_list(data) if isinstance(data, list) else catalogue.read(data)
        values = [it.as_dict() for it in (fault if isinstance(fault, list) else [fault])]
        applied = call(run, Call.APPLY, faults=values, seconds=heal_after)
    except (OSError, ValueError) as error:
        raise CachesimError(f"{where}: {error}") from error
    answer = applied if isinstance(data, list) else applied[0]
    _tell(answer, "\n".join(map(_applied, applied)), as_json)


def _applied(it: Mapping[str, Any]) -> str:
    until = "" if it["seconds"] is None else f", healed in {it['seconds']:g} s"
    return f"Fault {it['id']}: {it['kind']} on {it['target']}{until}."


def faults(name: str | None, *, links: bool, as_json: bool) -> None:
    """Print the active faults, or the links."""
    from cachesim.cli import output

    rows = call(find_run(name), Call.LINKS if links else Call.FAULTS)
    if links:
        rows = [{**it, "toxics": [_toxic(toxic) for toxic in it["toxics"]]} for it in rows]
    if as_json:
        _print_json(rows)
    elif links:
        output.show_table(
            ("link", "toxics"), [(it["name"], ", ".join(it["toxics"])) for it in rows]
        )
    elif rows:
        output.show_table(
            ("id", "fault", "on"), [(it["id"], it["kind"], it["target"]) for it in rows]
        )
    else:
        print("There are no faults.")


def heal(name: str | None, fault_id: str | None, *, as_json: bool) -> None:
    """Heal one fault, or all."""
    run = find_run(name)
    healed = call(run, Call.HEAL, fault=fault_id)
    if fault_id is not None and not healed:
        there = ", ".join(it["id"] for it in call(run, Call.FAULTS))
        raise CachesimError(
            f"no fault {fault_id}: there are {there or 'none'}. `cachesim fault list` shows them."
        )
    lines = [f"Healed fault {it['id']}: {it['kind']} on {it['target']}." for it in healed]
    _tell(healed, "\n".join(lines) or "There were no faults.", as_json)


def reset(name: str | None, *, as_json: bool) -> None:
    """Reset a topology."""
    run = find_run(name)
    call(run, Call.RESET)
    _tell({"name": run.name}, f"The topology {run.name} is as new.", as_json)


def node(name: str | None, verb: str, node: str, *, as_json: bool) -> None:
    """Kill, stop, pause, resume or restart a node."""
    run = find_run(name)
    match verb:
        case "resume":
            call(run, Call.RESUME, node=node)
        case "restart":
            call(run, Call.RESTART, node=node)
        case _:
            call(run, Call.APPLY, faults=[{"fault": verb, "nodes": [node]}])
    it = call(run, Call.NODE, node=node)
    _tell(it, f"{it['name']} is {it['state']}.", as_json)


def failover(name: str | None, to: str | None, *, wait: bool, as_json: bool) -> None:
    """Promote a replica."""
    run = find_run(name)
    try:
        shard = call(run, Call.FAILOVER, to=to)
    except ValueError as error:
        raise CachesimError(str(error)) from error
    if wait:
        # No timeout here: the other process has one, from its settings.
        shard = call(
            run,
            Call.WAIT_FOR_FAILOVER,
            timeout=None,
            shard=shard["id"],
            after=shard["failovers"],
        )
    text = f"{shard['primary']} is the primary." if wait else "A failover has begun."
    _tell({"primary": shard["primary"], "state": shard["state"]}, text, as_json)


# --- helpers --------------------------------------------------------------------------------


def _answers(run: Run, call: Call, is_followed: bool, **arguments: object) -> Iterator[Any]:
    with contextlib.closing(Channel(run)) as channel:
        channel.begin(call, **arguments)
        if is_followed:
            yield from channel.parts()
        else:
            yield channel.result()


def _toxic(toxic: Mapping[str, Any]) -> str:
    return f"{toxic['type']} {toxic['stream']}"


def _read_json(file: str) -> Any:
    """Read a file, or stdin.

    Raises:
        ValueError: it is not JSON, or an object has a field twice.
    """
    if file != "-":
        text = Path(file).read_bytes()
    elif sys.stdin is None:
        raise ValueError("it is closed. Give a file instead.")
    else:
        text = sys.stdin.buffer.read()

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the field `{twice}` occurs twice")
        return found

    return json.loads(text, object_pairs_hook=unique)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        if sys.platform != "win32":
            os.kill(pid, signal.SIGCONT)  # a stopped process handles no other signal


def _tell(data: object, text: str, as_json: bool) -> None:
    if as_json:
        _print_json(data)
    else:
        print(text)


def _print_json(data: Mapping[str, Any] | Sequence[Any] | object) -> None:
    print(json.dumps(data, indent=2))
