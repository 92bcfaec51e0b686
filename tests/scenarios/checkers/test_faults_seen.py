"""The gate on the faults: they were there, were met by the workload, and were gone in the end."""

from collections.abc import Sequence
from typing import Any

import pytest

from cachesim.history.rows import Beat, EventRow, Operation, Row, Step
from cachesim.scenarios.checkers import faults_seen
from cachesim.scenarios.checkers.faults import nodes_of
from tests.scenarios.histories import NODES, beats, history_of, load, samples, step, times

BEGIN, END = 40.0, 50.0
REFUSE = {"fault": "refuse", "links": ["client-to-redis-a"]}
LATENCY = {"fault": "latency", "links": ["client-to-redis-a"], "ms": 100}
UNSEEN: dict[str, Any] = {"witness": {}}


def problem(rows: Sequence[Row], it: Step) -> str:
    """Return why a step can't be taken to have happened."""
    with history_of([*rows, it]) as history:
        verdict = faults_seen.check(history)
        found = faults_seen.problem_of(history, it)
        assert verdict.result == ("unknown" if found else "pass")
        assert found in verdict.reason
        return found


def world(
    during: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    node: str | None = "redis-a",
) -> list[Row]:
    """Return beats to all nodes, those to redis-a as given while a step is applied, and later."""
    rows: list[Row] = [*beats(0, 100, nodes=NODES[1:]), *load(0, 100, node=node)]
    rows += beats(0, BEGIN, nodes=["redis-a"])
    rows += beats(BEGIN, END, nodes=["redis-a"], **(during or {}))
    return [*rows, *beats(END, 100, nodes=["redis-a"], **(after or {}))]


SILENT = {"ok": False}


@pytest.mark.parametrize(
    ("during", "after", "expected"),
    [
        (SILENT, {}, ""),
        ({}, {}, "not seen"),
        (SILENT, SILENT, "still there"),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [
        REFUSE,
        {"fault": "blackhole", "links": ["client-to-redis-a"]},
        {"fault": "reset", "links": ["client-to-redis-a"]},
        {"fault": "isolate", "zone": "a"},
        {"fault": "az-power", "zone": "a"},
        {"fault": "kill", "nodes": ["redis-a"]},
        {"fault": "stop", "nodes": ["redis-a"]},
        {"fault": "pause", "nodes": ["redis-a"]},
    ],
)
def test_silence(
    fault: dict[str, Any], during: dict[str, Any], after: dict[str, Any], expected: str
) -> None:
    """A node that is cut off or gone answers no beat, and answers again after the heal."""
    found = problem(world(during, after), step(fault, BEGIN, END, **UNSEEN))
    assert (expected in found) == bool(found) or not expected
    assert bool(found) == bool(expected)


def test_one_answer_is_enough_to_doubt() -> None:
    """A single answer while the fault was applied shows that it was not there."""
    rows = [*world(SILENT), *beats(45, 45.1, nodes=["redis-a"])]
    assert "not seen" in problem(rows, step(REFUSE, BEGIN, END, **UNSEEN))


def test_a_killed_node_may_be_replaced() -> None:
    """A node that is killed is silent at first, and may be replaced before the step ends."""
    fault = {"fault": "kill", "nodes": ["redis-a"]}
    for since, seen in ((40.5, True), (40.4, False)):
        rows = [it for it in world(SILENT) if not (isinstance(it, Beat) and it.due > since - 0.01)]
        rows += beats(since, 100, nodes=["redis-a"])
        assert bool(problem(rows, step(fault, BEGIN, END, **UNSEEN))) == (not seen)


def test_an_answer_after_the_heal_is_none() -> None:
    """A beat that a blackhole held is answered after its heal."""
    held = beats(45, 45.1, nodes=["redis-a"], took=6.0)
    assert not problem([*world(SILENT), *held], step(REFUSE, BEGIN, END, **UNSEEN))


@pytest.mark.parametrize(
    ("took", "after", "expected"),
    [
        (0.101, 0.001, ""),
        (0.082, 0.001, ""),
        (0.080, 0.001, "not seen"),
        (0.120, 0.001, ""),
        (0.122, 0.001, "not seen"),
        (0.001, 0.001, "not seen"),
        (0.101, 0.020, ""),
        (0.101, 0.022, "still there"),
    ],
)
def test_latency(took: float, after: float, expected: str) -> None:
    """The median answer rose by 80 to 120 % of the latency, and fell again."""
    found = problem(world({"took": took}, {"took": after}), step(LATENCY, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(("lag", "seen"), [(2.0, True), (1.3, True), (0.7, False)])
def test_replication_lag(lag: float, seen: bool) -> None:
    """A replica's offset was behind by at least half the lag."""
    rows = [*world(), *samples("role", "redis-a", [(0, 1)])]
    rows += samples("offset", "redis-a", [(at, 1000 * at) for at in times(0, 100, 0.1)])
    behind = [(at, 1000 * (at - (lag if BEGIN < at < END else 0))) for at in times(0, 100, 0.1)]
    rows += samples("offset", "redis-b", behind)
    fault = {"fault": "replication-lag", "seconds": 2.0, "replicas": list(NODES)}
    found = problem(rows, step(fault, BEGIN, END, **UNSEEN))
    assert bool(found) == (not seen)


def some_late(share: float, took: float = 0.15, end: float = END) -> list[Row]:
    """Return beats to redis-a of which a share comes late from the begin of a step on."""
    rows: list[Row] = [it for it in world() if not (isinstance(it, Beat) and it.node == "redis-a")]
    for n, at in enumerate(times(0, 100, 0.02)):
        is_late = BEGIN <= at < end and int((n + 1) * share) > int(n * share)
        rows += beats(at, at + 0.02, nodes=["redis-a"], every=0.02, took=took if is_late else 0.001)
    return rows


@pytest.mark.parametrize(
    ("share", "took", "seen"),
    [
        (0.19, 0.15, True),  # of both directions
        (0.06, 0.15, True),
        (0.05, 0.15, False),
        (0.5, 0.15, False),
        (0.19, 0.1, False),  # that is not late
        (0.0, 0.15, False),
    ],
)
def test_loss(share: float, took: float, seen: bool) -> None:
    """About as many answers came late as a loss of both directions makes late."""
    fault = {"fault": "loss", "links": ["client-to-redis-a"], "share": 0.1, "ms": 200}
    found = problem(some_late(share, took), step(fault, BEGIN, END, **UNSEEN))
    assert bool(found) == (not seen)


def test_what_waits_behind_a_late_answer() -> None:
    """Beats that wait behind a late one are late too, and do not count."""
    fault = {"fault": "loss", "links": ["client-to-redis-a"], "share": 0.02, "ms": 200}
    rows: list[Row] = [it for it in world() if not (isinstance(it, Beat) and it.node == "redis-a")]
    for n, at in enumerate(times(0, 100, 0.02)):
        is_late = BEGIN <= at < END and n % 30 < 8  # one in 30 of those that do not wait
        rows += beats(at, at + 0.02, nodes=["redis-a"], every=0.02, took=0.2 if is_late else 0.001)
    assert not problem(rows, step(fault, BEGIN, END, **UNSEEN))


def test_loss_that_stays() -> None:
    """A loss of which nothing was healed is still there."""
    fault = {"fault": "loss", "links": ["client-to-redis-a"], "share": 0.1, "ms": 200}
    found = problem(some_late(0.19, end=100), step(fault, BEGIN, END, **UNSEEN))
    assert "still there" in found


@pytest.mark.parametrize(
    ("during", "after", "expected"), [(95, 10, ""), (79, 10, "not seen"), (95, 95, "still there")]
)
def test_memory_fill(during: float, after: float, expected: str) -> None:
    """What a node holds was a share of its memory, be it more or the memory less."""
    for limited in (True, False):
        used, limits = [], []
        for at in times(0, 100, 0.1):
            percent = during if BEGIN < at < END else after if at >= END else 10
            used.append((at, 1000.0 if limited else 10.0 * percent))
            limits.append((at, 1e5 / percent if limited else 1000.0))
        rows = [*world(), *samples("used_memory", "redis-a", used)]
        rows += samples("max_memory", "redis-a", limits)
        fault = {"fault": "memory-fill", "nodes": ["redis-a"], "to": 1.0}
        found = problem(rows, step(fault, BEGIN, END, **UNSEEN))
        assert bool(found) == bool(expected)
        assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0, 65000), (40.1, 20), (50.1, 65000)], ""),
        ([(0, 65000)], "not seen"),
        ([(0, 65000), (40.1, 20)], "still there"),
        ([], "nobody saw"),
    ],
)
def test_connection_limit(values: list[tuple[float, float]], expected: str) -> None:
    """A node took fewer connections than in the baseline."""
    rows = [*world(), *samples("max_connections", "redis-a", values)]
    fault = {"fault": "connection-limit", "nodes": ["redis-a"], "most": 10}
    found = problem(rows, step(fault, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0, 3), (41, 5)], ""),
        ([(0, 3)], "not seen"),
        ([(0, 3), (41, 5), (60, 9)], "still there"),
        ([], "nobody saw"),
    ],
)
@pytest.mark.parametrize("fault", ["answer", "delay", "slow"])
def test_requests_that_were_worked_on(
    fault: str, values: list[tuple[float, float]], expected: str
) -> None:
    """An emulated node counted them, while the fault was there and no longer."""
    rows = [*world(), *samples("injected_answers", "redis-a", values)]
    found = problem(rows, step({"fault": fault, "nodes": ["redis-a"]}, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0, 0), (39.5, 10), (40.5, 21)], ""),
        ([(0, 0), (39.5, 10), (40.5, 20)], "not seen"),
        ([(0, 0), (42, 50)], "not seen"),
        ([], "nobody saw"),
    ],
)
def test_expire(values: list[tuple[float, float]], expected: str) -> None:
    """More keys expired within a second than in the second before."""
    rows = [*world(), *samples("expired_keys", "redis-a", values)]
    fault = {"fault": "expire", "nodes": ["redis-a"], "pattern": "*"}
    found = problem(rows, step(fault, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(1, 0), (9, 800), (41, 4000), (50, 5810), (60, 6900), (90, 9900)], ""),
        ([(1, 0), (9, 800), (41, 4000), (50, 5790), (60, 6900), (90, 9900)], "not seen"),
        ([(1, 0), (9, 800), (41, 4000), (50, 5810), (60, 6900), (90, 12950)], "still there"),
        ([(1, 0), (9, 800), (41, 4000)], "nobody saw"),
        ([(1, 0), (9, 800), (41, 4000), (50, 20)], "nobody saw"),
    ],
)
def test_hot_key(values: list[tuple[float, float]], expected: str) -> None:
    """More requests a second were served than in the baseline, by half of the rate."""
    rows = [*world(), *samples("commands", "redis-a", values)]
    fault = {"fault": "hot-key", "nodes": ["redis-a"], "key": "k", "rate": 200}
    found = problem(rows, step(fault, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0, 100), (40.5, 49), (40.9, 60)], ""),
        ([(0, 100), (40.5, 50)], "not seen"),
        ([(0, 100), (42, 0)], "nobody saw"),
        ([], "nobody saw"),
    ],
)
def test_flush(values: list[tuple[float, float]], expected: str) -> None:
    """Most keys were gone within a second."""
    rows = [*world(), *samples("keys", "redis-a", values)]
    found = problem(rows, step({"fault": "flush", "nodes": ["redis-a"]}, BEGIN, END, **UNSEEN))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(39.9, 4000), (40.1, 12), (50, 90)], ""),
        ([(1, 4000), (20, 12), (39, 4000), (40.1, 4010), (60, 5)], "not seen"),
        ([(30, 4000)], "nobody saw"),
    ],
)
def test_replace(values: list[tuple[float, float]], expected: str) -> None:
    """A new process counts from 0, since the step was called: it is done when it is confirmed."""
    rows = [*world(), *samples("commands", "redis-a", values)]
    it = step({"fault": "replace", "nodes": ["redis-a"]}, BEGIN, END, **UNSEEN)
    found = problem(rows, it._replace(begin_confirmed=BEGIN + 1))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize("until", [BEGIN, 100])
def test_what_happens_once_is_met_after_its_heal(until: float) -> None:
    """A replacement is confirmed when it is done, and healed by then; clients feel it later."""
    rows = [it for it in world() if not (isinstance(it, Operation) and it.due > until)]
    rows += samples("commands", "redis-a", [(39.9, 4000), (42.2, 12)])
    it = step({"fault": "replace", "nodes": ["redis-a"]}, BEGIN, BEGIN + 1, **UNSEEN)
    found = problem(rows, it._replace(begin_confirmed=BEGIN + 2))
    assert found == (
        "" if until > BEGIN else "the workload met it with 0 operations, 20 are needed"
    )


@pytest.mark.parametrize(
    ("fault", "asked", "expected"),
    [
        ({"fault": "scale", "memcached": 4}, "memcached-a2", ""),
        ({"fault": "scale", "memcached": 4}, "memcached-a", "met it with 0"),
        ({"fault": "stale", "endpoints": ["endpoint-redis"]}, "redis-c", ""),
        ({"fault": "stale", "endpoints": ["endpoint-redis"]}, "memcached-a", "met it with 0"),
    ],
)
def test_what_is_met(fault: dict[str, Any], asked: str, expected: str) -> None:
    """A new node is met by who asks it, a stale endpoint by who asks the nodes behind it."""
    added = EventRow(1, BEGIN, "scaled", "t", "", {"added": {"memcached-a2": "127.0.0.1:1"}})
    rows: list[Row] = [*beats(0, 100, nodes=[*NODES, "memcached-a"]), *load(0, 100, node=asked)]
    found = problem([*rows, added], step(fault, BEGIN, END))
    assert bool(found) == bool(expected)
    assert expected in found


PARTITION = {"fault": "partition", "a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("fault", "during", "witness", "expected"),
    [
        (PARTITION, {}, {"seen": True, "gone": True}, ""),
        (PARTITION, {}, {"seen": True}, ""),
        (PARTITION, {}, {"seen": False}, "not seen"),
        (PARTITION, {}, {}, "nobody saw"),
        (PARTITION, {}, {"seen": True, "gone": False}, "still there"),
        (REFUSE, SILENT, {"seen": False}, "not seen"),  # they do not agree
        (REFUSE, {}, {"seen": True}, "not seen"),
        # Links between zones are not those that beats use.
        ({"fault": "blackhole", "links": ["b-to-redis-a"]}, {}, {"seen": True}, ""),
    ],
)
def test_the_runners_witness(
    fault: dict[str, Any], during: dict[str, Any], witness: dict[str, Any], expected: str
) -> None:
    """What the runner saw stands alone where the history has nothing, else both must agree."""
    found = problem(world(during), step(fault, BEGIN, END, witness=witness))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("skipped", ""), ("missing", "no target"), ("failed", "could not be applied")],
)
def test_what_became_of_it(outcome: str, expected: str) -> None:
    """A step that did not happen is unknown, unless its file says to skip it."""
    there = step(REFUSE, BEGIN, END, id="there")
    found = problem([*world(SILENT), there], step(REFUSE, None, None, outcome=outcome))
    assert bool(found) == bool(expected)
    assert expected in found


@pytest.mark.parametrize(
    ("outcome", "told"),
    [("missing", "there is no replica"), ("failed", "applied or healed: there is no replica")],
)
def test_why_it_did_not_happen(outcome: str, told: str) -> None:
    """The runner's reason is told."""
    more: dict[str, Any] = {"outcome": outcome, "witness": {"why": "there is no replica"}}
    assert problem(world(SILENT), step(REFUSE, None, None, **more)).endswith(told)


def test_the_next_step_follows_at_once() -> None:
    """No reading is left to tell that a limit is gone."""
    rows = [*world(), *samples("max_connections", "redis-a", [(0, 65000), (40.1, 20)])]
    rows += [*samples("max_connections", "redis-a", [(50.1, 65000)])]
    fault = {"fault": "connection-limit", "nodes": ["redis-a"], "most": 10}
    following = step(REFUSE, END, 60.0, id="next", outcome="skipped")
    assert problem([*rows, following], step(fault, BEGIN, END, **UNSEEN)) == ""


@pytest.mark.parametrize(
    ("others", "told"),
    [([], "all steps were skipped"), ([step(REFUSE, BEGIN, END, id="there")], "1 steps took")],
)
def test_all_steps_were_skipped(others: list[Step], told: str) -> None:
    """Without any fault there is nothing to pass; those that were skipped took no effect."""
    rows = [*world(SILENT), *others, step(REFUSE, None, None, outcome="skipped")]
    with history_of(rows) as history:
        verdict = faults_seen.check(history)
        assert told in verdict.reason
        assert verdict.result == ("pass" if others else "unknown")


def test_a_step_that_never_began() -> None:
    """A step that is said to be applied has a begin."""
    it = step(REFUSE, BEGIN, END)._replace(begin_call=None, begin_confirmed=None)
    assert "never began" in problem(world(SILENT), it)


@pytest.mark.parametrize(
    ("rows", "met"),
    [
        (load(BEGIN, BEGIN + 1, node="redis-a"), True),
        (load(BEGIN, BEGIN + 0.95, node="redis-a"), False),
        (load(BEGIN - 1, BEGIN - 0.001, node="redis-a"), False),
        (load(BEGIN, END, node="redis-b"), False),
        (load(BEGIN, END, service="api_cache"), False),  # it uses other nodes
        (load(BEGIN, END, service="other"), True),  # nobody knows what it uses
        (load(BEGIN, END, service="origin"), False),  # it is behind the caches
        ([*load(BEGIN, END), *load(0, 1, node="redis-a")], True),
        ([*load(BEGIN, END), *load(0, 1, node="redis-b")], False),
    ],
)
def test_the_workload_met_it(rows: list[Row], met: bool) -> None:
    """Twenty operations were due to its nodes, those included whose node is not known."""
    others = load(0, 30, node="memcached-a", service="api_cache")
    silent = [it for it in world(SILENT) if not hasattr(it, "service")]
    found = problem([*silent, *others, *rows], step(REFUSE, BEGIN, END, **UNSEEN))
    assert ("the workload met it" in found) == (not met)


@pytest.mark.parametrize(("before", "met"), [("redis-a", True), ("redis-b", False)])
def test_operations_that_went_elsewhere(before: str, met: bool) -> None:
    """A client that tries another node meets the fault, if it asked the touched node before."""
    rows: list[Row] = [*beats(0, 100, nodes=NODES[1:]), *beats(0, BEGIN, nodes=["redis-a"])]
    rows += [*beats(BEGIN, END, nodes=["redis-a"], ok=False), *beats(END, 100, nodes=["redis-a"])]
    rows += [*load(0, BEGIN, node=before), *load(BEGIN, 100, node="redis-b")]
    assert ("the workload met it" in problem(rows, step(REFUSE, BEGIN, END))) != met


def test_a_step_that_changes() -> None:
    """Of a ramp or a flap the runner's witness decides: the whole step has no one effect."""
    assert problem(world(), step({**REFUSE, "stages": True}, BEGIN, END)) == ""
    assert "not seen" in problem(world(), step(REFUSE, BEGIN, END))


@pytest.mark.parametrize(
    ("fault", "nodes"),
    [
        ({"fault": "kill", "nodes": ["redis-a", "redis-b"]}, {"redis-a", "redis-b"}),
        ({"fault": "az-power", "zone": "az-c"}, {"redis-c"}),
        (PARTITION, {"redis-a", "redis-b"}),
        ({"fault": "az-power", "zones": ["a", "az-c"]}, {"redis-a", "redis-c"}),
        (
            {"fault": "bandwidth", "links": ["b-to-redis-a-bus", "client-to-redis-c"]},
            {"redis-a", "redis-c"},
        ),
        ({"fault": "replication-lag", "replicas": None}, set()),
    ],
)
def test_nodes(fault: dict[str, Any], nodes: set[str]) -> None:
    """A fault touches the nodes that it names, and those of its zones and links."""
    with history_of(beats(0, 1)) as history:
        assert nodes_of(history, fault) == nodes
