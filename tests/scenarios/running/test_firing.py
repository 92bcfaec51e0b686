"""Steps are fired in production time, confirmed by their witnesses, and healed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from cachesim.clock import ManualClock
from cachesim.errors import FaultError
from cachesim.events import Event
from cachesim.faults.spec import FaultSpec
from cachesim.history.rows import Step
from cachesim.scenarios.files import read
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.firing import Firing
from cachesim.scenarios.running.witnesses import Witness
from cachesim.scenarios.targets import Roles
from cachesim.scenarios.timeline import plan
from cachesim.topology import production

START = 1000.0
ALL = Roles("redis-a", {"redis-b": 5, "redis-c": 9})


@dataclass
class Seen:
    """A witness that saw the effect and its end, unless it is blind."""

    blind: bool = False
    what: str = "a look"

    def seen(self, since: float, until: float) -> float | None:  # noqa: ARG002
        """See `Witness.seen`."""
        return None if self.blind else since + 0.1

    def gone(self, since: float) -> float | None:
        """See `Witness.gone`."""
        return None if self.blind else since + 0.2


@dataclass
class Handle:
    """A fault that was applied."""

    rig: "Rig"
    text: str

    def heal(self) -> None:
        """End it."""
        self.rig.note(f"-{self.text}")
        if self.rig.is_stuck:
            raise FaultError("stuck")


@dataclass
class Rig:
    """A timeline on a clock that is moved by hand.

    Attributes:
        did: what was applied (+) and healed (-), with the production time.
        rows: the last row of each step.
    """

    text: str
    speed: float = 30.0
    roles: Roles = ALL
    witness: Witness | None = field(default_factory=Seen)
    is_broken: bool = False
    is_stuck: bool = False
    takes: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        self.time = ManualClock(START)
        self.clock = ProductionClock(START, self.speed, self.time)
        self.did: list[tuple[float, str]] = []
        self.rows: dict[str, Step] = {}
        text = f"version: 1\nname: x\ntimeline:\n{self.text}"
        self.firing = Firing(
            plan(read(text, "x.yaml"), self.seed),
            production(),
            self,
            self.clock,
            self.speed,
            roles=lambda: self.roles,
            witness=lambda _faults: self.witness,
            record=self.record,
            say=lambda _line: None,
            time_source=self.time,
        )

    def record(self, row: Step) -> None:
        """Keep a row."""
        self.rows[row.id] = row

    def note(self, what: str) -> None:
        """Note what was done, and when."""
        self.did.append((round(self.clock.now, 2), what))

    def apply(self, faults: Sequence[FaultSpec], /) -> list[Handle]:
        """Apply faults."""
        if self.is_broken:
            raise FaultError("it does not go")
        self.time.advance(self.takes)
        texts = [f"{it.kind} {it.target}" for it in faults]
        for text in texts:
            self.note(f"+{text}")
        return [Handle(self, text) for text in texts]

    def until(self, production_time: float) -> "Rig":
        """Go on to a production time, by what is due and by seconds."""
        while self.clock.now < production_time - 1e-6:
            due = self.firing.next_due
            limit = min(production_time, self.clock.now + 1)
            target = limit if due is None or due <= self.clock.now else min(limit, due)
            self.time.advance(max(self.clock.until(target), 1e-7))
            self.firing.tick()
        return self

    def happen(self, kind: str, **data: Any) -> None:
        """Let the control plane log an event now."""
        at = self.time.monotonic()
        event = Event(at, datetime.now(UTC), kind, "it", "", data)
        self.firing.happened(event)

    def outcomes(self) -> dict[str, str]:
        """Return what became of each step."""
        return {id: row.outcome for id, row in self.rows.items()}


KILL = "  - {at: 30s, fault: kill, target: {role: primary}, for: 1m}\n"


@pytest.mark.parametrize("speed", [1.0, 30.0])
def test_in_production_time(speed: float) -> None:
    """A step begins and ends in production time, whatever the speed."""
    rig = Rig(KILL, speed=speed).until(100)
    assert rig.did == [(30, "+kill redis-a"), (90, "-kill redis-a")]
    assert rig.firing.is_over
    row = rig.rows["kill"]
    assert row.outcome == "applied"
    assert row.begin_call == pytest.approx(START + 30 / speed)
    assert row.end_call == rig.firing.heal_at == pytest.approx(START + 90 / speed)
    assert row.begin_confirmed == pytest.approx(START + 30 / speed + 0.1)
    assert row.end_confirmed == pytest.approx(START + 90 / speed + 0.2)
    assert row.witness == {"what": "a look", "seen": True, "gone": True}
    assert row.fault == {"fault": "kill", "nodes": ["redis-a"]}


def test_when_faults_changed() -> None:
    """Each time that a fault is applied or healed is a change, that of a flap too."""
    rig = Rig(KILL, takes=0.3)
    assert rig.firing.changed_at == float("-inf")
    assert rig.until(60).firing.changed_at == pytest.approx(START + 1.3)
    assert rig.until(100).firing.changed_at == pytest.approx(START + 3)
    flap = "flap: {on: 2s, off: 3s}, for: 9s"
    rig = Rig(f"  - {{at: 10s, fault: kill, target: {{node: redis-b}}, {flap}}}\n", speed=1)
    for now, changed_at in ((11, 10), (13, 12), (16, 15), (18, 17), (30, 17)):
        assert rig.until(now).firing.changed_at == pytest.approx(START + changed_at)


def test_effect_is_confirmed_when_the_call_has_returned() -> None:
    """What was sent just before the effect has no answer either: the effect may come after it."""
    row = Rig(KILL, takes=0.3).until(100).rows["kill"]
    assert row.begin_call == pytest.approx(START + 1)
    assert row.begin_confirmed == pytest.approx(START + 1.3)


def test_nobody_looked() -> None:
    """Without a witness nothing is said of the effect."""
    rig = Rig(KILL, witness=None).until(100)
    rig.firing.finish()
    assert rig.rows["kill"].witness == {}


def test_not_seen() -> None:
    """What the witness does not see is said so in the end, not before."""
    rig = Rig(KILL, witness=Seen(blind=True)).until(100)
    assert "seen" not in rig.rows["kill"].witness
    rig.firing.finish()
    assert rig.rows["kill"].witness == {"what": "a look", "seen": False, "gone": False}


@pytest.mark.parametrize(("fault", "seen"), [("replace", True), ("kill", False)])
def test_what_happens_once_is_seen_after_its_heal(fault: str, seen: bool) -> None:
    """Its call may take longer than the step lasts, so that it is healed at once."""

    class Late(Seen):
        def seen(self, since: float, until: float) -> float | None:
            return since + 5 if until == float("inf") and rig.time.monotonic() > since + 5 else None

    rig = Rig(f"  - {{id: it, at: 30s, fault: {fault}, target: {{node: redis-b}}, for: 2s}}\n")
    rig.witness = Late()
    rig.until(300)
    rig.firing.finish()
    assert rig.rows["it"].witness["seen"] is seen


def test_after_a_step() -> None:
    """A step may follow another one's begin or end."""
    rig = Rig(
        "  - {id: one, at: 10s, fault: kill, target: {node: redis-b}, for: 20s}\n"
        "  - {id: two, after: one.began, delay: 5s, fault: kill,"
        " target: {node: redis-c}, for: 1s}\n"
        "  - {id: three, after: one.ended, fault: pause, target: {node: redis-a}, for: 1s}\n"
    ).until(40)
    assert [at for at, _ in rig.did] == [10, 15, 16, 30, 30, 31]
    assert rig.did[3:] == [(30, "-kill redis-b"), (30, "+pause redis-a"), (31, "-pause redis-a")]


EVENT = (
    "  - {id: one, at: 10s, fault: kill, target: {node: redis-b}, for: 1s}\n"
    "  - id: two\n"
    "    after: {event: failover-completed, nth: 2, within: 1m}\n"
    "    delay: 5s\n"
    "    fault: pause\n"
    "    target: {node: redis-c}\n"
    "    for: 1s\n"
)


def test_after_an_event() -> None:
    """The nth event counts, that of the group alone; the wait begins with the step before."""
    rig = Rig(EVENT).until(15)
    rig.happen("failover", source_type="replication-group")
    rig.happen("failover", source_type="cache-cluster")
    rig.until(60)
    rig.happen("failover", source_type="replication-group")
    rig.until(80)
    assert [it for it in rig.did if "pause" in it[1]] == [
        (65, "+pause redis-c"),
        (66, "-pause redis-c"),
    ]


def test_an_event_that_never_comes() -> None:
    """A step whose event does not come in time did not happen."""
    rig = Rig(EVENT).until(71)
    assert not rig.firing.is_over or rig.rows["two"].outcome == "missing"
    rig.until(73)
    assert rig.outcomes() == {"one": "applied", "two": "missing"}
    assert rig.firing.is_over


@pytest.mark.parametrize(
    ("more", "end", "outcome"),
    [
        ("", "", "missing"),
        ("if_none: skip, ", "", "skipped"),
        ("if_none: skip, ", "duration: 1m\n", "skipped"),
        ("if_none: wait, ", "", "missing"),
    ],
)
def test_a_step_may_do_without_its_event(more: str, end: str, outcome: str) -> None:
    """A step is skipped without its event if its file says so, and so are its repetitions.

    Whatever it says, they do not happen: what they follow did not.
    """
    after = "after: {event: failover-completed, within: 2m}"
    text = f"  - {{{after}, every: 20s, times: 3, {more}fault: kill, target: {{node: redis-b}}, "
    rig = Rig(f"{text}for: 5s}}\n{end}").until(300)
    assert rig.did == []
    assert set(rig.outcomes().values()) == {outcome}
    assert len(rig.outcomes()) == 3
    assert rig.firing.is_over


@pytest.mark.parametrize(("if_none", "outcome"), [("fail", "missing"), ("skip", "skipped")])
def test_no_target(if_none: str, outcome: str) -> None:
    """Without a target a step did not happen, or is skipped if its file says so."""
    step = f"  - {{at: 1s, fault: kill, target: {{role: primary}}, if_none: {if_none}}}\n"
    rig = Rig(step, roles=Roles()).until(2)
    assert rig.outcomes() == {"kill": outcome}
    assert rig.firing.is_over
    assert rig.did == []
    assert rig.firing.heal_at is None


def test_waits_for_a_target() -> None:
    """A step may wait until there is a target; it lasts as long then."""
    step = "  - {at: 1s, fault: kill, target: {role: primary}, if_none: wait, for: 10s}\n"
    rig = Rig(step, roles=Roles()).until(20)
    rig.roles = ALL
    rig.until(40)
    (begin, _), (end, _) = rig.did
    assert 20 <= begin <= 22
    assert end == pytest.approx(begin + 10, abs=0.1)


def test_targets_are_found_when_it_fires() -> None:
    """A role is what it is then."""
    rig = Rig(KILL).until(29)
    rig.roles = Roles("redis-c", {"redis-a": 1, "redis-b": 2})
    assert rig.until(31).did == [(30, "+kill redis-c")]


def test_ramp() -> None:
    """A ramp changes its fault in steps; the row has the last one."""
    rig = Rig(
        "  - {id: ramp, at: 0s, fault: latency, target: {links: client-to-redis-a},"
        " ms: {from: 0, to: 100, over: 20s}, for: 60s}\n"
    ).until(70)
    applied = [what for _, what in rig.did if what.startswith("+")]
    assert applied[0] == "+latency of 5 ms client-to-redis-a"
    assert applied[-1] == "+latency of 100 ms client-to-redis-a"
    assert len(applied) == 20
    assert len(rig.did) == 40
    fault = rig.rows["ramp"].fault
    assert (fault["ms"], fault["stages"]) == (100, True)


def test_flap() -> None:
    """A flap comes and goes, and is healed in the end."""
    rig = Rig(
        "  - {id: flap, at: 10s, fault: refuse, target: {links: client-to-redis-a},"
        " flap: {on: 2s, off: 3s}, for: 9s}\n",
        speed=1,
    ).until(30)
    assert [(at, what[0]) for at, what in rig.did] == [(10, "+"), (12, "-"), (15, "+"), (17, "-")]
    assert rig.firing.heal_at == pytest.approx(START + 19)


@pytest.mark.parametrize(("blind_at", "seen"), [(None, True), (15, False)])
def test_every_time_of_a_flap_is_seen(blind_at: float | None, seen: bool) -> None:
    """A flap was seen if it was seen each time."""
    rig = Rig(
        "  - {id: flap, at: 10s, fault: refuse, target: {links: client-to-redis-a},"
        " flap: {on: 2s, off: 3s}, for: 9s}\n",
        speed=1,
    ).until(14)
    rig.witness = Seen(blind=blind_at is not None)
    rig.until(30).firing.finish()
    assert rig.rows["flap"].witness["seen"] == seen


def test_several_zones() -> None:
    """A fault of several zones is applied to each at once; its row names all of them."""
    rig = Rig('  - {at: 5s, fault: az-power, target: {zones: "*"}, for: 1m}\n').until(70)
    assert [what for at, what in rig.did if at == 5] == [f"+az-power az-{z}" for z in "abc"]
    assert rig.rows["az-power"].fault["zones"] == ["a", "b", "c"]
    assert rig.rows["az-power"].target == "az-a, az-b, az-c"


def test_could_not_be_applied() -> None:
    """A fault that can't be applied did not happen, and the others go on."""
    rig = Rig(KILL + "  - {at: 40s, fault: pause, target: {node: redis-b}, for: 1s}\n")
    rig.is_broken = True
    rig.until(35)
    rig.is_broken = False
    rig.until(60)
    assert rig.outcomes() == {"kill": "failed", "pause": "applied"}
    assert rig.rows["kill"].witness["why"] == "it does not go"
    assert rig.firing.is_over


def test_could_not_be_healed() -> None:
    """A fault that is not healed is no evidence of anything."""
    rig = Rig(KILL).until(80)
    rig.is_stuck = True
    rig.until(100)
    assert rig.outcomes() == {"kill": "failed"}
    rig.is_stuck = False
    rig.until(160)
    assert rig.did[-1][1] == "-kill redis-a"
    healed = len(rig.did)
    rig.until(300)
    assert len(rig.did) == healed, "it is tried again until it succeeds"
    assert rig.outcomes() == {"kill": "failed"}


def test_what_is_too_late() -> None:
    """Of stages that are overdue only the last is applied, and none after the end."""
    flap = "{on: 5s, off: 5s}"
    text = f"  - {{at: 0s, fault: kill, target: {{node: redis-b}}, for: 10m, flap: {flap}}}\n"
    rig = Rig(text + "duration: 1m\n").until(12)
    assert len(rig.did) == 3
    rig.time.advance(rig.clock.until(46))
    rig.firing.tick()
    assert rig.did[3:] == [(46, "-kill redis-b")]
    rig.time.advance(rig.clock.until(60))
    rig.firing.tick()
    assert rig.firing.is_over
    assert len(rig.did) == 4


def test_stop() -> None:
    """A run that is cut short is healed at once; what did not begin never happened."""
    rig = Rig(KILL + "  - {at: 3m, fault: pause, target: {node: redis-b}, for: 1s}\n").until(40)
    rig.firing.stop()
    assert rig.did[-1] == (40, "-kill redis-a")
    assert rig.outcomes() == {"kill": "applied", "pause": "missing"}
    assert rig.firing.is_over


@pytest.mark.parametrize(("times", "outcome"), [("", "skipped"), ("times: 3, ", "missing")])
def test_repetitions_up_to_the_end(times: str, outcome: str) -> None:
    """What is repeated up to the end after an event lacks nothing, however late the event comes."""
    after = "after: {event: failover-completed}"
    text = f"  - {{{after}, every: 20s, {times}fault: pause, target: {{node: redis-b}}, for: 5s}}\n"
    rig = Rig(text + "duration: 1m\n").until(30)
    rig.happen("failover", source_type="replication-group")
    rig.until(70)
    assert rig.outcomes() == {"pause": "applied", "pause-2": "applied", "pause-3": outcome}
    assert rig.firing.is_over


def test_a_skip_moves_everything() -> None:
    """A hold that is cut short does not change what is applied."""
    rig = Rig(KILL, speed=1).until(40)
    rig.clock.skip(45)
    rig.until(95)
    assert rig.did == [(30, "+kill redis-a"), (90, "-kill redis-a")]
    assert rig.rows["kill"].end_call == pytest.approx(START + 45)
