"""The rules of a scenario file that its models can't say: a fault's fields, and other steps.

They work on plain values, which may be wrong in any way, so that a file's mistakes are told all at
once. What the models refuse is passed over here.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cachesim.errors import InvalidFault
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import Field, Name, Names, Number, Part, unknown
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios import units
from cachesim.scenarios.form_fields import Form
from cachesim.scenarios.forms import Action, Choice, Ramp, Step
from cachesim.scenarios.source import Path
from cachesim.scenarios.targets import why_unfit

Finding = tuple[Path, str, bool]
"""Where something is wrong, what, and whether it is the key."""

SERVICES = ("sessions", "api_cache")
"""The services of the built-in workload."""
KINDS = ("read", "write")
_OF_SERVICES = ("stale_reads", "remap", "hit_rate")
"""What is expected of a service as a whole."""

_MOST = 1000
"""Repetitions of one step."""


def keys_of(model: type[Form]) -> dict[str, None]:
    """Return the keys of a form as files have them, in order."""
    return dict.fromkeys(field.alias or name for name, field in model.model_fields.items())


def target_fields(fault: type[FaultSpec]) -> dict[str, Part]:
    """Return the fields of a fault that its target gives, with what each of them is.

    Endpoints are named by a field of their own.
    """
    found = fault.fields().items()
    return {
        name: field.part
        for name, field in found
        if isinstance(field, Name | Names) and field.part is not Part.ENDPOINT
    }


def own_fields(fault: type[FaultSpec]) -> dict[str, Field]:
    """Return the fields of a fault that a step gives."""
    return {k: v for k, v in fault.fields().items() if k not in target_fields(fault)}


def number(value: Any, field: Field) -> Any:
    """Return the value of a fault's field, of a text with a unit too.

    Raises:
        ValueError: the text is no such quantity.
    """
    if isinstance(field, Number) and isinstance(value, str):
        match field.unit:
            case "ms":
                return units.milliseconds(value)
            case "s":
                return units.seconds(value)
            case "KB/s":
                return units.kilobytes(value)
            case "":
                return units.share(value)
    return value


def findings(data: object, catalogue: Catalogue = CATALOGUE) -> Iterator[Finding]:
    """Yield what is wrong with the values of a file."""
    if not isinstance(data, dict):
        return
    steps = data.get("timeline")
    steps = steps if isinstance(steps, list) else []
    for i, step in enumerate(steps):
        if isinstance(step, dict):
            yield from _step(step, ("timeline", i), catalogue)
    yield from _order(data, steps)
    yield from _services(data)
    yield from _idle(data)


# --- one step ---------------------------------------------------------------------------------


def _step(step: dict[str, Any], path: Path, catalogue: Catalogue) -> Iterator[Finding]:
    if "at" in step and "after" in step:
        yield (*path, "after"), "at is given too: a step begins at a time, or after something", True
    elif "at" not in step and "after" not in step:
        yield path, "at or after is missing: when does it begin?", False
    if "delay" in step and "after" not in step:
        yield (*path, "delay"), "needs after: with at, add both times", True
    if "times" in step and "every" not in step:
        yield (*path, "times"), "needs every", True
    every, hold = _seconds(step.get("every")), _seconds(step.get("for", "60s"))
    if every is not None and hold is not None and every < hold:
        why = f"should be at least as long as the step lasts, {hold:g}s"
        yield (*path, "every"), why, False
    for where, flap in _flaps(step):
        period = (_seconds(flap.get("on")) or 0) + (_seconds(flap.get("off")) or 0)
        if hold and period and hold / period > _MOST:
            yield (*path, *where), f"would come and go more than {_MOST} times", False
    if "one_of" not in step:
        yield from _action(step, path, Step, catalogue, hold)
        return
    if "fault" in step:
        yield (*path, "fault"), "one_of is given too: give one of both", True
    for key in step.keys() - keys_of(Step).keys():
        yield (*path, key), unknown("key", key, keys_of(Step)), True
    for key in () if "fault" in step else sorted(step.keys() & {"target", "flap", "if_none"}):
        yield (*path, key), "belongs into each of one_of", True
    choices = step["one_of"]
    for i, choice in enumerate(choices if isinstance(choices, list) else []):
        if isinstance(choice, dict):
            yield from _action(choice, (*path, "one_of", i), Choice, catalogue, hold)


def _flaps(step: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    choices = step.get("one_of")
    inner = enumerate(choices if isinstance(choices, list) else [])
    for where, action in ((), step), *((("one_of", i), choice) for i, choice in inner):
        if isinstance(action, dict) and isinstance(action.get("flap"), dict):
            yield (*where, "flap"), action["flap"]


def _action(
    action: dict[str, Any],
    path: Path,
    model: type[Action],
    catalogue: Catalogue,
    hold: float | None,
) -> Iterator[Finding]:
    faults = {fault.name: fault for fault in catalogue}
    name = action.get("fault")
    if name is None:
        extra = action.keys() - keys_of(model).keys()
        near = [key for key in sorted(extra) if "did you mean" in _hint(key, ["fault"]).lower()]
        if near:
            yield (*path, near[0]), unknown("key", near[0], keys_of(model)), True
        else:
            yield path, f"fault is missing: one of {', '.join(faults)}", False
        return
    if not isinstance(name, str) or name not in faults:
        yield (*path, "fault"), unknown("fault", name, faults), False
        return
    fault = faults[name]
    yield from _target(action, path, fault)
    own, bad = own_fields(fault), False
    for key in action.keys() - keys_of(model).keys():
        if key in target_fields(fault):
            part = target_fields(fault)[key]
            word = "zones" if part is Part.ZONE else "links" if part is Part.LINK else "nodes"
            yield (*path, key), f"belongs into the target: target: {{{word}: ...}}", True
        elif key not in own:
            yield (*path, key), unknown("key", key, [*own, *keys_of(model)]), True
    for key, field in own.items():
        if key in action:
            for finding in _field(action[key], field, (*path, key), hold):
                yield finding
                bad = True
        elif key in fault.required():
            yield path, f"{key} is missing: {field.help}", False
            bad = True
    if not bad:
        yield from _together(action, path, fault)


def _hint(word: str, known: list[str]) -> str:
    return unknown("key", word, known)


def _field(value: object, field: Field, path: Path, hold: float | None) -> Iterator[Finding]:
    if isinstance(field, Number) and isinstance(value, dict):
        known = keys_of(Ramp)
        for key in value.keys() - known.keys():
            yield (*path, key), unknown("key", key, known), True
        for key in known:
            if key not in value:
                yield path, f"{key} is missing: a ramp has {', '.join(known)}", False
        for key in ("from", "to"):
            if key in value:
                yield from _plain(value[key], field, (*path, key))
        if "over" in value:
            try:
                over = units.seconds_above_zero(value["over"])
            except ValueError as error:
                yield (*path, "over"), str(error), False
            else:
                if hold is not None and over > hold:
                    why = f"is longer than the step lasts, {hold:g}s: give it a longer `for`"
                    yield (*path, "over"), why, False
        return
    yield from _plain(value, field, path)


def _plain(value: object, field: Field, path: Path) -> Iterator[Finding]:
    try:
        field.check(number(value, field), "")
    except ValueError as error:
        yield path, str(error).lstrip(": "), False


def _together(action: dict[str, Any], path: Path, fault: type[FaultSpec]) -> Iterator[Finding]:
    """Check the fields of a fault together, with stand-ins for its target."""
    zones = iter("ab")
    parts = {
        name: next(zones) if part is Part.ZONE else ("*",)
        for name, part in target_fields(fault).items()
    }
    given = {
        key: last_value(action[key], it) for key, it in own_fields(fault).items() if key in action
    }
    try:
        fault(**parts, **given)
    except InvalidFault as error:
        yield path, str(error), False


def last_value(value: Any, field: Field) -> Any:
    """Return the value of a field; of a ramp, the larger of both ends."""
    if isinstance(field, Number) and isinstance(value, Mapping):
        return max(number(value["from"], field), number(value["to"], field))
    return number(value, field)


def _target(action: dict[str, Any], path: Path, fault: type[FaultSpec]) -> Iterator[Finding]:
    parts = target_fields(fault)
    part = next(iter(parts.values()), None)
    if part is None or "target" not in action:
        if set(parts) & set(fault.required()):
            yield path, "target is missing: what does the fault work on?", False
        return
    target = action["target"]
    if not isinstance(target, dict):
        return
    why = why_unfit(target, part)
    if why is not None:
        yield (*path, "target"), why, False
    elif len(parts) > 1:
        zones = [*_items(target.get("zone")), *_items(target.get("zones"))]
        count = target.get("pick", len(zones))
        if count != len(parts) and "*" not in zones:
            yield (*path, "target"), f"should be {len(parts)} zones: {fault.help()}", False


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _seconds(value: object) -> float | None:
    try:
        return None if value is None else units.seconds(value)
    except ValueError:
        return None


# --- steps among each other -------------------------------------------------------------------


def ids(steps: list[Any]) -> list[str]:
    """Return the id of each step: its own, or its fault's name with a number."""
    found: list[str] = []
    taken = {step["id"] for step in steps if isinstance(step, dict) and _is_text(step, "id")}
    for step in steps:
        if isinstance(step, dict) and _is_text(step, "id"):
            found.append(step["id"])
            continue
        is_fault = isinstance(step, dict) and _is_text(step, "fault")
        name = step["fault"] if is_fault else "one-of"
        names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        found.append(next(it for it in names if it not in taken))
        taken.add(found[-1])
    return found


def _is_text(step: dict[str, Any], key: str) -> bool:
    return isinstance(step.get(key), str)


def _order(data: dict[str, Any], steps: list[Any]) -> Iterator[Finding]:
    names = ids(steps)
    for i, step in enumerate(steps):
        if not isinstance(step, dict):
            continue
        path: Path = ("timeline", i)
        if "id" in step and step["id"] in names[:i]:
            yield (*path, "id"), f"there is a step {step['id']!r} already", False
        for other in names if "every" in step else ():
            if re.fullmatch(rf"{re.escape(names[i])}-\d+", other):
                where = ("timeline", names.index(other))
                yield where, f"{other} is also the name of a repetition of {names[i]}", False
        after = step.get("after")
        if isinstance(after, str):
            known = [f"{name}.{edge}" for name in names[:i] for edge in ("ended", "began")]
            if after not in known:
                yield (*path, "after"), unknown("moment of a step above", after, known), False
        duration = _seconds(data.get("duration"))
        at, every = _seconds(step.get("at")), _seconds(step.get("every"))
        if duration is not None and at is not None and at >= duration:
            yield (*path, "at"), f"is after the scenario's end: duration is {duration:g}s", False
        if every and "times" not in step:
            if "duration" not in data:
                yield (*path, "every"), "needs times, or a duration of the scenario", True
            elif duration and duration / every > _MOST:
                yield (*path, "every"), f"would be more than {_MOST} times", False
    stops = data.get("stop_if")
    for key, stop in stops.items() if isinstance(stops, dict) else ():
        if isinstance(stop, dict) and "not_before" in stop and stop["not_before"] not in names:
            yield ("stop_if", key, "not_before"), unknown("step", stop["not_before"], names), False


def _services(data: dict[str, Any]) -> Iterator[Finding]:
    """Check the names of services, which are known unless the workload is the user's own.

    That is a function, or a command that is given when the scenario is run: its client is declared.
    """
    workload = data.get("workload", {})
    if not isinstance(workload, dict):
        return
    given = [name for name in SERVICES if name in workload]
    if "python" in workload:
        for name in given:
            yield ("workload", name), "python is given too: it replaces the built-in workload", True
    if "python" in workload or ("client" in data and not workload):
        yield from _services_of_others(data)
        return
    services = given or list(SERVICES)
    classes = [*services, *(f"{name}.{kind}" for name in services for kind in KINDS)]
    for path, known, what in (
        (("baseline", "steady"), services, "service"),
        (("expect", "stale_reads"), services, "service"),
        (("expect", "remap"), services, "service"),
        (("expect", "hit_rate"), services, "service"),
        (("expect", "unavailability"), classes, "class of operations"),
        (("expect", "error_budget"), classes, "class of operations"),
        (("stop_if",), [f"{name}.errors" for name in services], "condition"),
    ):
        for key in _keys_at(data, path):
            if key not in known:
                yield (*path, key), unknown(what, key, known), True


def _services_of_others(data: dict[str, Any]) -> Iterator[Finding]:
    """Check the form of names of services that only the user's own code knows."""
    for name in ("unavailability", "error_budget"):
        for key in _keys_at(data, ("expect", name)):
            if "." in key and key.rpartition(".")[2] not in KINDS:
                why = "should be a service, service.read or service.write"
                yield ("expect", name, key), why, True
    for path in (("baseline", "steady"), *(("expect", it) for it in _OF_SERVICES)):
        for key in _keys_at(data, path):
            if key.rpartition(".")[2] in KINDS:
                yield (*path, key), "should be a service, without .read or .write", True
    for key in _keys_at(data, ("stop_if",)):
        service, _, errors = key.rpartition(".")
        if errors != "errors" or service.rpartition(".")[2] in KINDS:
            yield ("stop_if", key), "should be service.errors", True


def _keys_at(data: dict[str, Any], path: Path) -> list[str]:
    found: Any = data
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return list(found) if isinstance(found, dict) else []


def _idle(data: dict[str, Any]) -> Iterator[Finding]:
    """Check that what is expected can fail, and that a healthy run is not cut short."""
    expect, stops = data.get("expect"), data.get("stop_if")
    expect = expect if isinstance(expect, dict) else {}
    classes = expect.get("unavailability")
    for key, limits in classes.items() if isinstance(classes, dict) else ():
        if limits == {}:
            path: Path = ("expect", "unavailability", key)
            yield path, "expects nothing: give it longest, total or both", False
    if expect.get("herd") == {}:
        yield ("expect", "herd"), "expects nothing: give it same_key, loads or refused", False
    alarms = expect.get("alarms")
    for key, alarm in alarms.items() if isinstance(alarms, dict) else ():
        if isinstance(alarm, dict) and alarm.get("fires") is False and "within" in alarm:
            where: Path = ("expect", "alarms", key, "within")
            yield where, "needs fires: true: one that does not fire has no time", True
    for key, stop in stops.items() if isinstance(stops, dict) else ():
        if isinstance(stop, dict) and _is_none(stop.get("share")):
            yield (
                ("stop_if", key, "share"),
                "should be above 0%, which every run has",
                False,
            )


def _is_none(share: object) -> bool:
    try:
        return units.share(share) == 0
    except ValueError:
        return False
