"""The timeline: when steps begin, what the seed draws, and what a target is when a step fires."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from cachesim.events import Event
from cachesim.scenarios.checkers import expectations
from cachesim.scenarios.expected import Expect
from cachesim.scenarios.files import library, read, read_file
from cachesim.scenarios.steps import AfterStep, OnEvent, PlannedStep
from cachesim.scenarios.targets import Roles
from cachesim.scenarios.timeline import Timeline, plan
from cachesim.topology import production
from tests.scenarios.test_files import FULL

TOPOLOGY = production()
ROLES = Roles("redis-b", {"redis-a": 100, "redis-c": 90})


def planned(*steps: str, seed: int = 1, more: str = "") -> Timeline:
    """A timeline of steps, each in braces."""
    lines = "".join(f"  - {{{step}}}\n" for step in steps)
    return plan(read(f"version: 1\nname: x\ntimeline:\n{lines}{more}\n", "f.yaml"), seed)


def faults(step: PlannedStep, roles: Roles = ROLES) -> list[dict[str, Any]]:
    """What a step does first."""
    return [fault.as_dict() for fault in step.stages(TOPOLOGY, roles)[0].faults]


def target(text: str, fault: str = "kill", roles: Roles = ROLES, seed: int = 1) -> list[str]:
    """The names that a target is for a fault."""
    (step,) = planned(f"at: 0s, fault: {fault}, target: {text}", seed=seed).steps
    found: list[str] = []
    for stage in step.stages(TOPOLOGY, roles)[:1]:
        for it in stage.faults:
            value = it.as_dict()
            found += value.get("nodes") or value.get("links") or [value["zone"]]
    return found


KILL = "fault: kill, target: {node: redis-a}"


# --- when -------------------------------------------------------------------------------------


def test_times_are_absolute_where_they_are_known() -> None:
    """A step after another one has a time of its own; one after an event has none."""
    ramp, flap, outage, *slow = plan(read(FULL, "f"), 1).steps
    assert (ramp.at, ramp.hold) == (0, 60)
    assert (flap.at, flap.hold, flap.after) == (60, 30, None)
    assert (outage.at, outage.delay, outage.hold) == (None, 5, 600)
    assert outage.after == OnEvent("failover-completed", 1, 120, since="flap")
    assert [(step.id, step.at) for step in slow] == [
        ("bandwidth", 120), ("bandwidth-2", 180), ("bandwidth-3", 240),
    ]  # fmt: skip


def test_delay_counts_where_the_time_is_known() -> None:
    """A delay is part of a time that is known."""
    _, began, ended = planned(
        f"id: one, at: 10s, for: 20s, {KILL}",
        f"after: one.began, delay: 5s, {KILL}",
        f"after: one.ended, delay: 5s, {KILL}",
    ).steps
    assert (began.at, ended.at) == (15, 35)


def test_after_what_has_no_time() -> None:
    """A step after one that waits for an event, or for a target, waits for it."""
    _, second, third, fourth = planned(
        f"id: one, after: {{event: primary-lost}}, {KILL}",
        f"id: two, after: one.began, delay: 5s, {KILL}",
        f"id: three, at: 1s, if_none: wait, {KILL}",
        f"id: four, after: three.ended, {KILL}",
    ).steps
    assert (second.at, second.after, second.delay) == (None, AfterStep("one", "began"), 5)
    assert third.at == 1
    assert (fourth.at, fourth.after) == (None, AfterStep("three", "ended"))


def test_every() -> None:
    """A step repeats `times` times, or up to the scenario's end; `ended` is the last one's end."""
    timed = planned(f"id: k, at: 5s, every: 20s, for: 10s, {KILL}", more="duration: 60s")
    assert [step.at for step in timed.steps] == [5, 25, 45]
    *_, last = planned(
        f"id: k, at: 5s, every: 20s, times: 2, for: 10s, {KILL}", f"after: k.ended, {KILL}"
    ).steps
    assert last.at == 35


def test_every_after_an_event() -> None:
    """What repeats after an event counts from its first begin."""
    first, second = planned(
        f"id: k, after: {{event: primary-lost}}, delay: 3s, every: 2m, times: 2, {KILL}"
    ).steps
    assert isinstance(first.after, OnEvent)
    assert (second.after, second.delay) == (AfterStep("k", "began"), 120)


def test_names_without_id() -> None:
    """Steps without an id are named after their faults, and never twice the same."""
    steps = planned(f"at: 0s, {KILL}", f"at: 0s, {KILL}", f"id: kill-2, at: 0s, {KILL}").steps
    assert [step.id for step in steps] == ["kill", "kill-3", "kill-2"]


@pytest.mark.parametrize(
    ("more", "end"),
    [("", 120 + 60), ("expect: {recovery: {within: 30s}}", 120 + 30), ("duration: 10m", 600)],
)
def test_end(more: str, end: float) -> None:
    """A timeline ends so long after the last heal as recovery may take, or when it says."""
    assert planned(f"at: 1m, {KILL}", f"at: 1m, for: 5s, {KILL}", more=more).latest_end == end


def test_latest_end_with_events() -> None:
    """An event may come as late as its step allows."""
    timeline = planned(
        f"id: a, at: 10s, {KILL}",
        f"id: b, after: {{event: primary-lost, within: 100s}}, delay: 5s, for: 20s, {KILL}",
        f"after: b.ended, delay: 1s, for: 2s, {KILL}",
    )
    assert timeline.latest_end == 10 + 100 + 5 + 20 + 1 + 2 + 60


def test_events_of_the_log() -> None:
    """A failover is counted once, though the log has it for the node and for its group."""
    moment = OnEvent("failover-completed", 1, 60, None)
    kinds = [("failover", "replication-group"), ("failover", "cache-cluster"), ("promoting", "")]
    log = [Event(0, datetime.now(UTC), kind, "", "", {"source_type": it}) for kind, it in kinds]
    assert [moment.is_met_by(event) for event in log] == [True, False, False]


# --- draws ------------------------------------------------------------------------------------

CHOICE = (
    "id: c, at: 0s, one_of: [{weight: 3, fault: kill, target: {node: redis-a}}, "
    "{fault: pause, target: {node: redis-a}}]"
)


def test_the_same_seed_draws_the_same() -> None:
    """A timeline is its file and its seed; other steps do not change a step's draws."""
    text = plan(read(FULL, "f"), 4).as_dict()
    assert text == plan(read(FULL, "f"), 4).as_dict()
    assert json.loads(json.dumps(text)) == text
    alone = [planned(CHOICE, seed=seed).steps[0] for seed in range(30)]
    beside = [planned(f"at: 0s, {KILL}", CHOICE, seed=seed).steps[1] for seed in range(30)]
    assert alone == beside


def test_draws_are_those_of_earlier_versions() -> None:
    """A seed in a report draws the same with any later version."""
    assert (
        "".join(planned(CHOICE, seed=seed).steps[0].fault[0] for seed in range(12))
        == "kppkpkkkkkkp"
    )
    assert [target("{nodes: redis, pick: 1}", seed=seed)[0][-1] for seed in range(6)] == [
        "a",
        "c",
        "c",
        "c",
        "c",
        "a",
    ]


def test_weights() -> None:
    """A choice of weight 3 beside one of weight 1 is drawn in three of four cases."""
    drawn = Counter(planned(CHOICE, seed=seed).steps[0].fault for seed in range(200))
    assert 130 <= drawn["kill"] <= 170
    assert drawn["kill"] + drawn["pause"] == 200


def test_repeated_steps_draw_anew() -> None:
    """Each repetition has draws of its own."""
    steps = planned(f"{CHOICE}, every: 1m, times: 40, for: 1s").steps
    assert {step.fault for step in steps} == {"kill", "pause"}


def test_pick_draws_among_what_is_there() -> None:
    """Each candidate is drawn at times, and none twice."""
    drawn = [target("{nodes: '*', pick: 2}", seed=seed) for seed in range(60)]
    assert {name for two in drawn for name in two} == {node.name for node in TOPOLOGY.nodes}
    assert all(len(set(two)) == 2 for two in drawn)


# --- targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{node: redis-a}", ["redis-a"]),
        ("{nodes: redis}", ["redis-a", "redis-b", "redis-c"]),
        ("{nodes: [memcached-c, '*-a']}", ["redis-a", "memcached-a", "memcached-c"]),
        ("{role: primary}", ["redis-b"]),
        ("{role: replica}", ["redis-a", "redis-c"]),
        ("{role: best-replica}", ["redis-a"]),
        ("{role: replica, zone: c}", ["redis-c"]),
        ("{role: primary, zone: c}", []),
        ("{zone: az-b}", ["redis-b", "memcached-b"]),
        ("{nodes: memcached, zone: {of: primary}}", ["memcached-b"]),
        ("{nodes: memcached, zones: [{of: replica}]}", ["memcached-a", "memcached-c"]),
        ("{zone: {of: memcached-c}, nodes: redis}", ["redis-c"]),
        ("{role: replica, pick: 3}", []),
    ],
)
def test_nodes(text: str, names: list[str]) -> None:
    """Nodes are named, or found by service, pattern, role and zone; keys narrow each other."""
    assert target(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{link: a-to-redis-b-bus}", ["a-to-redis-b-bus"]),
        ("{links: client-to-memcached-*}", [f"client-to-memcached-{zone}" for zone in "abc"]),
        ("{role: primary}", ["client-to-redis-b"]),
        ("{node: memcached-a}", ["client-to-memcached-a"]),
        ("{links: '*-bus', role: primary}", ["a-to-redis-b-bus", "c-to-redis-b-bus"]),
        ("{links: client-to-*-b, zone: {of: primary}, role: primary}", ["client-to-redis-b"]),
        ("{links: 'c-to-*', zone: {of: primary}, nodes: memcached}", ["c-to-memcached-b"]),
    ],
)
def test_links(text: str, names: list[str]) -> None:
    """Links are named, or are those from clients to the nodes that are asked for."""
    assert target(text, "refuse") == names


@pytest.mark.parametrize(
    ("text", "names"),
    [("{zone: b}", ["b"]), ("{zone: {of: primary}}", ["b"]), ("{zones: '*'}", ["a", "b", "c"])],
)
def test_zones(text: str, names: list[str]) -> None:
    """A fault on one zone is applied to each of several."""
    assert target(text, "az-power") == names


def test_partition() -> None:
    """A partition is between two zones, in their order; both in one place are no target."""
    (step,) = planned(
        "at: 0s, fault: partition, one_way: true, "
        "target: {zones: [{of: primary}, {of: best-replica}]}"
    ).steps
    assert faults(step) == [{"fault": "partition", "a": "b", "b": "a", "one_way": True}]
    assert step.stages(TOPOLOGY, Roles("redis-b", {})) == []
    (step,) = planned("at: 0s, fault: partition, target: {zones: [b, {of: primary}]}").steps
    assert step.stages(TOPOLOGY, ROLES) == []


def test_lag_without_target() -> None:
    """A fault whose target may be left out has its own default; else it is the target's."""
    (step,) = planned("at: 0s, fault: replication-lag, seconds: 500ms").steps
    (fault,) = faults(step)
    assert (fault["seconds"], fault["replicas"]) == (0.5, ["redis-a", "redis-b", "redis-c"])
    (step,) = planned(
        "at: 0s, fault: replication-lag, seconds: 1s, target: {role: best-replica}"
    ).steps
    assert faults(step)[0]["replicas"] == ["redis-a"]


def test_toxic() -> None:
    """A toxic is written as Toxiproxy has it."""
    (step,) = planned(
        "at: 0s, fault: toxic, target: {role: primary}, streams: [upstream], toxicity: 50%, "
        "toxic: {type: slicer, attributes: {average_size: 64}}"
    ).steps
    (fault,) = faults(step)
    assert (fault["toxic"]["type"], fault["toxicity"]) == ("slicer", 0.5)
    assert fault["streams"] == ["upstream"]


def test_targets_follow_the_roles() -> None:
    """The same step has another target once another node is the primary."""
    assert target("{role: primary}", roles=Roles("redis-c", {})) == ["redis-c"]
    assert target("{role: primary}", roles=Roles(None, {"redis-a": 1})) == []
    tied = Roles("redis-a", {"redis-c": 5, "redis-b": 5})
    assert target("{role: best-replica}", roles=tied) == ["redis-b"]


# --- over time --------------------------------------------------------------------------------


def test_ramp() -> None:
    """A ramp goes from one value to the other in even steps, and stays; 0 ms is no fault."""
    (step,) = planned(
        "at: 0s, fault: latency, target: {node: redis-a}, for: 1m, "
        "ms: {from: 0, to: 300ms, over: 20s}"
    ).steps
    stages = step.stages(TOPOLOGY, ROLES)
    assert stages[0].faults == ()
    values = [(it.offset, it.faults[0].as_dict()["ms"]) for it in stages[1:]]
    assert values[0] == (1, 15)
    assert values[9] == (10, 150)
    assert values[-1] == (20, 300)
    assert len(values) == 20


def test_ramp_down_with_jitter() -> None:
    """A ramp may go down. With jitter, 0 ms is a fault."""
    (step,) = planned(
        "at: 0s, fault: latency, target: {node: redis-a}, jitter: 3, ms: {from: 4, to: 0, over: 4s}"
    ).steps
    values = [it.faults[0].as_dict()["ms"] for it in step.stages(TOPOLOGY, ROLES)]
    assert values == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("clock", "speed", "offsets"),
    [("production", 30, [0, 2, 5, 7]), ("real", 1, [0, 2, 5, 7]), ("real", 3, [0, 6])],
)
def test_flap(clock: str, speed: float, offsets: list[float]) -> None:
    """A fault comes and goes while its step lasts; by the real clock, whatever the speed."""
    (step,) = planned(f"at: 0s, for: 10s, flap: {{on: 2s, off: 3s, clock: {clock}}}, {KILL}").steps
    stages = step.stages(TOPOLOGY, ROLES, speed)
    assert [it.offset for it in stages] == offsets
    assert [bool(it.faults) for it in stages] == [True, False] * (len(offsets) // 2)


@pytest.mark.parametrize(
    "way", ["flap: {on: 10s, off: 1s}, ms: 5", "ms: {from: 1, to: 21, over: 10s}"]
)
def test_no_stage_at_the_heal(way: str) -> None:
    """What would change in the moment of the heal is left to the heal."""
    (step,) = planned(f"at: 0s, for: 10s, fault: latency, target: {{node: redis-a}}, {way}").steps
    assert max(it.offset for it in step.stages(TOPOLOGY, ROLES)) < 10


def test_ramp_that_flaps() -> None:
    """Each time that the fault comes back, it has the value of that time; at last it stays."""
    (step,) = planned(
        "at: 0s, for: 10s, fault: latency, target: {node: redis-a}, flap: {on: 1s, off: 3s}, "
        "ms: {from: 100, to: 200, over: 4s}"
    ).steps
    stages = step.stages(TOPOLOGY, ROLES)
    seen = [(it.offset, [fault.as_dict()["ms"] for fault in it.faults]) for it in stages]
    assert seen == [
        (0, [100]), (0.2, [105]), (0.4, [110]), (0.6, [115]), (0.8, [120]), (1, []),
        (4, [200]), (5, []), (8, [200]), (9, []),
    ]  # fmt: skip


def test_flap_without_drift() -> None:
    """Many short periods stay what they are."""
    (step,) = planned(f"at: 0s, for: 30s, flap: {{on: 100ms, off: 200ms}}, {KILL}").steps
    stages = step.stages(TOPOLOGY, ROLES)
    assert [bool(it.faults) for it in stages] == [True, False] * 100
    assert stages[-1].offset == pytest.approx(29.8)


# --- what is expected -------------------------------------------------------------------------


def test_expect() -> None:
    """What is expected is plain: seconds, shares, and only what the file says."""
    assert plan(read(FULL, "f"), 1).expect == {
        "lost_writes": {"max": "bound"},
        "split_brain": {"max": 0},
        "stale_reads": {"api_cache": {"max": "ttl"}, "sessions": {"max": 5}},
        "unavailability": {"sessions.write": {"longest": 35}, "api_cache": {"longest": 5}},
        "error_budget": {"sessions": {"max": 0.01}},
        "recovery": {"within": 60},
        "connection_storm": {"max": 500},
        "remap": {"api_cache": {"max": 0.05}},
        "herd": {"same_key": 2, "loads": 150, "refused": 0},
        "hit_rate": {"api_cache": {"min": 0.6}},
        "alarms": {
            "redis-memory-high": {"fires": True, "within": 600},
            "redis-cpu-high": {"fires": False},
        },
    }
    assert planned(f"at: 0s, {KILL}").expect == {}


def test_expectations_have_checkers() -> None:
    """Everything that a file can expect is something that a checker takes."""
    every = plan(read(FULL, "f"), 1).expect
    assert set(every) == set(Expect.model_fields)
    for expect in (every, *(plan(read_file(name), 1).expect for name in library())):
        assert list(expectations.read(expect))


@pytest.mark.parametrize(("name", "steps"), [("loading-replica", ["loading"]), ("az-outage", [])])
def test_of_emulated(name: str, steps: list[str]) -> None:
    """Faults that only emulated nodes can have are known beforehand."""
    assert plan(read_file(name), 7).of_emulated == steps
