"""The time scale: what a run at a speed above 1 may say of production."""

from typing import Any

import pytest

from cachesim.history.rows import EventRow, Operation, Row, Step
from cachesim.scenarios.checkers import unavailability
from cachesim.scenarios.checkers.survey import OperationClass
from cachesim.scenarios.checkers.time_scale import compressed, stopped, why_wrong
from tests.scenarios.histories import beats, failover, history_of, load, operation, readings, step

WRITES = OperationClass("sessions", "write")
SPEED = 30.0
LOST = 20.0
SHORT = 20 / SPEED
"""A failover of 20 s, at that speed."""


def waiting(until: float, begin: float = LOST, **more: Any) -> list[Row]:
    """Return a load that waits from a begin until some time, and is served then."""
    rows: list[Row] = []
    for it in load(0, 100, 0.02, **more):
        waits = begin <= it.due < until
        rows.append(it._replace(end=until + 0.01) if waits else it)
    return rows


def compressed_failover(**more: Any) -> list[Row]:
    """Return a failover of 20 s at a speed of 30, of a client that waits for it."""
    rows: list[Row] = [*waiting(LOST + SHORT, **more), *readings(0, 100)]
    rows += failover(LOST, LOST + SHORT, speed=SPEED)
    return [*rows, *beats(LOST + SHORT + 0.4, 30, kind="write", nodes=["redis-b"])]


CALMER = unavailability.Expectation("sessions", "write", 15)


@pytest.mark.parametrize(
    ("client", "low", "high", "result"),
    [
        ({"patience": 1, "comeback": 1}, 19, 22, "fail"),
        ({"patience": 5, "comeback": 1}, 15, 22, "unknown"),
        ({"patience": 30, "comeback": 1}, 0, 22, "unknown"),
        ({}, 0, float("inf"), "unknown"),
    ],
)
def test_no_error_seen(client: dict[str, float], low: float, high: float, result: str) -> None:
    """A client that outlives the compressed window may not outlive production's."""
    with history_of(compressed_failover(), speed=SPEED, deadline=60, client=client) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == low
        assert verdict.high == pytest.approx(high, abs=0.1)
        assert verdict.result == result


def test_each_service_has_its_own_client() -> None:
    """A service's own profile decides, not the longest of all."""
    longest = {"patience": 30, "comeback": 120}
    own = {"sessions": {"patience": 1, "comeback": 1}, "api_cache": longest}
    facts = {"speed": SPEED, "deadline": 60, "client": longest, "clients": own}
    with history_of(compressed_failover(), **facts) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == 19
        assert verdict.high == pytest.approx(22, abs=0.1)


@pytest.mark.parametrize(
    "client", [{"patience": 1, "comeback": 1}, {"patience": 30, "comeback": 1}]
)
def test_a_short_deadline_decides(client: dict[str, float]) -> None:
    """Who waits for 20 s was not served, whatever the client's patience."""
    with history_of(compressed_failover(), speed=SPEED, client=client) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == 19
        assert verdict.result == "fail"


def test_passes_if_the_worst_fits() -> None:
    """The worst is the window, the time until able, the comeback, and the sampling."""
    client = {"patience": 1, "comeback": 1}
    with history_of(compressed_failover(), speed=SPEED, client=client) as history:
        worst = 20 + 0.401 + 1 + 0.02 * SPEED
        for longest, result in ((worst + 0.1, "pass"), (worst - 0.1, "unknown")):
            expected = unavailability.Expectation("sessions", "write", longest)
            verdict = unavailability.check(history, expected)
            assert verdict.high == pytest.approx(worst, abs=0.02)
            assert verdict.result == result


def test_what_follows_the_window_is_its_own() -> None:
    """Outages until the node is able and the comeback has passed are the window's already."""
    rows = compressed_failover()
    for begin, total in ((22.85, False), (23.6, True)):
        bad = [
            it._replace(outcome="fail")
            if isinstance(it, Operation) and begin <= it.due < begin + 0.1
            else it
            for it in rows
        ]
        client = {"patience": 1, "comeback": 2}
        with history_of(bad, speed=SPEED, client=client) as history:
            expected = unavailability.Expectation("sessions", "write", None, 15)
            verdict = unavailability.check(history, expected)
            assert verdict.low == pytest.approx(19.09 if total else 19, abs=0.02 if total else 1e-6)


def test_an_outage_that_failed_and_ended_is_not_the_windows() -> None:
    """A full outage that ended just before the window's end was not cut short by it."""
    rows = [
        operation(it.due, "fail" if LOST <= it.due < LOST + 0.4 else "ok")
        for it in load(0, 100, 0.02)
    ]
    with history_of([*rows, *failover(LOST, LOST + SHORT, speed=SPEED)], speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is False


def test_speed_1_settles_it() -> None:
    """The reason says what to do."""
    client = {"patience": 5, "comeback": 1}
    with history_of(compressed_failover(), speed=SPEED, deadline=60, client=client) as history:
        assert "--speed 1 settles it" in unavailability.check(history, CALMER).reason


def test_not_declared_is_unknown() -> None:
    """The reason names what the client's profile lacks, and what settles it."""
    with history_of(compressed_failover(), speed=SPEED, client={"patience": 60}, deadline=60) as it:
        reason = unavailability.check(it, CALMER).reason
        assert "comeback is not declared" in reason
        assert "--speed 1" in reason


def test_never_able_is_unbounded() -> None:
    """Without a beat that was answered after it, an outage has no end that is known."""
    rows = [it for it in compressed_failover() if type(it).__name__ != "Beat"]
    with history_of(rows, speed=SPEED, client={"patience": 60, "comeback": 1}) as history:
        assert unavailability.check(history, CALMER).high == float("inf")


def test_nothing_is_compressed_at_speed_1() -> None:
    """At speed 1 the measured figures stand, with and without a profile."""
    rows = [*load(0, 20, 0.1), *load(20, 33, 0.1, "fail"), *load(33, 100, 0.1)]
    more = [*failover(20, 33, seconds=13), *readings(0, 100)]
    with history_of([*rows, *more]) as history:
        assert compressed(history) == []
        verdict = unavailability.check(history, CALMER)
        assert verdict.high == pytest.approx(13.1)
        assert verdict.result == "pass"


@pytest.mark.parametrize(
    ("links", "low"),
    [(["client-to-redis-a"], SHORT), (["client-to-redis-a", "client-to-redis-b"], 19)],
)
def test_who_may_get_around_a_fault(links: list[str], low: float) -> None:
    """In production there is time for it, if the service has other nodes."""
    hold = step({"fault": "refuse", "links": links}, LOST, LOST + SHORT)
    rows = [hold, *waiting(LOST + SHORT, node="redis-a"), *beats(0, 100), *readings(0, 100)]
    rows += load(0, 100, 0.5, kind="read", node="redis-b")
    client = {"patience": 30, "comeback": 1}
    with history_of(rows, speed=SPEED, client=client) as history:
        assert unavailability.check(history, CALMER).low == pytest.approx(low)


def cuts(length: float, apart: float, count: int = 4) -> tuple[list[Row], list[Step]]:
    """Return a load that waits in each of several cuts of the primary, and their steps.

    Args:
        length: of each, in seconds.
        apart: seconds from the end of one to the begin of the next.
    """
    begins = [LOST + number * (length + apart) for number in range(count)]
    rows: list[Row] = [*beats(0, 100), *readings(0, 100)]
    for it in load(0, 100, 0.01, node="redis-a"):
        cut = next((begin for begin in begins if begin <= it.due < begin + length), None)
        rows.append(it if cut is None else it._replace(end=cut + length + 0.001))
    fault = {"fault": "blackhole", "links": ["client-to-redis-a"]}
    return rows, [step(fault, it, it + length, id=f"cut-{it}") for it in begins]


@pytest.mark.parametrize(("apart", "high", "result"), [(0.02, 44, "unknown"), (0.2, 12, "pass")])
def test_windows_that_follow_each_other(apart: float, high: float, result: str) -> None:
    """Four cuts of 10 s are one of 40 s if the client may not be back in between."""
    rows, steps = cuts(10 / SPEED, apart)
    client = {"patience": 1, "comeback": 2}
    with history_of([*rows, *steps], speed=SPEED, client=client) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == pytest.approx(9)
        assert verdict.high == pytest.approx(high, abs=1)
        assert verdict.result == result


@pytest.mark.parametrize(
    ("clock", "high", "result"), [("production", 242, "unknown"), ("real", 1, "pass")]
)
def test_a_fault_that_comes_and_goes(clock: str, high: float, result: str) -> None:
    """Each time is compressed, and over before the step is, unless the clock is real."""
    rows, [first, second] = cuts(1.0, 3.0, 2)
    whole = first._replace(id="cut", end_call=LOST + 8, fault={**first.fault, "stages": True})
    assert second.end_call == LOST + 5
    steps = [{"id": "cut", "flap": {"on": 30.0, "off": 90.0, "clock": clock}}]
    facts: dict[str, Any] = {"client": {"patience": 2, "comeback": 2}, "scenario": {"steps": steps}}
    with history_of([*rows, whole], speed=SPEED, deadline=0.5, **facts) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.high == pytest.approx(high, abs=1)
        assert verdict.result == result


@pytest.mark.parametrize(("speed", "high"), [(1, 2), (SPEED, 2 * SPEED)])
def test_outages_within_a_window_repeat(speed: float, high: float) -> None:
    """What a client does while a fault lasts, it may do the more often the longer that is."""
    hold = step({"fault": "kill", "nodes": ["memcached-a"]}, LOST, 40.0)
    rows = [*load(0, LOST, 0.01), *load(LOST, 22, 0.01, "info"), *load(22, 100, 0.01)]
    expected = unavailability.Expectation("sessions", "write", None, 15)
    client = {"patience": 5, "comeback": 120}
    with history_of([*rows, hold, *readings(0, 100)], speed=speed, client=client) as history:
        verdict = unavailability.check(history, expected)
        assert verdict.low == pytest.approx(2, abs=0.1)
        assert verdict.high == pytest.approx(high, abs=1)


# --- which windows stop a class -----------------------------------------------------------------


def test_windows() -> None:
    """Failovers and steps are compressed: their lengths are production's."""
    hold = step({"fault": "kill", "nodes": ["redis-a"]}, LOST - 0.1, 40.0, begin_confirmed=LOST)
    rows = [hold, *compressed_failover(), *beats(0, 100)]
    with history_of(rows, speed=SPEED) as history:
        change, kill = compressed(history)
        assert (kill.begin, kill.end, kill.production) == (LOST, 40, 20 * SPEED)
        assert kill.until_able == pytest.approx(0.001)
        assert kill.more == pytest.approx(0.1 * SPEED)
        assert change.begin == LOST
        assert change.production == pytest.approx(20)
        assert change.until_able == pytest.approx(0.401)


def test_a_failover_that_was_asked_for_loses_nothing() -> None:
    """A failover by request is no window: the primary serves until then."""
    events = [it for it in failover(LOST, LOST + SHORT, speed=SPEED) if it.kind == "failover"]
    call = events[0]._replace(number=1, at=LOST, kind="failover-call", source="group", data={})
    with history_of([call, *events, *load(0, 100)], speed=SPEED) as history:
        assert compressed(history) == []


@pytest.mark.parametrize(
    ("served_from", "expected"),
    [
        (LOST, False),  # by replicas, all the time
        (LOST + 0.25, False),  # again before its later half
        (LOST + SHORT, True),
    ],
)
def test_a_class_that_is_served_is_not_stopped(served_from: float, expected: bool) -> None:
    """What is answered within the window does not wait for its end."""
    rows = [*waiting(served_from), *failover(LOST, LOST + SHORT, speed=SPEED)]
    with history_of(rows, speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is expected


def test_an_outage_that_begins_late_may_have_been_cut_short() -> None:
    """An outage that begins in the later half and lasts to the end may be the window's."""
    rows = [*waiting(LOST + SHORT, LOST + 0.45), *failover(LOST, LOST + SHORT, speed=SPEED)]
    with history_of(rows, speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is None


def test_what_may_have_been_stopped_counts_both_ways() -> None:
    """A window that may have stopped a class lasts from nothing to its worst."""
    rows = [*waiting(LOST + SHORT, LOST + 0.45), *failover(LOST, LOST + SHORT, speed=SPEED)]
    rows += [*readings(0, 100), *beats(LOST + SHORT, 30, kind="write")]
    client = {"patience": 1, "comeback": 1}
    with history_of(rows, speed=SPEED, client=client) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == 0
        assert verdict.high == pytest.approx(20 + 1 + 0.02 * SPEED, abs=0.01)
        assert verdict.result == "unknown"


def test_too_few_operations_do_not_tell() -> None:
    """With two operations in the later half, nobody knows whether the class was stopped."""
    few = [operation(LOST + at, took=SHORT) for at in (0.1, 0.3, 0.4)]
    with history_of([*few, *failover(LOST, LOST + SHORT, speed=SPEED)], speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is None


def test_a_share_that_fails_is_stopped() -> None:
    """If only some operations fail, three good ones in a row are no end of it."""
    hold = step({"fault": "refuse", "links": ["client-to-redis-a"]}, LOST, 40.0)
    rows = [
        operation(it.due, "fail" if LOST <= it.due < 40 and n % 5 == 0 else "ok")
        for n, it in enumerate(load(0, 100, 0.02))
    ]
    with history_of([*rows, hold], speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is True


@pytest.mark.parametrize(
    ("served", "patience", "expected"),
    [
        (True, 0.3, False),  # 50 a second, each for 0.3 s at most: 15 of 20 workers wait
        (True, 0.5, None),
        (True, None, None),
        (False, 0.3, None),  # an outage at that moment may be another's
    ],
)
def test_a_window_of_other_nodes(
    served: bool, patience: float | None, expected: bool | None
) -> None:
    """What a service does not use stops it only if all its workers wait for another one."""
    rows = compressed_failover(node="redis-a")
    cache: dict[str, Any] = {"service": "api_cache", "node": "memcached-a"}
    rows += load(0, 100, 0.02, **cache) if served else waiting(LOST + SHORT, **cache)
    own = {"sessions": {} if patience is None else {"patience": patience}}
    facts = {"speed": SPEED, "pods": 1, "pool": 20, "clients": own}
    with history_of(rows, **facts) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is True
        assert stopped(history, OperationClass("api_cache", "write"), window) is expected


@pytest.mark.parametrize(("patience", "expected"), [(0.3, None), (0.01, False)])
def test_a_window_of_other_nodes_and_unknown_workers(
    patience: float, expected: bool | None
) -> None:
    """A user's own code may have a single worker, which waits if there is always one call."""
    rows = compressed_failover(node="redis-a")  # 50 a second
    rows += load(0, 100, 0.02, service="api_cache", node="memcached-a")
    own = {"sessions": {"patience": patience}}
    with history_of(rows, speed=SPEED, pods=1, clients=own) as history:
        [window] = compressed(history)
        assert stopped(history, OperationClass("api_cache", "write"), window) is expected


def test_slow_answers_are_answers() -> None:
    """A hold that delays answers stops nobody, though the last come after its end."""
    hold = step({"fault": "latency", "links": ["client-to-*"], "ms": 300}, LOST, 24.0)
    rows = [it._replace(end=it.due + 0.3) if LOST <= it.due < 24 else it for it in load(0, 100)]
    with history_of([*rows, hold], speed=SPEED) as history:
        [window] = compressed(history)
        assert stopped(history, WRITES, window) is False


def test_the_clients_own_outage_stands() -> None:
    """An outage that ends within a hold is the client's, and real."""
    hold = step({"fault": "kill", "nodes": ["memcached-a"]}, LOST, 40.0)
    rows = [*load(0, LOST, 0.1), *load(LOST, 23, 0.1, "info"), *load(23, 100, 0.1)]
    client = {"patience": 5, "comeback": 120}
    with history_of([*rows, hold, *readings(0, 100)], speed=2.0, client=client) as history:
        verdict = unavailability.check(history, CALMER)
        assert verdict.low == pytest.approx(2.9)
        assert verdict.high == pytest.approx(3.1)
        assert verdict.result == "pass"


# --- the profile --------------------------------------------------------------------------------


def test_a_call_longer_than_its_patience_contradicts() -> None:
    """A call that took longer than declared, and succeeded, makes the profile wrong."""
    for patience, wrong in ((0.5, True), (0.8, False)):
        client = {"patience": patience, "comeback": 1}
        with history_of(compressed_failover(), speed=SPEED, client=client) as history:
            assert ("a call took" in (why_wrong(history, WRITES) or "")) == wrong
            verdict = unavailability.check(history, CALMER)
            assert ("profile is wrong" in verdict.reason) == wrong
            assert verdict.result == ("unknown" if wrong else "fail")


@pytest.mark.parametrize(("comeback", "wrong"), [(2, True), (4, False)])
def test_a_pod_that_comes_back_late_contradicts(comeback: float, wrong: bool) -> None:
    """A pod that was not served for longer than declared makes the profile wrong."""
    able = LOST + SHORT + 0.4
    rows = compressed_failover()
    for it in load(0, 100, 0.1, pod="p1"):
        rows.append(it._replace(outcome="fail") if LOST <= it.due < able + 3 else it)
    client = {"patience": 1, "comeback": comeback}
    with history_of(rows, speed=SPEED, client=client) as history:
        assert ("pod p1" in (why_wrong(history, WRITES) or "")) == wrong


@pytest.mark.parametrize(
    ("profile", "node", "high"),
    [
        ({"discovery": 2.0}, "memcached-a", 63),
        ({"discovery": 2.0}, "redis-a", 0.1),
        ({}, "memcached-a", 0.1),
    ],
)
def test_the_wait_of_auto_discovery(profile: dict[str, float], node: str, high: float) -> None:
    """Nodes are asked for in production time: what ends at once here may take a minute there."""
    client = {"patience": 1, "comeback": 2, **profile}
    rows: list[Row] = [*load(0, 100, 0.02, service="api_cache", node="memcached-a")]
    rows += [*readings(0, 100), EventRow(1, 30, "moved", node, "", {"address": "127.0.0.1:1"})]
    expected = unavailability.Expectation("api_cache", "write", 100)
    with history_of(rows, speed=SPEED, client=client, clients={"api_cache": client}) as history:
        verdict = unavailability.check(history, expected)
        assert verdict.low == 0
        assert verdict.high == pytest.approx(high, abs=1)


def test_what_happens_once_lasts_no_time() -> None:
    """A replacement is over when it is done: its step is no window."""
    for fault, count in (("replace", 0), ("kill", 1)):
        it = step({"fault": fault, "nodes": ["redis-a"]}, 40, 42)
        with history_of([*load(0, 100), it], speed=SPEED) as history:
            assert len(compressed(history)) == count
