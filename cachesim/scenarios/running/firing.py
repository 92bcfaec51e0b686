"""Fires the steps of a timeline, confirms each by its witness, and heals it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cachesim.clock import Clock, SystemClock
from cachesim.errors import CachesimError
from cachesim.events import Event
from cachesim.faults.spec import FaultSpec
from cachesim.history.rows import Step, StepOutcome
from cachesim.scenarios.checkers.faults import ONCE
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.witnesses import Witness
from cachesim.scenarios.steps import AfterStep, OnEvent, PlannedStep, Stage
from cachesim.scenarios.targets import Roles
from cachesim.scenarios.timeline import Timeline
from cachesim.topology import Topology

DECIDED = 1.0
"""Seconds after a fault ends within which its witness has told whether it was there."""
SHORT = 1.0
"""Seconds that one of several stages of a step has to last at least, to be seen."""
_RETRY = 1.0  # production seconds until a step that waits for a target looks again
_HEAL_AGAIN = 1.0  # seconds between two tries to heal what could not be healed


class Handle(Protocol):
    """A fault that was applied."""

    def heal(self) -> None:
        """End it."""
        ...


class Injector(Protocol):
    """Applies faults."""

    def apply(self, faults: Sequence[FaultSpec], /) -> Sequence[Handle]:
        """Apply all faults of a list, or none."""
        ...


@dataclass
class _Look:
    """What a witness saw of one application of a step's faults, called and done at some time."""

    witness: Witness
    since: float
    done: float
    until: float = float("inf")
    seen: float | None = None


@dataclass
class _Progress:
    """How far a step is.

    Attributes:
        began, ended: production seconds; None: it has not.
        stages: what is left of it.
        active: what is applied now. After the end: what could not be healed.
        is_lapsed: whether what it waited for never came, so that it never began.
        heal_again: when that is tried again, in monotonic seconds.
    """

    step: PlannedStep
    began: float | None = None
    ended: float | None = None
    outcome: StepOutcome | None = None
    stages: list[Stage] = field(default_factory=list)
    staged: bool = False
    active: list[Handle] = field(default_factory=list)
    faults: tuple[FaultSpec, ...] = ()
    target: str = ""
    begin_call: float | None = None
    end_call: float | None = None
    end_confirmed: float | None = None
    looks: list[_Look] = field(default_factory=list)
    why: str = ""
    is_lapsed: bool = False
    retry_at: float = 0.0
    heal_again: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.ended is not None


class Firing:
    """The steps of a timeline, fired by `tick`.

    Args:
        injector: applies the faults.
        roles: returns what the Redis nodes are now.
        witness: returns the witness of faults.
        record: gets the steps.
        say: is told what happens.

    Attributes:
        heal_at: when the last heal was called, in monotonic seconds; None: there was none.
        changed_at: when a fault was applied or healed last, in monotonic seconds; -inf: none was.
    """

    def __init__(
        self,
        timeline: Timeline,
        topology: Topology,
        injector: Injector,
        clock: ProductionClock,
        speed: float,
        *,
        roles: Callable[[], Roles],
        witness: Callable[[Sequence[FaultSpec]], Witness | None],
        record: Callable[[Step], None],
        say: Callable[[str], None],
        time_source: Clock | None = None,
    ) -> None:
        self._timeline = timeline
        self._topology = topology
        self._injector = injector
        self._clock = clock
        self._speed = speed
        self._roles = roles
        self._witness = witness
        self._record = record
        self._say = say
        self._time = time_source or SystemClock()
        self._steps = {step.id: _Progress(step) for step in timeline.steps}
        self._events: list[tuple[float, Event]] = []
        self.heal_at: float | None = None
        self.changed_at = float("-inf")

    # --- what happens -------------------------------------------------------------------------

    def happened(self, event: Event) -> None:
        """Take note of an event of the control plane, since the end of the baseline."""
        self._events.append((self._clock.at(event.at), event))

    def tick(self) -> None:
        """Do all that is due, and look whether faults took effect."""
        while (found := self._next()) is not None and found[0] <= self._clock.now:
            due, it = found
            if it.began is None:
                self._begin(it, due)
            elif it.stages and self._clock.now < self._end_of(it, it.began):
                while len(it.stages) > 1 and it.began + it.stages[1].offset <= self._clock.now:
                    it.stages.pop(0)  # too late for it
                self._apply(it, it.stages.pop(0))
            else:
                self._end(it)
        self._give_up_waiting()
        for it in self._steps.values():
            if it.is_over and it.active and self._time.monotonic() >= it.heal_again:
                self._heal(it)
            self._look(it)

    @property
    def next_due(self) -> float | None:
        """When something is due next, in production seconds. None: nothing is known to be."""
        found = self._next()
        return None if found is None else found[0]

    @property
    def is_over(self) -> bool:
        """Whether all steps have ended."""
        duration = self._timeline.scenario.duration
        is_late = duration is None or self._clock.now >= duration
        return is_late and all(it.is_over for it in self._steps.values())

    def began(self, id: str) -> bool:
        """Return whether a step has begun."""
        return self._steps[id].began is not None

    @property
    def faults(self) -> list[FaultSpec]:
        """What was applied until now."""
        return [fault for it in self._steps.values() for fault in it.faults]

    def stop(self) -> None:
        """End all steps now. What did not begin is missing."""
        for it in self._steps.values():
            if it.is_over:
                continue
            if it.began is None:
                self._never(it, "missing", "the run ended before")
            else:
                self._end(it)

    def finish(self) -> None:
        """Look for the last time."""
        for it in self._steps.values():
            self._look(it)
            if it.outcome is not None:
                self._record(_row(it, is_final=True))

    # --- when -----------------------------------------------------------------------------------

    def _next(self) -> tuple[float, _Progress] | None:
        """Return what is due next."""
        known = [(due, n, it) for n, it in enumerate(self._steps.values())
                 if (due := self._due(it)) is not None]  # fmt: skip
        if not known:
            return None
        due, _, it = min(known, key=lambda found: found[:2])
        return due, it

    def _due(self, it: _Progress) -> float | None:
        if it.is_over:
            return None
        duration = self._timeline.scenario.duration
        if it.began is None:
            begin = self._begin_of(it.step)
            if begin is None or (duration is not None and begin >= duration):
                return None
            return max(begin, it.retry_at)
        end = self._end_of(it, it.began)
        return min(it.began + it.stages[0].offset, end) if it.stages else end

    def _end_of(self, it: _Progress, began: float) -> float:
        duration = self._timeline.scenario.duration
        end = began + it.step.hold
        return end if duration is None else min(end, duration)

    def _begin_of(self, step: PlannedStep) -> float | None:
        match step.after:
            case AfterStep(other, edge):
                if self._has_lapsed(step.after):
                    return None
                found = self._steps[other]
                at = found.began if edge == "began" else found.ended
                return None if at is None else at + step.delay
            case OnEvent(nth=nth) as on:
                times = [at for at, event in self._events if on.is_met_by(event)]
                return times[nth - 1] + step.delay if len(times) >= nth else None
            case _:
                return step.at

    def _give_up_waiting(self) -> None:
        """End the steps whose event or target has not come in time."""
        now = self._clock.now
        for it in self._steps.values():
            if it.began is not None or it.is_over:
                continue
            after = it.step.after
            if isinstance(after, OnEvent) and self._begin_of(it.step) is None:
                since = self._steps[after.since].began if after.since else 0.0
                if since is not None and now > since + after.within:
                    self._lapse(it, f"there was no {after}")
            elif self._has_lapsed(after):
                self._lapse(it, f"there was no {after}")
            duration = self._timeline.scenario.duration
            limit = self._timeline.latest_end if duration is None else duration
            if it.is_over or now <= limit:
                continue
            if isinstance(after, OnEvent) and self._begin_of(it.step) is None:
                self._lapse(it, f"there was no {after}")
            else:
                outcome: StepOutcome = "skipped" if it.step.is_open_ended else "missing"
                self._never(it, outcome, "it did not begin before the end")

    def _has_lapsed(self, after: AfterStep | OnEvent | None) -> bool:
        """Return whether it is the begin of a step that never begins any more."""
        match after:
            case AfterStep(other, "began"):
                return self._steps[other].is_lapsed
        return False

    def _lapse(self, it: _Progress, why: str) -> None:
        """End a step that waits for what does not come any more."""
        it.is_lapsed = True
        may_be_left_out = it.step.is_open_ended or it.step.if_none == "skip"
        self._never(it, "skipped" if may_be_left_out else "missing", why)

    # --- doing ----------------------------------------------------------------------------------

    def _begin(self, it: _Progress, due: float) -> None:
        try:
            stages = it.step.stages(self._topology, self._roles(), self._speed)
        except CachesimError as error:
            self._never(it, "failed", str(error))
            return
        if not stages:
            match it.step.if_none:
                case "wait":
                    it.retry_at = self._clock.now + _RETRY
                case "skip":
                    self._never(it, "skipped", "it has no target")
                case _:
                    self._never(it, "missing", "it has no target")
            return
        it.began = due if it.retry_at == 0 else self._clock.now
        it.outcome = "applied"
        it.staged = len(stages) > 1
        it.stages = stages[1:]
        self._apply(it, stages[0])

    def _apply(self, it: _Progress, stage: Stage) -> None:
        """Apply what a stage says, in place of what was."""
        now = self._time.monotonic()
        it.begin_call = now if it.begin_call is None else it.begin_call
        self._heal(it)
        if it.outcome == "failed" or not stage.faults:
            return
        began = self._time.monotonic()
        try:
            it.active = list(self._injector.apply(list(stage.faults)))
        except CachesimError as error:
            it.outcome, it.why, it.ended = "failed", str(error), self._clock.now
            self._say(f"{it.step.id} could not be applied: {error}")
        else:
            if not it.faults:
                it.target = ", ".join(dict.fromkeys(fault.target for fault in stage.faults))
                self._say(f"{it.step.id}: {stage.faults[0].kind} on {it.target}")
            it.faults = stage.faults
            self.changed_at = self._time.monotonic()
            if (witness := self._witness(stage.faults)) is not None:
                it.looks.append(_Look(witness, began, self._time.monotonic()))
        self._record(_row(it))

    def _end(self, it: _Progress) -> None:
        assert it.began is not None  # noqa: S101 - for the type checker
        it.end_call = self.heal_at = self._time.monotonic()
        it.stages = []
        self._heal(it)
        it.ended = min(it.began + it.step.hold, self._clock.now)
        self._say(f"{it.step.id} is {f'not healed: {it.why}' if it.active else 'healed'}")
        self._record(_row(it))

    def _heal(self, it: _Progress) -> None:
        until = self._time.monotonic()
        left = []
        for fault in it.active:
            try:
                fault.heal()
            except CachesimError as error:
                it.outcome, it.why = "failed", f"not healed: {error}"
                left.append(fault)
        if it.active:
            self.changed_at = self._time.monotonic()
        it.active = left
        it.heal_again = self._time.monotonic() + _HEAL_AGAIN
        # What happens once stays, and may still be seen.
        stays = it.step.fault in ONCE
        if it.looks and it.looks[-1].until == float("inf") and not stays:
            it.looks[-1].until = until

    def _never(self, it: _Progress, outcome: StepOutcome, why: str) -> None:
        it.outcome, it.why = outcome, why
        it.began = it.ended = self._clock.now
        self._say(f"{it.step.id} is {outcome}: {why}")
        self._record(_row(it))

    # --- looking --------------------------------------------------------------------------------

    def _look(self, it: _Progress) -> None:
        before = (_seen(it), it.end_confirmed)
        now = self._time.monotonic()
        for look in it.looks:
            if look.seen is None and now <= look.until + DECIDED:
                seen = look.witness.seen(look.since, look.until)
                # What had no answer may have been sent before the effect: that alone is too early.
                look.seen = None if seen is None else max(seen, look.done)
        if it.end_call is not None and it.end_confirmed is None and it.looks:
            it.end_confirmed = it.looks[-1].witness.gone(it.end_call)
        if (_seen(it), it.end_confirmed) != before:
            self._record(_row(it))


def _seen(it: _Progress) -> bool | None:
    """Return whether the step's effect was seen each time. None: nobody looked, or not yet."""
    told = [look for look in it.looks if not (it.staged and look.until - look.since < SHORT)]
    if not told:
        return None
    return all(look.seen is not None for look in told)


def _row(it: _Progress, *, is_final: bool = False) -> Step:
    values = [fault.as_dict() for fault in it.faults]
    fault: dict[str, Any] = dict(values[0]) if values else {"fault": it.step.fault}
    if len(values) > 1 and "zone" in fault:
        fault["zones"] = [value["zone"] for value in values]
    if it.staged:
        fault["stages"] = True
    witness: dict[str, Any] = {"why": it.why} if it.why else {}
    if it.looks:
        witness["what"] = it.looks[0].witness.what
    if it.looks and (_seen(it) or is_final):
        witness["seen"] = bool(_seen(it))
        if it.end_confirmed is not None or is_final:
            witness["gone"] = it.end_confirmed is not None
    first = next((look.seen for look in it.looks if look.seen is not None), None)
    return Step(
        it.step.id, fault, it.target, it.begin_call, first, it.end_call, it.end_confirmed,
        witness, it.outcome or "applied",
    )  # fmt: skip
