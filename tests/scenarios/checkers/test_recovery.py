"""Recovery: the control plane's part in production time, the clients' in real time."""

from typing import Any

import pytest

from cachesim.history.rows import Beat, EventRow, GeneratorReading, Operation, Row
from cachesim.scenarios.checkers import recovery
from cachesim.scenarios.checkers.recovery import Expectation, measure
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import beats, history_of, kill, load, readings

HEALED, ABLE = 40.0, 42.0


def heal(
    back: float = 50.0,
    *,
    able: float = ABLE,
    end: float = 100.0,
    pods: tuple[str, ...] = ("p0", "p1"),
    **after: Any,
) -> list[Row]:
    """Return a heal after which the nodes are able later, and the clients later still.

    Args:
        after: how operations are from the return on.
    """
    rows: list[Row] = [*beats(0, 30, every=0.5), *beats(30, able, ok=False, every=0.5)]
    rows += beats(able, end, every=0.5)
    for pod in pods:
        rows += [*load(0, 30, pod=pod), *load(30, back, outcome="fail", pod=pod)]
        rows += [*load(back, end, pod=pod, **after), *readings(0, end, pod)]
    return rows


def verdict_on(rows: list[Row], within: float = 20, **facts: Any) -> Verdict:
    """Return the verdict on a history that was healed."""
    with history_of(rows, **({"heal_at": HEALED} | facts)) as history:
        return recovery.check(history, Expectation(within))


def test_measured() -> None:
    """From the heal to able, and from able to the first steady span."""
    with history_of(heal(), heal_at=HEALED) as history:
        it = measure(history)
        assert it.able is not None
        assert it.steady is not None
        assert it.able.begin == pytest.approx(41.5)
        assert it.able.end == pytest.approx(42.001)
        assert 49.8 < it.steady.begin < it.steady.end < 50.11
    verdict = verdict_on(heal())
    assert verdict.low == pytest.approx(9.4, abs=0.2)
    assert verdict.high == pytest.approx(10, abs=0.11)


@pytest.mark.parametrize(("within", "result"), [(11, "pass"), (9.8, "unknown"), (9, "fail")])
def test_against_the_threshold(within: float, result: str) -> None:
    """Within, inside and above the interval."""
    assert verdict_on(heal(), within).result == result


def test_what_is_reported_late() -> None:
    """The clients may have been back for as long before."""
    verdict = verdict_on(heal(), operations_eps=3.0)
    assert verdict.low == pytest.approx(6.4, abs=0.2)
    assert verdict.high == pytest.approx(10, abs=0.11)


def test_at_once() -> None:
    """Clients that are steady as soon as the nodes are able took no time."""
    verdict = verdict_on(heal(30.0))
    assert verdict.details["clients"] == [0.0, 0.0]


def test_loads_of_an_origin_do_not_count() -> None:
    """A pod has its rate, and is quick, whether or not its cache misses."""
    before = load(0, 30, pod="p0", service="origin", kind="read")
    after = load(60, 100, 0.5, pod="p0", service="origin", kind="read", took=0.05)
    with history_of([*heal(), *before, *after], heal_at=HEALED) as history:
        steady = measure(history).steady
        assert steady is not None
        assert steady.end < 50.11


def test_the_slowest_pod_decides() -> None:
    """All pods have to be steady at once."""
    rows = [*heal(pods=("p0",)), *(it for it in heal(60.0) if getattr(it, "pod", "") == "p1")]
    with history_of(rows, heal_at=HEALED) as history:
        steady = measure(history).steady
        assert steady is not None
        assert 59.8 < steady.end < 60.11


@pytest.mark.parametrize(
    "after",
    [
        {"every": 0.1},  # half of its rate
        {"took": 0.05},  # slow: three times the baseline's 2 ms, and 10 ms, are 16 ms
        {"took": None},
        {"outcome": "info"},
    ],
)
def test_not_as_before(after: dict[str, Any]) -> None:
    """A pod that is back, but slower, rarer or failing, has not recovered."""
    verdict = verdict_on(heal(**after), client={"comeback": 10})
    assert verdict.high == float("inf")
    assert verdict.result == "fail"


@pytest.mark.parametrize(("every", "steady"), [(0.052, True), (0.0545, False)])
def test_the_rate_of_the_baseline(every: float, steady: bool) -> None:
    """A pod has 95 % of its rate: of 100 operations in the span 96 do, 92 do not."""
    with history_of(heal(every=every), heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == steady


@pytest.mark.parametrize("took", [0.0159, 0.0161])
def test_latency_of_the_baseline(took: float) -> None:
    """The 99th percentile stays below three times the baseline's plus 10 ms."""
    with history_of(heal(took=took), heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == (took < 0.016)


@pytest.mark.parametrize(("every", "steady"), [(26, True), (24, False)])
def test_the_slowest_of_a_few(every: int, steady: bool) -> None:
    """One of a pod's 50 operations in the span may be slow, two may not."""
    made = [it for it in heal(pods=("p0",)) if isinstance(it, Operation)][::2]
    rows: list[Row] = [it for it in heal(pods=("p0",)) if not isinstance(it, Operation)]
    after = [it for it in made if it.due >= 50][::every]
    rows += [it._replace(end=it.due + 0.05) if it in after else it for it in made]
    with history_of(rows, heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == steady


@pytest.mark.parametrize(
    ("late", "took", "idle", "steady"),
    [
        (0.04, 0.002, 3, True),
        (0.04, 0.002, 0, False),  # all workers were inside calls
        (0.04, 0.04, 3, False),  # slow in itself
        (0.04, None, 3, False),
    ],
)
def test_what_began_late(late: float, took: float | None, idle: int, steady: bool) -> None:
    """What the generator began late, with a worker that had nothing to do, is not slow."""
    made = heal(late=late, took=took)
    rows: list[Row] = [it for it in made if not isinstance(it, GeneratorReading)]
    rows += [*readings(0, 100, "p0", idle=idle), *readings(0, 100, "p1", idle=idle)]
    with history_of(rows, heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == steady


@pytest.mark.parametrize(
    ("after", "steady"),
    [
        ({"every": 1.0}, True),
        ({"every": 1.0, "outcome": "fail"}, False),
        ({"every": 1.0, "took": 0.05}, True),  # one in 250 of the pod
        (None, False),  # ten were expected
    ],
)
def test_a_small_class_that_stays_dead(after: dict[str, Any] | None, steady: bool) -> None:
    """Less than 1 % of a pod is a class too: without any good operation it has not recovered."""
    small: dict[str, Any] = {"pod": "p0", "service": "audit", "kind": "write"}
    rows = [*heal(pods=("p0",), every=0.01), *load(0, 30, 0.4, **small)]
    if after is not None:
        rows += load(50, 100, **{**small, **after})
    with history_of(rows, heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == steady


@pytest.mark.parametrize(("every", "steady"), [(120, True), (40, False)])
def test_one_in_a_hundred_may_be_bad(every: int, steady: bool) -> None:
    """99 % of a pod's operations are good in the span, not all of them."""
    rows = heal(pods=("p0",))
    number = 0
    for index, it in enumerate(rows):
        if isinstance(it, Operation) and it.due >= 50:
            number += 1
            if number % every == 0:
                rows[index] = it._replace(outcome="info")
    with history_of(rows, heal_at=HEALED) as history:
        assert (measure(history).steady is not None) == steady


@pytest.mark.parametrize(
    ("comeback", "end", "result"),
    [
        (10, 63.0, "fail"),  # 21 s of quiet
        (10, 61.0, "unknown"),  # 19 s: less than 20
        (25, 93.0, "fail"),  # 51 s
        (25, 91.0, "unknown"),  # 49 s: less than twice the comeback
        (None, 93.0, "unknown"),
    ],
)
def test_never(comeback: float | None, end: float, result: str) -> None:
    """Never is said after a quiet of twice the comeback, at least 20 s."""
    client = {} if comeback is None else {"comeback": comeback}
    rows = [*heal(end=end, outcome="fail")]
    verdict = verdict_on(rows, end_at=end, client=client)
    assert verdict.result == result
    assert verdict.low == pytest.approx(end - HEALED, abs=0.51)
    assert verdict.high == float("inf")


@pytest.mark.parametrize(
    ("ended", "result"), [(40.0, "unknown"), (61.0, "unknown"), (64.0, "fail")]
)
def test_a_command_that_has_ended(ended: float, result: str) -> None:
    """It makes no operations any more: that is no client that never came back."""
    rows = [it for it in heal(outcome="fail") if not isinstance(it, Operation) or it.due < ended]
    verdict = verdict_on(rows, client={"comeback": 10}, command_code=0, command_ended_at=ended)
    assert verdict.result == result
    assert ("the command ended too early" in verdict.reason) == (result == "unknown")


def test_a_span_that_the_run_cut_short() -> None:
    """A steady span is 5 s long: less at the end of the run is none."""
    for end, found in ((54.8, False), (55.2, True)):
        with history_of(heal(end=end), heal_at=HEALED, end_at=end) as history:
            assert (measure(history).steady is not None) == found


@pytest.mark.parametrize(
    ("rows", "facts", "why"),
    [
        (heal(), {"heal_at": None}, "nothing was healed"),
        (heal(), {"baseline": None}, "baseline"),
        (heal(), {"baseline": {"begin": -9.0, "end": -1.0}}, "nothing was due"),
        (load(0, 100), {}, "no beats"),
        ([*heal(), *beats(0, 30, nodes=["x"]), *beats(30, 99, nodes=["x"], ok=False)], {}, "x did"),
        ([*heal(), *beats(0, 30, kind="write")], {}, "the primary did not come back"),
    ],
)
def test_nothing_to_judge(rows: list[Row], facts: dict[str, Any], why: str) -> None:
    """Without its ingredients, or with a node that did not come back, recovery is unknown."""
    verdict = verdict_on(rows, **facts)
    assert verdict.result == "unknown"
    assert why in verdict.reason


def test_able_is_five_answers_in_a_row() -> None:
    """Four answers and a failure are no return."""
    rows = [it for it in heal() if not (isinstance(it, Beat) and 42 <= it.due < 46)]
    rows += [*beats(42, 44, every=0.5), *beats(44, 44.5, ok=False, every=0.5)]
    rows += beats(44.5, 46, every=0.5)
    with history_of(rows, heal_at=HEALED) as history:
        able = measure(history).able
        assert able is not None
        assert able.begin == pytest.approx(44)
        assert able.end == pytest.approx(44.501)


def test_the_last_node_decides() -> None:
    """The topology is able once its last node is."""
    slow = [*beats(0, 45, nodes=["x"], ok=False), *beats(45, 100, nodes=["x"])]
    with history_of([*heal(), *slow], heal_at=HEALED) as history:
        able = measure(history).able
        assert able is not None
        assert able.begin == pytest.approx(44.9)
        assert able.end == pytest.approx(45.001)


def test_answers_from_before_the_heal_do_not_count() -> None:
    """A node that answered until just before the heal is able only since it."""
    with history_of(heal(able=30.0), heal_at=HEALED) as history:
        able = measure(history).able
        assert able is not None
        assert able.begin == HEALED
        assert HEALED < able.end <= 40.6


def test_thin_beats() -> None:
    """A threshold that the beats are too thin for is unknown."""
    assert "too thinly" in verdict_on(heal(), 1.9).reason
    assert verdict_on(heal(), 2.1).result == "fail"


def test_a_starved_generator() -> None:
    """What the generator did to the clients' part is unknown."""
    rows = [
        it._replace(lag=5.0) if isinstance(it, GeneratorReading) and it.at == 45 else it
        for it in heal()
    ]
    assert "generator" in verdict_on(rows, 9).reason
    assert verdict_on(rows, 11).result == "pass"  # lateness makes nobody recover


# --- at a speed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("within", "comeback", "result"),
    [
        (150, 120, "pass"),
        (115, 120, "unknown"),
        (150, None, "unknown"),
        (150, 7, "unknown"),  # they came back after 8 s: the profile is wrong
    ],
)
def test_the_clients_part_is_not_multiplied(
    within: float, comeback: float | None, result: str
) -> None:
    """The control plane's part counts times the speed, the clients' up to their comeback."""
    rows = [*heal(able=HEALED), *beats(HEALED, 100, every=0.02)]
    client = {} if comeback is None else {"comeback": comeback}
    verdict = verdict_on(rows, within, speed=30, client=client)
    assert verdict.low == 0
    if comeback is not None:
        assert verdict.high == pytest.approx(comeback, abs=0.7)
    assert verdict.result == result
    assert ("profile is wrong" in verdict.reason) == (comeback == 7)


@pytest.mark.parametrize(("node", "high"), [("redis-a", 2), ("memcached-a", 120)])
def test_the_comeback_of_those_that_a_fault_touched(node: str, high: float) -> None:
    """A client can give up only nodes that a fault touched."""
    rows = [*heal(able=HEALED, node="redis-a"), *beats(HEALED, 100, every=0.02)]
    rows += load(0, 100, service="api_cache", node="memcached-a")
    rows += [*load(0, 30, service="origin"), kill(31, HEALED, node)]
    own = {"sessions": {"comeback": 2}, "api_cache": {"comeback": 120}}
    verdict = verdict_on(rows, 60, speed=30, client={"comeback": 120}, clients=own)
    assert verdict.high == pytest.approx(high, abs=0.7)


def test_the_control_planes_part_is_multiplied() -> None:
    """At a speed of 30, two seconds until able are a minute of production."""
    rows = [*heal(), *beats(30, ABLE, ok=False), *beats(ABLE, 100, every=0.02)]
    recovered = EventRow(1, ABLE - 0.1, "recovered", "redis-a", "", {})
    verdict = verdict_on([*rows, recovered], 40, speed=30, client={"comeback": 20})
    assert verdict.details["control_plane"] == [pytest.approx(57, abs=1), pytest.approx(57, abs=1)]
    assert verdict.result == "fail"


def test_healing_is_not_multiplied() -> None:
    """What it takes to heal, such as to start containers again, is real at any speed."""
    rows = [*heal(), *beats(30, ABLE, ok=False), *beats(ABLE, 100, every=0.02)]
    healed = EventRow(1, HEALED + 1.5, "heal", "az-a", "", {})
    recovered = EventRow(2, HEALED + 1.6, "recovered", "redis-a", "", {})
    verdict = verdict_on([*rows, healed, recovered], 40, speed=30, client={"comeback": 20})
    seconds = 2.0 + 0.1 * 29
    assert verdict.details["control_plane"] == [pytest.approx(seconds, abs=0.2)] * 2


def test_the_servers_timeouts_are_not_multiplied() -> None:
    """What a node takes after the control plane's last event is real at any speed."""
    rows = [*heal(), *beats(30, ABLE, ok=False), *beats(ABLE, 100, every=0.02)]
    recovering = EventRow(1, HEALED + 0.5, "recovering", "redis-a", "", {})
    late = EventRow(2, ABLE + 5, "recovered", "redis-a", "", {})
    verdict = verdict_on([*rows, recovering, late], 40, speed=30, client={"comeback": 20})
    seconds = 0.5 * 30 + 1.5
    assert verdict.details["control_plane"] == [pytest.approx(seconds, abs=0.2)] * 2
    assert verdict.result == "pass"


@pytest.mark.parametrize(("more", "is_left_out"), [([], True), ([{"added": {"m": ""}}], False)])
def test_a_removed_node_need_not_come_back(more: list[dict[str, Any]], is_left_out: bool) -> None:
    """A node that was removed, and not added again, is not waited for."""
    changes: list[dict[str, Any]] = [{"removed": ["m"]}, *more]
    rows = [*heal(), *beats(0, HEALED, nodes=["m"])]
    rows += [EventRow(n, HEALED, "scaled", "t", "", data) for n, data in enumerate(changes, 1)]
    with history_of(rows, heal_at=HEALED) as history:
        assert (measure(history).why == "") is is_left_out
