"""Keys that are asked of another node: by consistent hashing, and by a remainder."""

from collections.abc import Callable
from typing import Any

import pytest

from cachesim.history.rows import Operation
from cachesim.scenarios.checkers import remap
from cachesim.scenarios.checkers.remap import Expectation, around
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import beats, history_of, operation, readings, step

NODES = ("memcached-a", "memcached-b", "memcached-c")
KEYS = 600


def reads(begin: float, node_of: Callable[[int], str | None], keys: int = KEYS) -> list[Operation]:
    """Return a read of each key."""
    return [
        operation(
            begin + number / 100,
            kind="read",
            service="api_cache",
            key=f"api:{number}",
            node=node_of(number),
        )
        for number in range(keys)
    ]


def home(number: int) -> str:
    """Return a key's node while all are there."""
    return NODES[number % 3]


def consistent(number: int) -> str:
    """Return a key's node without memcached-c: only that one's keys move."""
    return home(number) if number % 3 < 2 else NODES[number // 3 % 2]


def remainder(number: int) -> str:
    """Return a key's node without memcached-c, for a client that takes the remainder by two."""
    return NODES[number % 2]


def verdict_on(
    later: Callable[[int], str | None],
    most: float = 0.05,
    keys: int = KEYS,
    lag: float = 0.0,
    **facts: Any,
) -> Verdict:
    """Return the verdict on a run in which memcached-c was killed.

    Args:
        lag: how late the generator's thread wakes after the baseline, in seconds.
    """
    kill = step({"fault": "kill", "nodes": ["memcached-c"]}, 20, 60)
    rows = [*beats(0, 100, nodes=NODES), kill, *reads(1, home, keys), *reads(30, later, keys)]
    rows += [*readings(0, 20), *readings(20, 100, lag=lag)]
    with history_of(rows, **facts) as history:
        return remap.check(history, Expectation("api_cache", most))


@pytest.mark.parametrize(("later", "result"), [(remainder, "unknown"), (consistent, "pass")])
def test_a_machine_that_is_too_busy(later: Callable[[int], str | None], result: str) -> None:
    """There clients give up nodes that have no fault, which is not their hashing."""
    verdict = verdict_on(later, lag=0.6)
    assert verdict.result == result
    assert ("generator" in verdict.reason) == (result == "unknown")


def test_consistent_hashing() -> None:
    """The lost node's keys have to move, and are counted apart."""
    verdict = verdict_on(consistent)
    assert (verdict.result, verdict.low, verdict.high) == ("pass", 0, 0)
    assert verdict.details == {
        "keys": 400,
        "moved": 0,
        "keys_of_touched_nodes": 200,
        "moved_of_touched_nodes": 200,
    }


@pytest.mark.parametrize(
    ("most", "result"), [(0.44, "fail"), (0.46, "unknown"), (0.54, "unknown"), (0.56, "pass")]
)
def test_remainder(most: float, result: str) -> None:
    """A client that takes the remainder moves half of the keys of the nodes that stay."""
    verdict = verdict_on(remainder, most)
    assert verdict.result == result
    assert (verdict.low, verdict.high) == pytest.approx((0.45, 0.55))


def test_a_key_that_moved_and_came_back() -> None:
    """A key that was asked of another node once has moved."""
    kill = step({"fault": "kill", "nodes": ["memcached-c"]}, 20, 60)
    rows = [*reads(1, home), *reads(30, remainder), *reads(60, home), *readings(0, 100)]
    with history_of([*beats(0, 100, nodes=NODES), kill, *rows]) as history:
        assert remap.check(history, Expectation("api_cache", 0.05)).result == "fail"


def test_few_keys() -> None:
    """Below 300 keys nothing is said."""
    verdict = verdict_on(consistent, keys=447)
    assert (verdict.result, verdict.details["keys"]) == ("unknown", 298)
    assert "300 are needed" in verdict.reason
    assert verdict_on(consistent, keys=450).result == "pass"


def test_keys_that_were_not_asked_for_again() -> None:
    """A key that was asked for in the baseline alone tells nothing."""
    rows = [*beats(0, 100, nodes=NODES), *reads(1, home), *reads(30, home, 299)]
    with history_of(rows) as history:
        verdict = remap.check(history, Expectation("api_cache", 0.05))
    assert (verdict.result, verdict.details["keys"]) == ("unknown", 299)


def test_nodes_that_are_not_known() -> None:
    """Without the nodes in the baseline nothing is said."""
    with history_of([*reads(1, lambda _: None), *reads(30, home)]) as history:
        verdict = remap.check(history, Expectation("api_cache", 0.05))
    assert (verdict.result, verdict.reason) == (
        "unknown",
        "the nodes that were asked are not known",
    )


def test_reads_that_are_spread() -> None:
    """Keys that have several nodes in the baseline, as with replicas, have none of theirs."""
    rows = [*reads(0, home), *reads(1, remainder), *reads(30, home)]
    with history_of(rows) as history:
        verdict = remap.check(history, Expectation("api_cache", 0.05))
    assert verdict.result == "unknown"
    assert "several nodes in the baseline" in verdict.reason


@pytest.mark.parametrize(("keys", "result"), [(3, "pass"), (100, "unknown")])
def test_reads_that_are_hardly_spread(keys: int, result: str) -> None:
    """A few keys that moved in the baseline, as after an error, do not matter."""
    rows = [*reads(0, home), *reads(1, remainder, keys), *reads(30, home)]
    with history_of([*beats(0, 100, nodes=NODES), *rows, *readings(0, 100)]) as history:
        assert remap.check(history, Expectation("api_cache", 0.05)).result == result


def test_without_a_baseline() -> None:
    """Without a baseline nothing is said."""
    assert verdict_on(consistent, baseline=None).result == "unknown"


def test_interval() -> None:
    """The interval is two standard deviations less and more, within 0 and 1."""
    assert around(50, 100) == pytest.approx((0.4, 0.6))
    assert around(0, 100) == (0, 0)
    assert around(1, 100)[0] == 0
