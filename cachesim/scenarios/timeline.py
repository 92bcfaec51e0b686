"""The timeline of a run: a scenario whose draws are made, from the seed. Data, no I/O.

`plan` makes it. Times are production seconds from the end of the baseline; what a toxic or a flap
of the clock `real` says stays real. A step that waits for an event has no time of its own. Its
target is found when it fires: `PlannedStep.stages` returns the faults that it is then.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachesim.errors import SettingsError
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.scenarios import units
from cachesim.scenarios.forms import Action, AfterEvent, Scenario, Step
from cachesim.scenarios.rules import ids, number, own_fields
from cachesim.scenarios.steps import AfterStep, OnEvent, PlannedStep, RampedNumber, plain


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
    def of_emulated(self) -> list[str]:
        """The steps whose faults only emulated nodes can have, by id."""
        return [
            step.id
            for step in self.steps
            if any(fault.name == step.fault and fault.is_of_emulated for fault in step.catalogue)
        ]

    def check(self, backend: str, speed: float, *, quiet_cut: bool) -> None:
        """Do nothing if it can run on a backend, at a speed.

        Raises:
            SettingsError: holds are to be cut, but not at speed 1; or a fault needs emulated nodes,
                and these are real.
        """
        if quiet_cut and speed != 1:
            raise SettingsError("the quiet cut is for runs at speed 1: leave one of both out")
        if backend != "embedded" and (steps := self.of_emulated):
            what = "has a fault" if len(steps) == 1 else "have faults"
            raise SettingsError(
                f"{', '.join(steps)} {what} that only emulated nodes can have: use the backend "
                "embedded"
            )

    @property
    def expect(self) -> dict[str, Any]:
        """What is expected, as plain values by checker: seconds, and shares from 0 to 1."""
        given = self.scenario.expect.model_dump(exclude_none=True)
        return {name: values for name, values in given.items() if values}

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, for the record of a run."""
        return {
            "scenario": plain(self.scenario.model_dump(by_alias=True, exclude_none=True)),
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
                    action.if_none, draw, n > 0 and step.times is None, catalogue,
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
