"""What verdicts mean, in sentences."""

from typing import Any

import pytest

from cachesim.scenarios.checkers import expectations
from cachesim.scenarios.report.meanings import fails_otherwise, finding
from cachesim.scenarios.verdict import Result, Verdict, against, unknown
from tests.scenarios.histories import history_of

INFINITE = float("inf")


def meaning(verdict: Verdict, **facts: Any) -> str:
    """What a verdict means."""
    with history_of([], **facts) as history:
        return finding(history, verdict).meaning


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            against("unavailability: sessions.write", 19, 21, "s", 20),
            (
                "Operations of sessions.write were not served for 19 to 21 s: they failed, or had "
                "no answer 1 s after they were due. Not decided: the threshold lies inside the "
                "interval."
            ),
        ),
        (
            against("unavailability: sessions", 30, 31, "s", 60, details={"limit": "total"}),
            (
                "Operations of sessions were not served for 30 to 31 s altogether: they failed, or "
                "had no answer 1 s after they were due. That is within the 60 s allowed."
            ),
        ),
        (
            against("unavailability: sessions", 0, 0, "s", 20),
            (
                "Every operation of sessions was answered in time, or failed alone. That is within "
                "the 20 s allowed."
            ),
        ),
        (
            against("error_budget: sessions", 0.02, 0.03, "share", 0.01),
            "2 to 3 % of the operations of sessions were bad. Allowed: 1 %.",
        ),
        (
            against("recovery", 30, INFINITE, "s", 60, details={"control_plane": [2, 3]}),
            (
                "2 to 3 s after the last heal all nodes answered. The clients had not come back "
                "when the run ended. Not decided: the threshold lies inside the interval."
            ),
        ),
        (
            against(
                "recovery", 7, 8, "s", 60, details={"control_plane": [2, 3], "clients": [5, 5]}
            ),
            (
                "2 to 3 s after the last heal all nodes answered, and 5 s later all pods were as "
                "before. That is within the 60 s allowed."
            ),
        ),
        (
            against("split_brain", 3, 5, "writes", 0),
            "3 to 5 writes were acknowledged by a former primary. None is allowed.",
        ),
        (
            against("herd", 5, 5, "loads at once", 2, details={"same_key": 5, "peak": 80}),
            (
                "At most 5 loads of one key were under way at once, 80 began within a second (0 "
                "before the first fault), and 0 loads were refused. Allowed: 2 loads at once."
            ),
        ),
        (
            against("stale_reads: sessions", 0, 0, "s", 5, details={"lost": 3}),
            (
                "No read of sessions returned less than what was acknowledged before it, but for "
                "what was lost. That is within the 5 s allowed."
            ),
        ),
        (
            against("stale_reads: api_cache", 0, 0, "s", 1, details={"over_ttl": -3.0}),
            "No value of api_cache was read after its TTL. That is within the 1 s allowed.",
        ),
        (
            against("stale_reads: api_cache", 3, 3, "s", 1, details={"over_ttl": 3.0}),
            "A value of api_cache was read 3 s after its TTL. Allowed: 1 s.",
        ),
        (unknown("remap", "nobody told the nodes"), "Not decided: nobody told the nodes."),
        (unknown("my own", "it has no data"), "Not decided: it has no data."),
    ],
    ids=lambda it: it.name if isinstance(it, Verdict) else "",
)
def test_meaning(verdict: Verdict, text: str) -> None:
    """A verdict says what was measured, and what that is against what is allowed."""
    assert meaning(verdict) == text


def test_lost_writes() -> None:
    """Lost writes are told with what this run's failovers may cost."""
    window = {"what": "failover from redis-a to redis-b", "bound": 40, "lost_ledger_writes": 38}
    details = {"acknowledged": 900, "windows": [window]}
    verdict = against("lost_writes", 120, 120, "writes", 200, details=details)
    assert meaning(verdict) == (
        "Of the last 900 acknowledged writes of their keys, 120 writes are gone; the failover from "
        "redis-a to redis-b may cost 40 of the ledger's, and 38 of them are gone. That is within "
        "the 200 writes allowed."
    )


@pytest.mark.parametrize(("threshold", "low"), [(None, 3), (5, 3)])
def test_a_fail_that_its_figure_does_not_tell(threshold: float | None, low: float) -> None:
    """Three writes of five that may be lost: the reason says why that fails."""
    reason = "3 acknowledged writes were lost that no failure explains"
    shape: dict[str, Any] = {"low": low, "high": low, "unit": "writes", "threshold": threshold}
    verdict = Verdict("lost_writes", Result.FAIL, reason=reason, **shape)
    with history_of([]) as history:
        found = finding(history, verdict)
    assert found.meaning.endswith(f"3 writes are gone. {reason}.")
    assert fails_otherwise(found)
    assert not fails_otherwise(against("lost_writes", 6, 6, "writes", 5))
    assert not fails_otherwise(against("recovery", 70, INFINITE, "s", 60))


def test_every_checker() -> None:
    """Each checker has a title and a meaning, also without details."""
    names = {*expectations.OF_THE_RUN, *expectations.OF_A_SERVICE, *expectations.OF_CLASSES}
    with history_of([]) as history:
        for name in names:
            told = finding(history, against(f"{name}: sessions", 1, 2, "s", 3))
            assert "_" not in told.title
            assert told.meaning.endswith("allowed.")
