"""Verdicts: on a figure, on a run, and what becomes of expectations."""

import json
from typing import Any

import pytest

from cachesim.history.reader import History
from cachesim.history.rows import Beat, Row
from cachesim.scenarios.checkers import error_budget, judge, recovery, stale_reads, unavailability
from cachesim.scenarios.checkers.expectations import CHECKERS, check, read
from cachesim.scenarios.verdict import Result, Verdict, against, combine
from tests.scenarios.histories import beats, history_of, kill, load, readings

PASS, FAIL, UNKNOWN = (Verdict(str(it), it, reason="so") for it in Result)


@pytest.mark.parametrize(
    ("low", "high", "result"),
    [(1, 2, "pass"), (1, 3, "pass"), (2, 4, "unknown"), (3, 4, "unknown"), (3.1, 4, "fail")],
)
def test_against(low: float, high: float, result: str) -> None:
    """A threshold of 3 inside an interval is unknown."""
    assert against("x", low, high, "s", 3).result == result


@pytest.mark.parametrize(
    ("baseline", "verdicts", "interrupted", "result"),
    [
        (PASS, [PASS, PASS], None, "pass"),
        (PASS, [], None, "unknown"),
        (PASS, [PASS, FAIL, UNKNOWN], None, "fail"),
        (PASS, [PASS, UNKNOWN], None, "unknown"),
        (PASS, [PASS], "Ctrl-C", "unknown"),
        (PASS, [FAIL], "Ctrl-C", "fail"),
        (UNKNOWN, [FAIL], None, "unknown"),
        (UNKNOWN, [PASS], None, "unknown"),
    ],
)
def test_combine(
    baseline: Verdict, verdicts: list[Verdict], interrupted: str | None, result: str
) -> None:
    """Fail before unknown before pass; without a steady baseline, or cut short, no pass."""
    assert combine([baseline, PASS], verdicts, interrupted).result == result


@pytest.mark.parametrize(("gate", "result"), [(PASS, "pass"), (UNKNOWN, "unknown")])
def test_gates(gate: Verdict, result: str) -> None:
    """A gate that is not sure leaves the run unknown, unless a checker fails."""
    assert combine([PASS, gate], [PASS]).result == result
    assert combine([PASS, gate], [FAIL]).result == "fail"


def test_as_json() -> None:
    """Infinite figures are null in JSON, which has none."""
    infinite = float("inf")
    verdict = Verdict("x", Result.FAIL, 1.5, infinite, "s", 1, "", {"a": [infinite, 2, {"b": 3}]})
    data = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert data["high"] is None
    assert data["unbounded"]
    assert data["details"] == {"a": [None, 2, {"b": 3}]}
    assert (data["result"], data["low"], data["threshold"]) == ("fail", 1.5, 1)
    assert not PASS.as_dict()["unbounded"]


EXPECT: dict[str, Any] = {
    "lost_writes": {"max": "bound"},
    "split_brain": {"max": 3},
    "recovery": {"within": 60},
    "connection_storm": {"max": 1000},
    "stale_reads": {"sessions": {"max": 2.5}, "api_cache": {"max": "ttl"}},
    "unavailability": {"sessions.write": {"longest": 35}, "api_cache": {"longest": 5, "total": 9}},
    "error_budget": {"sessions": {"max": 0.01}},
    "remap": {"api_cache": {"max": 0.05}},
    "hit_rate": {"api_cache": {"min": 0.8}},
    "alarms": {"redis-memory-high": {"within": 600}},
    "herd": {"same_key": 3},
}


def test_read() -> None:
    """Every checker has its expectation, services and kinds included."""
    found = list(read(EXPECT))
    assert {type(it) for it in found} == CHECKERS.keys()
    assert unavailability.Expectation("sessions", "write", 35) in found
    assert unavailability.Expectation("api_cache", None, 5, 9) in found
    assert error_budget.Expectation("sessions", 0.01) in found
    assert stale_reads.Expectation("ttl", "api_cache") in found
    names = [it.name for it in found]
    assert len(set(names)) == len(names)
    assert "unavailability: sessions.write" in names


@pytest.mark.parametrize(
    ("expect", "error"),
    [
        ({"recoveri": {"within": 1}}, ValueError),
        ({"unavailability": {"sessions.writes": {"longest": 1}}}, ValueError),
        ({"recovery": {"longest": 1}}, TypeError),
    ],
)
def test_read_refuses(expect: dict[str, Any], error: type[Exception]) -> None:
    """What no checker has is refused."""
    with pytest.raises(error):
        list(read(expect))


def test_every_checker_takes_an_empty_history() -> None:
    """A history without anything is no crash, and passes nothing that needs evidence."""
    with history_of([], end_at=None, baseline=None) as history:
        for it in read(EXPECT):
            verdict = check(history, it)
            assert verdict.name == it.name
            assert verdict.result == ("pass" if it.name == "split_brain" else "unknown")
        assert judge(history, read(EXPECT)).run.result == "unknown"


def good_run() -> list[Row]:
    """Return a run in which a node dies that nobody misses."""
    rows: list[Row] = [*load(0, 100, node="redis-a"), *readings(0, 100), kill(40, 50, "redis-c")]
    rows += load(0, 100, kind="read", node="redis-c")
    rows += beats(0, 100, nodes=["redis-a", "redis-b"])
    rows += [*beats(0, 40, nodes=["redis-c"]), *beats(40, 50, nodes=["redis-c"], ok=False)]
    return [*rows, *beats(50, 100, nodes=["redis-c"])]


ASKED: list[Any] = [unavailability.Expectation("sessions", "write", 5), recovery.Expectation(10)]


def test_judge() -> None:
    """A run that is steady, whose fault was there, and that does as expected, passes."""
    with history_of(good_run(), heal_at=50.0) as history:
        judgement = judge(history, ASKED)
        assert [it.name for it in judgement.gates] == ["baseline", "generator", "faults"]
        assert [it.name for it in judgement.verdicts] == [it.name for it in ASKED]
        assert judgement.run.result == "pass", judgement
        assert json.loads(json.dumps(judgement.as_dict()))["run"]["result"] == "pass"


@pytest.mark.parametrize(
    ("facts", "left_out", "result"),
    [
        ({"interrupted": "Ctrl-C"}, "", "unknown"),
        ({"baseline": {"begin": 0.0, "end": 4.0}}, "", "unknown"),
        ({}, "lag", "unknown"),  # nobody looked at the generator
        ({}, "ok", "unknown"),  # no beats: recovery can't be told
    ],
)
def test_judge_is_not_sure(facts: dict[str, Any], left_out: str, result: str) -> None:
    """Each gate can make a run unknown."""
    rows = [it for it in good_run() if not (left_out and hasattr(it, left_out))]
    with history_of(rows, **({"heal_at": 50.0} | facts)) as history:
        assert judge(history, ASKED).run.result == result


def test_a_fault_that_was_not_there() -> None:
    """If what injects did nothing, the run is unknown though nothing went wrong."""
    rows = [it for it in good_run() if not (isinstance(it, Beat) and it.node == "redis-c")]
    with history_of([*rows, *beats(0, 100, nodes=["redis-c"])], heal_at=50.0) as history:
        judgement = judge(history, ASKED)
        assert judgement.run.result == "unknown"
        assert "not seen" in judgement.run.reason


def test_a_checker_that_crashes_is_unknown() -> None:
    """A checker of the user is one of them, and no crash passes."""

    def careful(history: History) -> Verdict:
        return Verdict("mine", Result.PASS, reason=str(history.speed))

    def crash(history: History) -> Verdict:
        raise RuntimeError(f"speed {history.speed}")

    with history_of(good_run(), heal_at=50.0) as history:
        assert judge(history, ASKED, others=[careful]).run.result == "pass"
        judgement = judge(history, ASKED, others=[crash, careful])
        assert [it.result for it in judgement.verdicts[2:]] == ["unknown", "pass"]
        assert "RuntimeError: speed 1" in judgement.run.reason


@pytest.mark.parametrize(
    ("returned", "result"),
    [
        (Verdict("mine", "fail"), "fail"),  # type: ignore[arg-type]
        (Verdict("mine", "pass"), "pass"),  # type: ignore[arg-type]
        (Verdict("mine", "passed"), "unknown"),  # type: ignore[arg-type]
        (Verdict("mine", Result.PASS, low=float("nan")), "unknown"),
        (Verdict("mine", Result.PASS, details={"keys": {1, 2}}), "unknown"),
        (True, "unknown"),
        (None, "unknown"),
    ],
)
def test_what_a_users_checker_returns(returned: Any, result: str) -> None:
    """A result may be a plain text; what is no verdict is unknown, and no crash of the others."""
    with history_of(good_run(), heal_at=50.0) as history:
        judgement = judge(history, ASKED, others=[lambda _: returned])
        assert judgement.run.result == result
        assert judgement.verdicts[-1].result is Result(result)
