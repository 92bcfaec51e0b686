"""Herds: many loads of one key at once, many loads, and loads that the origin refuses."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesim.history.rows import ORIGIN, Operation, Outcome
from cachesim.scenarios.checkers import herd
from cachesim.scenarios.checkers.herd import Expectation, loads_of
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import failover, history_of, load, operation, readings


def of(
    key: str, at: float, took: float | None = 0.05, outcome: Outcome = "ok", **more: Any
) -> Operation:
    """Return a load of the origin."""
    return operation(at, outcome, took, kind="read", service=ORIGIN, key=key, **more)


CALM = [of(f"k{number}", 1 + number * 0.5) for number in range(16)]
HERD = [of("hot", 20 + number * 0.01) for number in range(4)]


def verdict_on(rows: list[Operation], expected: Expectation, **facts: Any) -> Verdict:
    """Return the verdict on a run with these loads after the baseline."""
    every = [*load(0, 100), *readings(0, 100), *CALM, *rows]
    with history_of(every, **facts) as history:
        return herd.check(history, expected)


@pytest.mark.parametrize(("most", "result"), [(3, "fail"), (4, "pass")])
def test_hot_herd(most: int, result: str) -> None:
    """Loads of one key that are under way at once are a herd; of several keys they are none."""
    others = [of(f"k{number}", 20) for number in range(30)]
    verdict = verdict_on([*HERD, *others], Expectation(same_key=most))
    assert (verdict.result, verdict.low, verdict.high) == (result, 4, 4)
    assert verdict.unit == "loads at once"
    assert "4 loads at once of hot" in verdict.reason
    assert verdict.details["baseline"]["same_key"] == 1


def test_one_after_the_other() -> None:
    """A load that begins when the one before ends is not under way with it."""
    rows = [of("hot", 20), of("hot", 20.05), of("hot", 20.1)]
    assert verdict_on(rows, Expectation(same_key=1)).result == "pass"


def test_a_load_that_never_ended() -> None:
    """A load that never ended is under way up to the run's end."""
    rows = [of("hot", 20, None, "info"), of("hot", 90)]
    assert verdict_on(rows, Expectation(same_key=1)).result == "fail"


@pytest.mark.parametrize(("most", "result"), [(10, "pass"), (9, "fail")])
def test_peak(most: float, result: str) -> None:
    """The most that begin within a second count, of all keys, and those refused too."""
    rows = [of(f"k{number}", 20.5 + number * 0.1, outcome="fail") for number in range(5)]
    rows += [of(f"k{number}", 21 + number * 0.1) for number in range(20)]
    verdict = verdict_on(rows, Expectation(loads=most))
    assert verdict.low == 10  # those at 20.5 to 20.9 with 21.0 to 21.4, or any ten later
    assert verdict.result == result


@pytest.mark.parametrize(("most", "result"), [(2, "fail"), (3, "pass")])
def test_refused(most: int, result: str) -> None:
    """Loads beyond the origin's capacity are refused, and are not under way."""
    rows = [of("hot", 20 + number, outcome="fail", error="OriginOverloaded") for number in range(3)]
    verdict = verdict_on(rows, Expectation(same_key=1, refused=most))
    assert verdict.result == result


def test_the_baseline_does_not_count() -> None:
    """Loads of the baseline are told, not judged."""
    early = [of("hot", 5 + number * 0.01) for number in range(4)]
    verdict = verdict_on([*early, of("k", 20)], Expectation(same_key=1))
    assert verdict.result == "pass"
    assert verdict.details["baseline"]["same_key"] == 4


def test_no_loads() -> None:
    """Without a load there is nothing to judge."""
    assert verdict_on([], Expectation(same_key=1)).result == "unknown"


def test_loads_without_a_latency() -> None:
    """Loads that take no time can't be under way at once."""
    rows = [of("hot", 20 + number, 0.0001) for number in range(4)]
    verdict = verdict_on(rows, Expectation(same_key=1))
    assert (verdict.result, "take no time" in verdict.reason) == ("unknown", True)
    assert verdict_on(rows, Expectation(loads=100)).result == "pass"


def test_at_a_speed() -> None:
    """Where windows were compressed, herds are not those of production, for good or ill."""
    fail = failover(20, 21, speed=20)
    rows: list[Any] = [*load(0, 100), *readings(0, 100), *CALM, *HERD, *fail]
    for most in (1, 100):
        with history_of(rows, speed=20) as history:
            verdict = herd.check(history, Expectation(same_key=most))
        assert (verdict.result, verdict.low) == ("unknown", 4)
        assert "--speed 1 settles it" in verdict.reason


@pytest.mark.parametrize(("most", "result"), [(100, "unknown"), (1, "fail")])
def test_across_a_cut(most: int, result: str) -> None:
    """In a hold that was cut more answers would have expired, and all be loaded after it."""
    cuts = [{"at": 40.0, "seconds": 600.0}]
    verdict = verdict_on(HERD, Expectation(same_key=most), cuts=cuts)
    assert (verdict.result, verdict.low) == (result, 4)


def test_an_unfit_generator() -> None:
    """Of a generator that nobody watched nothing is said."""
    with history_of([*load(0, 100), *HERD]) as history:
        verdict = herd.check(history, Expectation(same_key=1))
    assert verdict.result == "unknown"
    assert "generator" in verdict.reason


def test_nothing_expected() -> None:
    """Without an expectation it is measured."""
    assert verdict_on(HERD, Expectation()).result == "pass"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.integers(0, 300), st.integers(1, 50), st.booleans()
        ),
        min_size=1,
        max_size=40,
    )
)
def test_against_an_oracle(drawn: list[tuple[str, int, int, bool]]) -> None:
    """The figures are those of counting at every moment."""
    rows = [of(key, at / 64, took / 64, "ok" if ok else "fail") for key, at, took, ok in drawn]
    with history_of(rows, end_at=20.0) as history:
        found = loads_of(history, 0.0, 20.0)
    served = [(key, at, at + took) for key, at, took, ok in drawn if ok]
    at_once = [
        sum(begin <= at < end for other, begin, end in served if other == key)
        for key, at, _ in served
    ]
    begins = [at for _, at, _, _ in drawn]
    peaks = [sum(at - 64 < other <= at for other in begins) for at in begins]
    assert found.same_key == max(at_once, default=0)
    assert found.peak == max(peaks)
    assert found.refused == sum(not ok for *_, ok in drawn)
    assert found.count == len(drawn)
