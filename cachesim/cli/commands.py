"""The commands that look and break: each calls the topology's process and prints its answer."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.cli.printing import print_json, tell
from cachesim.errors import CachesimError
from cachesim.events import Event
from cachesim.runs.calls import Call
from cachesim.runs.failing_over import fail_over
from cachesim.runs.registry import Run, find_run
from cachesim.runs.rpc import Channel, call
from cachesim.topology import NodeState

if TYPE_CHECKING:
    from cachesim.faults.catalogue import Catalogue
    from cachesim.faults.spec import FaultSpec

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
        print_json(rows)
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
        print_json([check.as_json() for check in checks])
    else:
        output.show_table(
            ("", "what", "finding"), [(str(it.level), it.subject, it.finding) for it in checks]
        )
        for it in checks:
            if it.advice:
                print(f"{it.subject}: {it.advice}")
    return all(it.is_well for it in checks)


# --- breaking -------------------------------------------------------------------------------


Times = Mapping[str, Any]
"""When faults are healed and how they change until then: `seconds`, `over`, `flap` of the call."""


def fault(name: str | None, fault: "FaultSpec", times: Times, *, as_json: bool) -> None:
    """Apply a fault."""
    (it,) = call(find_run(name), Call.APPLY, faults=[fault.as_dict()], **times)
    tell(it, _applied(it), as_json)


def apply_faults(
    name: str | None,
    file: str,
    catalogue: "Catalogue",
    times: Times,
    *,
    as_json: bool,
) -> None:
    """Apply the faults of a file, all or none.

    Args:
        file: one fault as JSON, or a list; `-` for stdin.

    Raises:
        CachesimError: the message names the file, the position in the list and the field.
    """
    run, where = find_run(name), "stdin" if file == "-" else file
    try:
        data = _read_json(file)
        fault = catalogue.read_list(data) if isinstance(data, list) else catalogue.read(data)
        values = [it.as_dict() for it in (fault if isinstance(fault, list) else [fault])]
        applied = call(run, Call.APPLY, faults=values, **times)
    except (OSError, ValueError) as error:
        raise CachesimError(f"{where}: {error}") from error
    answer = applied if isinstance(data, list) else applied[0]
    tell(answer, "\n".join(map(_applied, applied)), as_json)


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
        print_json(rows)
    elif links:
        output.show_table(
            ("link", "toxics"), [(it["name"], ", ".join(it["toxics"])) for it in rows]
        )
    elif rows:
        output.show_faults(rows)
    else:
        print("There are no faults.")


def heal(name: str | None, fault_id: str | None, *, as_json: bool) -> None:
    """Heal one fault, or all."""
    run = find_run(name)
    healed = call(run, Call.HEAL, fault=fault_id)
    if fault_id is not None and not healed:
        there = ", ".join(it["id"] for it in call(run, Call.FAULTS))
        raise CachesimError(
            f"no fault with the id {fault_id!r}: there are {there or 'none'}. "
            "`cachesim fault list` shows them."
        )
    lines = [f"Healed fault {it['id']}: {it['kind']} on {it['target']}." for it in healed]
    tell(healed, "\n".join(lines) or "There were no faults.", as_json)


def reset(name: str | None, *, as_json: bool) -> None:
    """Reset a topology."""
    run = find_run(name)
    call(run, Call.RESET)
    tell({"name": run.name}, f"The topology {run.name} is as new.", as_json)


_DONE = {
    "kill": "killed",
    "stop": "shut down",
    "pause": "paused",
    "resume": "resumed",
    "restart": "restarted",
}


def node(name: str | None, verb: str, node: str, *, as_json: bool) -> None:
    """Kill, stop, pause, resume or restart a node."""
    run = find_run(name)
    done = _DONE[verb]
    match verb:
        case "resume":
            state = call(run, Call.NODE, node=node)["state"]
            if state != NodeState.PAUSED:
                done = f"not paused: it is {state}"
            call(run, Call.RESUME, node=node)
        case "restart":
            call(run, Call.RESTART, node=node)
        case _:
            call(run, Call.APPLY, faults=[{"fault": verb, "nodes": [node]}])
    it = call(run, Call.NODE, node=node)
    tell(it, f"{it['name']} was {done}.", as_json)


def replace(name: str | None, node: str, *, new_address: bool, old: str, as_json: bool) -> None:
    """Replace a node."""
    arguments = {"node": node, "new_address": new_address, "hangs": old == "hang"}
    it = call(find_run(name), Call.REPLACE, timeout=None, **arguments)
    tell(it, f"{it['name']} is {it['state']}, at {it['endpoint']}.", as_json)


def scale(name: str | None, memcached: int, *, as_json: bool) -> None:
    """Change the number of Memcached nodes."""
    nodes = call(find_run(name), Call.SCALE, timeout=None, memcached=memcached)
    lines = [f"{it['name']} is {it['state']}, at {it['endpoint']}." for it in nodes]
    tell(nodes, "\n".join(lines), as_json)


def roll(name: str | None, *, new_addresses: bool, old: str, as_json: bool) -> None:
    """Replace all nodes."""
    arguments = {"new_addresses": new_addresses, "hangs": old == "hang"}
    nodes = call(find_run(name), Call.ROLL, timeout=None, **arguments)
    lines = [f"{it['name']} is {it['state']}, at {it['endpoint']}." for it in nodes]
    tell(nodes, "\n".join(lines), as_json)


def failover(name: str | None, to: str | None, *, wait: bool, as_json: bool) -> None:
    """Promote a replica."""
    run = find_run(name)
    try:
        if wait:
            # No timeout here: the other process has one, from its settings.
            shard = fail_over(partial(call, run, timeout=None), to)
        else:
            shard = call(run, Call.FAILOVER, to=to)
    except ValueError as error:
        raise CachesimError(str(error)) from error
    text = f"{shard['primary']} is the primary." if wait else "A failover has begun."
    tell({"primary": shard["primary"], "state": shard["state"]}, text, as_json)


def wait(
    name: str | None, what: str, node: str | None, seconds: float | None, *, as_json: bool
) -> None:
    """Wait until something is true of a topology, or of one node."""
    run = find_run(name)
    shard = call(run, Call.WAIT, timeout=None, what=what, seconds=seconds, node=node)
    healthy = f"{node} is healthy. " if node else "All nodes are healthy. "
    state = {"available": "The shard is available. ", "healthy": healthy}
    text = f"{state.get(what, '')}{shard['primary']} is the primary."
    tell({"primary": shard["primary"], "state": shard["state"]}, text, as_json)


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
