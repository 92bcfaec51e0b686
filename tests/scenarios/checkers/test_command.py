"""The verdict on a user's command, by its exit code."""

from typing import Any

import pytest

from cachesim.scenarios.checkers import judge
from cachesim.scenarios.checkers.command import check
from cachesim.scenarios.checkers.faults_seen import problem_of
from tests.scenarios.histories import beats, history_of, load, step


@pytest.mark.parametrize(
    ("code", "speed", "reports", "result"),
    [
        (0, 1, False, "pass"),
        (0, 30, False, "unknown"),
        (0, 30, True, "pass"),
        (1, 1, True, "fail"),
        (1, 30, False, "fail"),
        (-9, 1, True, "fail"),
    ],
)
def test_exit_code(code: int, speed: float, reports: bool, result: str) -> None:
    """Another code than 0 fails; a pass at a speed needs operations that were tried."""
    with history_of(load(0, 10) if reports else [], command_code=code, speed=speed) as history:
        assert check(history).result == result


def test_a_silent_command_and_a_fault() -> None:
    """Whether a command that reports nothing met a fault is not asked."""
    at: dict[str, Any] = {"begin_confirmed": 20.1, "end_confirmed": 30.1}
    it = step({"fault": "kill", "nodes": ["redis-a"]}, 20, 30, **at)
    rows = [*beats(0, 20), *beats(20, 30, ok=False), *beats(30, 100)]
    with history_of([*rows, it], command_code=0) as history:
        assert problem_of(history, it) == ""
    with history_of([*rows, it]) as history:
        assert "0 operations" in problem_of(history, it)


@pytest.mark.parametrize(("ended_at", "problem"), [(5, "the command had ended"), (25, "")])
def test_a_silent_command_that_ends_early(ended_at: float, problem: str) -> None:
    """A fault that began after the end of the command has not tried it."""
    at: dict[str, Any] = {"begin_confirmed": 20.1, "end_confirmed": 30.1}
    it = step({"fault": "kill", "nodes": ["redis-a"]}, 20, 30, **at)
    rows = [*beats(0, 20), *beats(20, 30, ok=False), *beats(30, 100), it]
    with history_of(rows, command_code=0, command_ended_at=ended_at) as history:
        found = problem_of(history, it)
        assert found.startswith(problem)
        assert bool(found) == bool(problem)


@pytest.mark.parametrize(("code", "result"), [(1, "fail"), (0, "unknown"), (None, "unknown")])
def test_of_a_run(code: int | None, result: str) -> None:
    """A command that fails fails the run, although no operation tells of a baseline."""
    facts: dict[str, Any] = {"command_code": code, "speed": 1}
    with history_of([], **facts) as history:
        judgement = judge(history, [])
        assert judgement.run.result == result
        assert [it.name for it in judgement.verdicts] == ([] if code is None else ["command"])
