"""The timeline of a run: a scenario whose draws are made, from the seed. Data, no I/O.

`plan` makes it. Times are production seconds from the end of the baseline; what a toxic or a flap
of the clock `real` says stays real. A step that waits for an event has no time of its own. Its
target is found when it fires: `PlannedStep.stages` returns the faults that it is then.
"""

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cachesim.events import Event
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import Part
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios import units
from cachesim.scenarios.forms import Action, AfterEvent, EventName, Flap, Scenario, Step
from cachesim.scenarios.rules import ids, number, own_fields, target_fields
from cachesim.scenarios.targets import Roles, Target
from cachesim.topology import Topology

LEVELS = 20
"""The steps of a ramp: changing a toxic more often takes more than it shows."""

_KINDS: Mapping[EventName, str] = {
    "primary-lost": "detecting",
    "failover-started": "promoting",
    "failover-completed": "failover",
    "node-recovering": "recovering",
    "node-recovered": "recovered",
}
_GROUP = "replication-group"


@dataclass(frozen=True)
class AfterStep:
    """A step begins when another one has begun or ended.

    Attributes:
        step: its id.
        edge: which of both.
    """

    step: str
    edge: Literal["began", "ended"]

    def __str__(self) -> str:
        return f"{self.step}.{self.edge}"


@dataclass(frozen=True)
class OnEvent:
    """A step begins after an event of the control plane.

    Attributes:
        event: what happens.
        nth: which one since the end of the baseline, from 1.
        within: the longest wait, in production seconds.
        since: the id of the step with whose begin the wait begins; None: the timeline's.
    """

    event: EventName
    nth: int
    within: float
    since: str | None

    def is_met_by(self, event: Event) -> bool:
        """Return whether an event of the log is one of those that are counted."""
        if event.kind != _KINDS[self.event]:
            return False
        # A failover is logged for its node and for its group.
        return event.kind != "failover" or event.data.get("source_type") == _GROUP

    def __str__(self) -> str:
        return f"{self.event} no. {self.nth}, within {self.within:g} s"


@dataclass(frozen=True)
class RampedNumber:
    """A number of a fault that changes evenly.

    Attributes:
        begin: the first value. A 0 that the fault does not take stands for no fault.
        end: the last value.
        over: production seconds.
    """

    begin: float
    end: float
    over: float

    def __str__(self) -> str:
        return f"{self.begin:g} to {self.end:g} over {self.over:g} s"


@dataclass(frozen=True)
class Stage:
    """What is applied from one moment of a step on, in place of what was.

    Attributes:
        offset: production seconds from the step's begin.
        faults: with full names. Empty: nothing is.
    """

    offset: float
    faults: tuple[FaultSpec, ...]


@dataclass(frozen=True)
class PlannedStep:
    """One step.

    Attributes:
        id: tells it from the others. Repeated ones are numbered: `flap-2`.
        at: when it begins, in production seconds; None if that is not known beforehand.
        after: what it waits for, if that is not known.
        delay: production seconds from then.
        hold: how long it lasts, in production seconds. Then it is healed.
        fault: the name of its fault.
        fields: the values of the fault's own fields.
        target: what the fault works on. None: what the fault does by default.
        flap: how it comes and goes.
        if_none: what to do if it has no target when it fires.
        draw: the seed of its draws.
        catalogue: has the fault.
    """

    id: str
    at: float | None
    after: AfterStep | OnEvent | None
    delay: float
    hold: float
    fault: str
    fields: Mapping[str, Any]
    target: Target | None
    flap: Flap | None
    if_none: Literal["fail", "skip", "wait"]
    draw: str
    catalogue: Catalogue = field(default=CATALOGUE, repr=False, compare=False)

    def stages(self, topology: Topology, roles: Roles, speed: float = 1.0) -> list[Stage]:
        """Return what the step does now, in order of time, up to its heal.

        Args:
            roles: what the Redis nodes are now.
            speed: of the run; what flaps by the real clock needs it.

        Returns:
            The stages. None at all: it has no target now.
        """
        targets = self._targets(topology, roles)
        if not targets:
            return []
        stages = []
        for offset, fields in self._levels(speed):
            faults = (
                ()
                if fields is None
                else tuple(
                    self._fault({**target, **fields}).resolve(topology) for target in targets
                )
            )
            stages.append(Stage(offset, faults))
        return stages

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        target = self.target and self.target.model_dump(exclude_none=True)
        return {
            "id": self.id,
            "at": self.at,
            "after": str(self.after) if self.after else None,
            "delay": self.delay,
            "for": self.hold,
            "fault": self.fault,
            "fields": {
                k: dataclasses.asdict(v) if isinstance(v, RampedNumber) else v
                for k, v in self.fields.items()
            },
            "target": _jsonable(target),
            "flap": self.flap and self.flap.model_dump(),
            "if_none": self.if_none,
        }

    def _class(self) -> type[FaultSpec]:
        return next(it for it in self.catalogue if it.name == self.fault)

    def _fault(self, fields: Mapping[str, Any]) -> FaultSpec:
        return self._class()(**fields)

    def _targets(self, topology: Topology, roles: Roles) -> list[dict[str, Any]]:
        """Return the fields that the target gives, of each fault that the step is."""
        if self.target is None:
            return [{}]
        cls = self._class()
        parts = target_fields(cls)
        names = self.target.names(next(iter(parts.values())), topology, roles, self.draw)
        if not names:
            return []
        if any(part is not Part.ZONE for part in parts.values()):
            return [dict.fromkeys(parts, names)]
        if len(parts) == 1:
            return [{key: name} for key in parts for name in names]
        return [dict(zip(parts, names, strict=True))] if len(names) == len(parts) else []

    def _levels(self, speed: float) -> Iterator[tuple[float, dict[str, Any] | None]]:
        """Yield from when on the fault's own fields have which values; None: it is away."""
        flap, last = self.flap, object()
        scale = speed if flap and flap.clock == "real" else 1.0
        for offset in sorted(self._offsets(scale)):
            is_on = flap is None or _phase(offset, flap, scale)
            fields = self._values(offset) if is_on else None
            if fields != last:
                yield offset, fields
            last = fields

    def _offsets(self, scale: float) -> set[float]:
        found = {0.0}
        if self.flap is not None:
            on, period = self.flap.on * scale, (self.flap.on + self.flap.off) * scale
            for n in range(math.ceil(self.hold / period)):
                found |= {n * period, n * period + on}
        for value in self.fields.values():
            if isinstance(value, RampedNumber):
                found |= {value.over * level / LEVELS for level in range(LEVELS + 1)}
        return {offset for offset in found if offset < self.hold}

    def _values(self, offset: float) -> dict[str, Any] | None:
        known = own_fields(self._class())
        values = {}
        for name, value in self.fields.items():
            if not isinstance(value, RampedNumber):
                values[name] = value
                continue
            level = round(min(offset / value.over, 1) * LEVELS) / LEVELS
            now = value.begin + (value.end - value.begin) * level
            values[name] = round(now) if known[name].type == "whole number" else now
        # A latency of 0 ms has no effect, and Toxiproxy has no such toxic.
        ramped = [v for k, v in values.items() if isinstance(self.fields[k], RampedNumber)]
        return None if ramped and not any(ramped) else values


@dataclass(frozen=True)
class Timeline:
    """A scenario, ready to run.

    Attributes:
        scenario: as its file has it.
        seed: of all draws.
        steps: in the order of the file, those that repeat one after the other.
    """

    scenario: Scenario
    seed: int
    steps: tuple[PlannedStep, ...]

    @property
    def recovery_within(self) -> float:
        """How long it goes on after the last heal, in production seconds."""
        recovery = self.scenario.expect.recovery
        return recovery.within if recovery else 60.0

    @property
    def latest_end(self) -> float:
        """When it ends at the latest, in production seconds: with each event as late as allowed."""
        if self.scenario.duration is not None:
            return self.scenario.duration
        begins: dict[str, float] = {}
        holds = {step.id: step.hold for step in self.steps}
        for step in self.steps:
            match step.after:
                case AfterStep(other, edge):
                    begin = begins[other] + (holds[other] if edge == "ended" else 0)
                case OnEvent(within=within, since=since):
                    begin = (begins[since] if since else 0) + within
                case None:
                    begin = step.at or 0
            begins[step.id] = begin + (step.delay if step.after else 0)
        return max(begins[step.id] + step.hold for step in self.steps) + self.recovery_within

    @property
    def expect(self) -> dict[str, Any]:
        """What is expected, as plain values by checker: seconds, and shares from 0 to 1."""
        given = self.scenario.expect.model_dump(exclude_none=True)
        return {name: values for name, values in given.items() if values}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, for the record of a run."""
        return {
            "scenario": _jsonable(self.scenario.model_dump(by_alias=True, exclude_none=True)),
            "seed": self.seed,
            "steps": [step.as_dict() for step in self.steps],
        }


def plan(scenario: Scenario, seed: int, catalogue: Catalogue = CATALOGUE) -> Timeline:
    """Return the timeline of a scenario. The same seed makes the same one.

    A draw depends on the seed and on the step's id alone, so that another step does not change it.
    """
    steps: list[PlannedStep] = []
    last: dict[str, str] = {}
    names = ids([step.model_dump(exclude_none=True) for step in scenario.timeline])
    for position, (name, step) in enumerate(zip(names, scenario.timeline, strict=True)):
        since = names[position - 1] if position else None
        first = _when(step, steps, last, since)
        for n in range(_times(step, first[0], scenario.duration)):
            at, after = first
            delay = step.delay
            if n and at is not None:
                at = round(at + n * (step.every or 0), 6)
            elif n:
                after, delay = AfterStep(name, "began"), n * (step.every or 0)
            one = name if n == 0 else f"{name}-{n + 1}"
            draw = f"{seed}/{one}"
            action = _drawn(step, draw)
            steps.append(
                PlannedStep(
                    one, at, None if at is not None else after, delay, step.hold,
                    action.fault or "", _fields(action, catalogue), action.target, action.flap,
                    action.if_none, draw, catalogue,
                )
            )  # fmt: skip
            last[name] = one
    return Timeline(scenario, seed, tuple(steps))


def _when(
    step: Step, steps: list[PlannedStep], last: Mapping[str, str], since: str | None
) -> tuple[float | None, AfterStep | OnEvent | None]:
    """Return when a step begins, if that is known, and what it waits for."""
    match step.after:
        case None:
            return step.at or 0.0, None
        case AfterEvent() as on:
            return None, OnEvent(on.event, on.nth, on.within, since)
        case str(text):
            name, _, edge = text.rpartition(".")
            one = name if edge == "began" else last[name]
            other = next(it for it in steps if it.id == one)
            after = AfterStep(one, "began" if edge == "began" else "ended")
            if other.at is None or other.if_none == "wait":
                return None, after
            length = other.hold if edge == "ended" else 0
            return round(other.at + length + step.delay, 6), after


def _times(step: Step, at: float | None, duration: float | None) -> int:
    if step.every is None:
        return 1
    if step.times is not None:
        return step.times
    left = (duration or 0) - (at or 0)
    return max(1, math.ceil(left / step.every))


def _drawn(step: Step, draw: str) -> Action:
    if not step.one_of:
        return step
    weights = [choice.weight for choice in step.one_of]
    return random.Random(f"{draw}/one_of").choices(step.one_of, weights)[0]


def _fields(action: Action, catalogue: Catalogue) -> dict[str, Any]:
    cls = next(it for it in catalogue if it.name == action.fault)
    given = action.model_extra or {}
    found: dict[str, Any] = {}
    for name, known in own_fields(cls).items():
        if name not in given:
            continue
        value = given[name]
        if isinstance(value, Mapping) and value.keys() == {"from", "to", "over"}:
            begin, end = (float(number(value[key], known)) for key in ("from", "to"))
            found[name] = RampedNumber(begin, end, units.seconds(value["over"]))
        else:
            found[name] = known.as_json(known.check(number(value, known), name))
    return found


def _phase(offset: float, flap: Flap, scale: float) -> bool:
    """Return whether a fault that flaps is there."""
    return (offset / scale) % (flap.on + flap.off) < flap.on - 1e-9


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
