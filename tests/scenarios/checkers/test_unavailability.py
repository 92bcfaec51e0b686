"""Unavailability and the error budget: good is answered within the deadline of the due time."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesim.history.outages import Track
from cachesim.history.reader import History
from cachesim.history.rows import Operation, Row
from cachesim.scenarios.checkers import error_budget, unavailability
from cachesim.scenarios.checkers.survey import OperationClass, survey
from cachesim.scenarios.report.costs import costs
from cachesim.scenarios.verdict import Result
from tests.scenarios.histories import (
    beats,
    failover,
    history_of,
    load,
    operation,
    readings,
    step,
    times,
)

WRITES = OperationClass("sessions", "write")
END = 20.0


def is_good(it: Operation, deadline: float) -> bool:
    """Return whether an operation is good, by the words of the rule."""
    return it.outcome == "ok" and it.end is not None and it.end - it.due <= deadline


def is_undecided(it: Operation, deadline: float) -> bool:
    """Return whether the run ended before an operation had to."""
    return it.end is None and it.outcome != "shed" and it.due + deadline > END


@st.composite
def runs(draw: st.DrawFn) -> list[Operation]:
    """Return the operations of two pods, of all kinds and outcomes, in the order of their ends."""
    found = []
    for at in draw(st.lists(st.sampled_from(times(0, END, 0.125)), max_size=40)):
        took = draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, None]))
        found.append(
            operation(
                at,
                draw(st.sampled_from(["ok", "ok", "ok", "info", "fail", "shed", "unacked"])),
                took,
                kind=draw(st.sampled_from(["read", "write", "delete", "touch"])),
                late=draw(st.sampled_from([0.0, 0.25])),
                pod=draw(st.sampled_from(["p0", "p1"])),
                node=draw(st.sampled_from(["redis-a", None])),
            )
        )
    return found


@settings(max_examples=40, deadline=None)
@given(runs())
def test_classes_as_the_rule_says(rows: list[Operation]) -> None:
    """Each class has the operations that are good by the rule, and its errors, and its outages."""
    deadline = 0.5
    classes: dict[OperationClass, list[Operation]] = defaultdict(list)
    for it in sorted(rows, key=lambda it: it.due):
        classes[OperationClass("sessions", "read" if it.kind == "read" else "write")].append(it)
    with history_of(rows, deadline=deadline, end_at=END) as history:
        found = survey(history)
        assert found.keys() == classes.keys()
        for name, seen in classes.items():
            decided = [it for it in seen if not is_undecided(it, deadline)]
            bad = [it for it in decided if not is_good(it, deadline)]
            assert (found[name].all.due, found[name].all.bad) == (len(decided), len(bad))
            assert found[name].undecided == len(seen) - len(decided)
            assert found[name].errors.total() == len(bad)
            shed = sum(it.outcome == "shed" for it in bad)
            assert found[name].errors["shed"] == shed
            low, high = error_budget.share_of(history, name)
            assert low == len(bad) / len(seen)
            assert high == (len(bad) + len(seen) - len(decided)) / len(seen)
            check_figures(history, name, decided, deadline)


def check_figures(
    history: History, name: OperationClass, decided: list[Operation], deadline: float
) -> None:
    """Compare the worst of a class and its pods with tracks of them."""
    low = high = 0.0
    pods = {it.pod for it in decided}
    # Operations that are due at once have no order: those of a pod keep the one of the database.
    if len({it.due for it in decided}) < len(decided):
        return
    for chosen in (pods, *({pod} for pod in pods)):
        track = Track(0.0)
        for it in decided:
            if it.pod in chosen:
                track.add(it.due, is_good(it, deadline))
        for outage in track.outages(END):
            low, high = max(low, outage.low), max(high, outage.high)
    expected = unavailability.Expectation("sessions", name.kind)
    verdict = unavailability.check(history, expected)
    assert (verdict.low, verdict.high) == (low, high)


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([operation(1, "fail", error="OutOfMemory")], "OutOfMemory"),
        ([operation(1, "info", error="TimeoutError")], "info: TimeoutError"),
        ([operation(1, "info", None)], "info: no error"),
        ([operation(1, "shed", error="x")], "shed"),
        ([operation(1, "unacked")], "unacked"),
        ([operation(1, took=1.5)], "late"),
        ([operation(1, took=0.7, late=0.5)], "late"),
    ],
)
def test_errors_have_names(rows: list[Operation], name: str) -> None:
    """A bad operation is counted under its error, `shed`, `info` and `late` on their own."""
    with history_of(rows) as history:
        assert dict(survey(history)[WRITES].errors) == {name: 1}


def test_shed_is_decided() -> None:
    """What was under way at the end of the run is undecided, but not what was never started."""
    rows = [operation(99.9, "info", None), operation(99.95, "shed", None)]
    with history_of(rows) as history:
        found = survey(history)[WRITES]
        assert (found.undecided, found.all.due, found.all.bad) == (1, 1, 1)


def outage(begin: float, end: float) -> list[Operation]:
    """Return ten good operations a second, but bad ones from a begin to before an end."""
    good = [*load(0, begin, 0.1), *load(end, 100, 0.1)]
    return [*good, *load(begin, end, 0.1, "info")]


@pytest.mark.parametrize(
    ("longest", "result"),
    [(6.1, "pass"), (6.0, "unknown"), (5.9, "unknown"), (5.8, "fail"), (0.3, "unknown")],
)
def test_against_the_threshold(longest: float, result: str) -> None:
    """Within, inside and above the interval; and a threshold that the load is too thin for."""
    with history_of([*outage(20, 26), *readings(0, 100)]) as history:
        verdict = unavailability.check(
            history, unavailability.Expectation("sessions", None, longest)
        )
        assert verdict.result == result
        assert verdict.low == pytest.approx(5.9)
        assert verdict.high == pytest.approx(6.1)
        assert ("too thinly" in verdict.reason) == (longest == 0.3)


@pytest.mark.parametrize(
    ("longest", "result"), [(8.2, "pass"), (8.0, "unknown"), (4.0, "unknown"), (3.8, "fail")]
)
def test_what_is_reported_late(longest: float, result: str) -> None:
    """An outage of 5.9 to 6.1 s may be two seconds shorter or longer."""
    with history_of([*outage(20, 26), *readings(0, 100)], operations_eps=2.0) as history:
        expected = unavailability.Expectation("sessions", None, longest)
        assert unavailability.check(history, expected).result == result


def test_the_worst_pod_decides() -> None:
    """That other pods are served does not help the one that is not."""
    rows = [*load(0, 100, 0.02, pod="p1"), *outage(20, 26)]
    with history_of([*rows, *readings(0, 100)]) as history:
        verdict = unavailability.check(history, unavailability.Expectation("sessions", None, 4))
        assert verdict.result == "fail"
        assert verdict.details["outages"][0]["what"] == "pod p0"


def test_the_worst_class_decides() -> None:
    """Of a service's reads and writes, the worse decides; one alone may be asked for."""
    rows = [*load(0, 100, 0.1, kind="read"), *outage(20, 26), *readings(0, 100)]
    with history_of(rows) as history:
        for kind, result in ((None, "fail"), ("write", "fail"), ("read", "pass")):
            expected = unavailability.Expectation("sessions", kind, 4)  # type: ignore[arg-type]
            assert unavailability.check(history, expected).result == result


def test_low_and_high_may_be_of_two_classes() -> None:
    """The least of one class and the most of another make the interval."""
    rows: list[Row] = [*outage(20, 24), *readings(0, 100)]  # 3.9 to 4.1
    reads = [*times(0, 19.9, 0.1), *times(24.6, 100, 0.1)]
    rows += [operation(at, kind="read") for at in reads]
    rows += [operation(at, "fail", kind="read") for at in (20.6, 24.0)]  # 3.4 to 4.8
    with history_of(rows) as history:
        expected = unavailability.Expectation("sessions", None, 4.5)
        verdict = unavailability.check(history, expected)
        assert verdict.low == pytest.approx(3.9)
        assert verdict.high == pytest.approx(4.8)
        assert verdict.result == "unknown"


def test_rare_classes_are_judged_if_asked_for() -> None:
    """Of a cache that is seldom written to, the reads tell, and the writes if they are named."""
    rows = [*load(0, 100, 0.05, kind="read"), *load(0, 100, 2), *readings(0, 100)]
    with history_of(rows) as history:
        for kind, result in ((None, "pass"), ("write", "unknown")):
            expected = unavailability.Expectation("sessions", kind, 4)  # type: ignore[arg-type]
            assert unavailability.check(history, expected).result == result


def test_nodes_are_shown() -> None:
    """The longest outage of each node that answered is shown."""
    rows = [*load(0, 30, 0.1, node="a"), *load(30, 33, 0.1, "fail", node="a")]
    rows += [*load(33, 100, 0.1, node="a"), *load(0, 100, 0.1, node="b")]
    with history_of(rows) as history:
        verdict = unavailability.check(history, unavailability.Expectation("sessions"))
        assert verdict.details["nodes"] == {"a": pytest.approx(3.1), "b": 0}


def test_total() -> None:
    """All outages together have a threshold of their own."""
    rows = [*load(0, 20, 0.1), *load(20, 22, 0.1, "fail"), *load(22, 30, 0.1)]
    rows += [*load(30, 33, 0.1, "fail"), *load(33, 100, 0.1)]
    with history_of([*rows, *readings(0, 100)]) as history:
        for total, result in ((5.3, "pass"), (4.7, "fail")):
            expected = unavailability.Expectation("sessions", "write", 4, total)
            verdict = unavailability.check(history, expected)
            assert verdict.result == result
        assert verdict.details["limit"] == "total"
        assert verdict.low == pytest.approx(1.9 + 2.9)
        assert verdict.high == pytest.approx(2.1 + 3.1)


def test_total_alone() -> None:
    """Without a threshold for the longest outage, the verdict is on all of them."""
    rows = [*load(0, 20, 0.1), *load(20, 22, 0.1, "fail"), *load(22, 100, 0.1)]
    with history_of([*rows, *readings(0, 100)]) as history:
        expected = unavailability.Expectation("sessions", "write", total=5)
        verdict = unavailability.check(history, expected)
        assert (verdict.result, verdict.threshold) == ("pass", 5)
        assert verdict.details["limit"] == "total"


@pytest.mark.parametrize(("at", "result"), [(25, "unknown"), (50, "pass")])
def test_a_cut_within_an_outage(at: float, result: str) -> None:
    """An outage of one of many pods may have lasted for all of a hold that was cut."""
    rows = [*load(0, 20, 0.1, pod="p1"), *load(20, 30, 0.1, "fail", pod="p1")]
    rows += [*load(30, 100, 0.1, pod="p1"), *load(0, 100, 0.002, pod="p0")]
    facts = {"cuts": [{"at": at, "seconds": 600}]}
    with history_of([*rows, *readings(0, 100)], **facts) as history:
        expected = unavailability.Expectation("sessions", "write", 60)
        verdict = unavailability.check(history, expected)
        assert verdict.result == result
        assert verdict.low == pytest.approx(9.9)
        assert verdict.high == pytest.approx(10.1 + (600 if result == "unknown" else 0))


def test_faults_at_the_same_time_are_the_same_seconds() -> None:
    """Windows that overlap last together less than each alone: 80 s of production, of 60 twice."""
    rows: list[Row] = [*load(0, 20, 0.02), *load(20, 24, 0.02, "fail"), *load(24, 100, 0.02)]
    refuse = {"fault": "refuse", "nodes": ["redis-a"]}
    rows += [step(refuse, 20, 23, id="one"), step(refuse, 21, 24, id="two")]
    rows = [it._replace(node="redis-a") if isinstance(it, Operation) else it for it in rows]
    facts = {"speed": 20, "client": {"patience": 0.5, "comeback": 1}}
    with history_of([*rows, *beats(0, 100), *readings(0, 100)], **facts) as history:
        for total, result in ((130, "pass"), (78, "fail"), (85, "unknown")):
            expected = unavailability.Expectation("sessions", "write", total=total)
            verdict = unavailability.check(history, expected)
            assert verdict.result == result
        assert verdict.low == pytest.approx(79)
        low, _ = error_budget.share_of(history, WRITES)
        assert low == pytest.approx(79 / (10 + 90 * 20))
        [cost] = costs(history)
        assert cost.seconds.low == pytest.approx(79)


@pytest.mark.parametrize(("longest", "result"), [(50, "unknown"), (70, "pass")])
@pytest.mark.parametrize("silent", [{"kind": "read"}, {"pod": "p1"}])
def test_one_that_reports_nothing_may_hang(
    longest: float, result: str, silent: dict[str, Any]
) -> None:
    """A client that waits for each answer reports nothing while it hangs, whatever others do."""
    rows: list[Row] = [*load(0, 100), *load(0, 40, **silent), *readings(0, 100)]
    with history_of([*rows, *readings(0, 100, pod="p1")]) as history:
        expectation = unavailability.Expectation("sessions", longest=longest)
        assert unavailability.check(history, expectation).result == result


@pytest.mark.parametrize(("most", "result"), [(0.4, "unknown"), (0.7, "pass")])
def test_a_budget_of_one_that_reports_nothing(most: float, result: str) -> None:
    """What a client would have asked for while it hung counts both ways."""
    rows: list[Row] = [*load(0, 100, kind="read"), *load(0, 40), *readings(0, 100)]
    with history_of(rows) as history:
        assert error_budget.check(history, error_budget.Expectation("sessions", most)).result == (
            result
        )


def test_nothing_was_due() -> None:
    """Without operations there is nothing to say."""
    with history_of(load(0, 100, kind="read")) as history:
        expected = unavailability.Expectation("sessions", "write", 4)
        assert unavailability.check(history, expected).result == "unknown"
        budget = error_budget.Expectation("sessions", 1, "write")
        assert error_budget.check(history, budget).result == "unknown"


def test_what_the_generator_did_is_unknown() -> None:
    """An outage of operations that began late although workers were idle is not the client's."""
    late = load(20, 26, 0.1, late=1.5, took=0.001)
    rows = [*load(-900, 20, 0.1), *late, *load(26, 100, 0.1)]
    for idle, result in ((3, Result.UNKNOWN), (0, Result.FAIL)):
        facts = {"baseline": {"begin": -900.0, "end": 10.0}}
        with history_of([*rows, *readings(-900, 100, idle=idle)], **facts) as history:
            verdict = unavailability.check(history, unavailability.Expectation("sessions", None, 4))
            assert verdict.result == result


@pytest.mark.parametrize(("threshold", "result"), [(5, "fail"), (7, "unknown"), (12, "pass")])
@pytest.mark.parametrize("limit", ["longest", "total"])
def test_too_long_beside_what_the_generator_did(limit: str, threshold: float, result: str) -> None:
    """One late operation of an outage of 10 s is no excuse for its other 6 s."""
    rows = [
        *outage(20, 30),
        operation(24, "info", late=0.1, kind="write"),
        *readings(0, 100, idle=1),
    ]
    expected = unavailability.Expectation("sessions", None, **{limit: threshold})
    with history_of(rows) as history:
        assert unavailability.check(history, expected).result == result


# --- the error budget -------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "result"), [(0.07, "pass"), (0.06, "pass"), (0.05, "fail")])
def test_share(most: float, result: str) -> None:
    """Bad operations divided by those that were due, over the whole run and for each step."""
    rows = [*outage(20, 26), *readings(0, 100), step({"fault": "kill"}, 20, 32)]
    with history_of(rows) as history:
        verdict = error_budget.check(history, error_budget.Expectation("sessions", most))
        assert verdict.result == result
        assert verdict.low == verdict.high == 0.06
        details = verdict.details["sessions.write"]
        assert details["errors"] == {"info: no error": 60}
        assert details["steps"]["step"] == pytest.approx(0.5, abs=0.01)


def test_share_of_the_undecided() -> None:
    """What was under way when the run ended counts both ways."""
    rows = [*load(0, 99, 0.1), *load(99.05, 100.05, 0.1, "info", took=None), *readings(0, 100)]
    with history_of(rows) as history:
        verdict = error_budget.check(history, error_budget.Expectation("sessions", 0.005))
        assert (verdict.low, verdict.high) == (0, 0.01)
        assert verdict.result == "unknown"


def test_share_of_production() -> None:
    """At a speed, an outage counts with its length in production, in production's time."""
    rows: list[Row] = [*load(0, 20, 0.1), *load(20, 21, 0.1, "info"), *load(21, 100, 0.1)]
    rows += [*beats(20, 30, kind="write", every=0.1), *readings(0, 100)]
    facts = {"speed": 20, "client": {"patience": 1, "comeback": 2}}
    with history_of([*rows, *failover(20, 21, speed=20)], **facts) as history:
        low, high = error_budget.share_of(history, WRITES)
        production = 10 + 90 * 20
        assert low == pytest.approx(19 / production)
        assert 22 / production <= high <= 26 / production


def test_share_of_production_outside_of_windows() -> None:
    """Bad operations outside of windows that stop the class are seconds, or times the speed."""
    rows: list[Row] = [*load(0, 50, 0.1), *load(50, 52, 0.1, "fail"), *load(52, 100, 0.1)]
    hold = step({"fault": "kill", "nodes": ["redis-a"]}, 60, 90)
    facts = {"speed": 20, "client": {"patience": 1, "comeback": 2}}
    with history_of([*rows, hold], **facts) as history:
        low, high = error_budget.share_of(history, WRITES)
        production = 10 + 90 * 20
        assert low == pytest.approx(2 / production)
        assert high == pytest.approx(2 * 20 / production)
    with history_of([*rows, hold], **(facts | {"speed": 0.5})) as history:
        low, high = error_budget.share_of(history, WRITES)
        assert low == pytest.approx(1 / (10 + 90 * 0.5))
        assert high == pytest.approx(2 / (10 + 90 * 0.5))


def test_share_of_the_undecided_at_a_speed() -> None:
    """What was under way when the run ended counts both ways there too."""
    rows: list[Row] = [*load(0, 80, 0.1), *load(80, 100, 0.1, "info", took=None)]
    hold = step({"fault": "kill", "nodes": ["redis-a"]}, 20, 30)
    facts = {"speed": 20, "deadline": 60, "client": {"patience": 1, "comeback": 2}}
    with history_of([*rows, hold], **facts) as history:
        low, high = error_budget.share_of(history, WRITES)
        assert low == 0
        assert high == pytest.approx(20 * 20 / (10 + 90 * 20))


@pytest.mark.parametrize("lag", [0.0, 5.0])
def test_a_budget_of_an_unfit_generator(lag: float) -> None:
    """What an unfit generator did is not the clients' budget."""
    with history_of([*outage(20, 26), *readings(0, 100, lag=lag)]) as history:
        verdict = error_budget.check(history, error_budget.Expectation("sessions", 0.05))
        assert verdict.result == ("unknown" if lag else "fail")


@pytest.mark.parametrize(("failed", "result"), [(0, "unknown"), (40, "unknown"), (60, "fail")])
def test_a_budget_of_operations_that_began_late(failed: int, result: str) -> None:
    """What began late although workers were idle does not fail a budget that holds without it."""
    late = load(20, 26, 0.1, late=1.5, took=0.001)
    errors = load(50, 50 + failed / 10, 0.1, "fail")
    rows: list[Row] = [*load(-900, 20, 0.1), *late, *load(26, 50, 0.1), *errors]
    rows += [*load(50 + failed / 10, 100, 0.1), *readings(-900, 100, idle=3)]
    with history_of(rows, baseline={"begin": -900.0, "end": 10.0}) as history:
        verdict = error_budget.check(history, error_budget.Expectation("sessions", 0.005))
        assert (verdict.low, verdict.result) == ((60 + failed) / 10_000, result)


@pytest.mark.parametrize("speed", [1, 30])
def test_the_profile_matters_at_a_speed(speed: float) -> None:
    """A call that took longer than declared makes the profile wrong, which speed 1 does not ask."""
    rows = [*outage(20, 26), *readings(0, 100), operation(90.05, took=0.9)]
    with history_of(rows, speed=speed, client={"patience": 0.5, "comeback": 1}) as history:
        budget = error_budget.check(history, error_budget.Expectation("sessions", 0.05))
        longest = unavailability.check(history, unavailability.Expectation("sessions", None, 4))
        for verdict in (budget, longest):
            assert verdict.result == ("fail" if speed == 1 else "unknown")
            assert ("profile is wrong" in verdict.reason) == (speed == 30)


@pytest.mark.parametrize(
    ("most", "cut", "whole"), [(0.05, "unknown", "fail"), (0.5, "pass", "pass")]
)
def test_budget_of_a_run_with_cuts(most: float, cut: str, whole: str) -> None:
    """What was cut was healthy, so that the share in the whole run is less."""
    rows = [*load(0, 40), *load(40, 60, outcome="fail"), *load(60, 100), *readings(0, 100)]
    budget = error_budget.Expectation("sessions", most)
    with history_of(rows) as history:
        assert error_budget.check(history, budget).result == whole
    with history_of(rows, cuts=[{"at": 90, "seconds": 600}]) as history:
        assert error_budget.check(history, budget).result == cut


@pytest.mark.parametrize(
    ("most", "at", "result"),
    [(0.02, None, "pass"), (0.02, 50, "unknown"), (0.02, 90, "pass"), (0.06, 50, "pass")],
)
def test_budget_of_what_was_cut(most: float, at: float | None, result: str) -> None:
    """What was a bit worse before a cut would have stayed so for all that was cut."""
    rows: list[Row] = [*load(0, 100), *readings(0, 100)]
    rows += [operation(30 + number, "fail") for number in range(20)]  # 5 % for 20 s, 1 % in all
    cuts = [] if at is None else [{"at": at, "seconds": 600}]
    with history_of(rows, cuts=cuts, client={"comeback": 2.3}) as history:
        budget = error_budget.Expectation("sessions", most)
        assert error_budget.check(history, budget).result == result


@pytest.mark.parametrize(("most", "result"), [(0.05, "unknown"), (0.5, "pass")])
def test_budget_of_a_run_that_was_cut_short(most: float, result: str) -> None:
    """What would have followed may have been good, so that the share is less."""
    rows = [*load(0, 80), *load(80, 100, outcome="fail"), *readings(0, 100)]
    with history_of(rows, interrupted="it was interrupted") as history:
        budget = error_budget.Expectation("sessions", most)
        assert error_budget.check(history, budget).result == result
