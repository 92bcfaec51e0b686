"""The steps of a timeline: when each begins, and what it does then. Data, no I/O."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cachesim.errors import InvalidFault, UnknownName
from cachesim.events import Event
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.courses import LEVELS
from cachesim.faults.fields import Part, Whole
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios.forms import EventName, Flap
from cachesim.scenarios.rules import own_fields, target_fields
from cachesim.scenarios.targets import Roles, Target
from cachesim.topology import Topology

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
        begin: the first value. Where the fault takes no 0, it stands for no fault.
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
        is_open_ended: whether it is a repetition that the scenario's end leaves out if it comes
            before.
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
    is_open_ended: bool = False
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
        return [
            Stage(offset, () if fields is None else self._faults(targets, fields, topology))
            for offset, fields in self._levels(speed)
        ]

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
            "target": plain(target),
            "flap": self.flap and self.flap.model_dump(),
            "if_none": self.if_none,
        }

    def _class(self) -> type[FaultSpec]:
        return next(it for it in self.catalogue if it.name == self.fault)

    def _faults(
        self, targets: list[dict[str, Any]], fields: dict[str, Any], topology: Topology
    ) -> tuple[FaultSpec, ...]:
        cls = self._class()
        try:
            return tuple(cls(**target, **fields).resolve(topology) for target in targets)
        except UnknownName:
            raise
        except InvalidFault:
            # A latency of 0 ms has no effect, and Toxiproxy has no such toxic.
            if any(fields[name] == 0 for name in self._ramps):
                return ()
            raise

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

    @property
    def _ramps(self) -> dict[str, RampedNumber]:
        return {k: v for k, v in self.fields.items() if isinstance(v, RampedNumber)}

    def _levels(self, speed: float) -> Iterator[tuple[float, dict[str, Any] | None]]:
        """Yield from when on the fault's own fields have which values; None: it is away."""
        switches = self._switches(speed)
        offsets = {
            *switches,
            *(
                ramp.over * level / LEVELS
                for ramp in self._ramps.values()
                for level in range(LEVELS + 1)
            ),
        }
        is_on, last = True, object()
        for offset in sorted(it for it in offsets if it < self.hold):
            is_on = switches.get(offset, is_on)
            fields = self._values(offset) if is_on else None
            if fields != last:
                yield offset, fields
            last = fields

    def _switches(self, speed: float) -> dict[float, bool]:
        """Return when the fault comes (True) and goes (False)."""
        if self.flap is None:
            return {0.0: True}
        scale = speed if self.flap.clock == "real" else 1.0
        on, period = self.flap.on * scale, (self.flap.on + self.flap.off) * scale
        found: dict[float, bool] = {}
        for n in range(math.ceil(self.hold / period)):
            found |= {n * period: True, n * period + on: False}
        return found

    def _values(self, offset: float) -> dict[str, Any]:
        known, values = own_fields(self._class()), dict(self.fields)
        for name, ramp in self._ramps.items():
            level = round(min(offset / ramp.over, 1) * LEVELS) / LEVELS
            now = ramp.begin + (ramp.end - ramp.begin) * level
            values[name] = round(now) if isinstance(known[name], Whole) else now
        return values


def plain(value: Any) -> Any:
    """Return a value with lists for tuples, and texts for what JSON does not have."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
