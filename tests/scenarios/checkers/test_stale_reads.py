"""Stale reads: less than what was acknowledged before they began."""

from typing import Any

import pytest

from cachesim.history.rows import FinalRead, Operation, Row
from cachesim.scenarios.checkers import stale_reads
from cachesim.scenarios.checkers.lags import offset_lags
from cachesim.scenarios.checkers.stale_reads import Expectation
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import (
    failover,
    history_of,
    kill,
    operation,
    samples,
    step,
    times,
)

RATE = 1000.0


def write(at: float, version: int, outcome: Any = "ok", **more: Any) -> Operation:
    """Return a write of a version, which takes 10 ms."""
    return operation(at, outcome, 0.01, node="redis-a", written=version, **more)


def read(at: float, version: int | None, node: str | None = "redis-b", **more: Any) -> Operation:
    """Return a read of a version."""
    return operation(at, kind="read", node=node, read=version, **more)


def cluster(lag: float = 0.0, *, reads: int = 100) -> list[Row]:
    """Return a primary, a replica that is behind by some seconds, and reads that are right."""
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)]), *samples("role", "redis-b", [(0, 0)])]
    rows += samples("offset", "redis-a", [(at, RATE * at) for at in times(0, 100, 0.1)])
    behind = [(at, RATE * max(at - lag, 0)) for at in times(0, 100, 0.1)]
    rows += samples("offset", "redis-b", behind)
    rows += [write(1, 1, key="other"), *(read(50, 1, key="other") for _ in range(reads))]
    return rows


def verdict_on(rows: list[Row], most: Any = "bound", **facts: Any) -> Verdict:
    """Return the verdict on a history."""
    with history_of(rows, **facts) as history:
        return stale_reads.check(history, Expectation(most))


TWO = [write(10, 1), write(20, 2)]
"""Two versions, acknowledged at 10.01 and 20.01."""
AGAIN = read(90, 2)
"""A read that is right."""


@pytest.mark.parametrize(
    ("rows", "age"),
    [
        ([read(30, 2)], None),
        ([read(30, 1)], 9.99),
        ([read(20.0105, 1)], None),  # within eps of the acknowledgement
        ([read(20.0115, 1)], 0.0015),
        ([read(20.005, 1)], None),  # before it
        ([read(30, 3)], None),  # newer than what is known
        ([read(5, None)], None),  # nothing was due
        ([read(15, None)], 4.99),
        ([read(30, None)], 19.99),  # older than both
        ([read(30, 1, outcome="info")], None),
        ([write(25, 3), read(30, 1)], 9.99),  # since the first version that is newer
        ([write(25, 3), read(30, 2)], 4.99),
        ([write(25, 3, "info"), read(30, 2)], None),
        ([write(25, 3, "fail"), read(30, 1)], 9.99),
        ([operation(25, kind="delete"), read(30, None)], None),
        ([operation(25, "info", kind="delete"), read(30, None)], None),
        ([operation(25, "fail", kind="delete"), read(30, None)], 19.99),
        ([operation(15, kind="delete"), read(30, None)], 19.99),  # before the write
        ([operation(35, kind="delete"), read(30, None)], 19.99),  # after the read
    ],
)
@pytest.mark.parametrize("again", [AGAIN, FinalRead("k", "redis-a", "primary", 99, "p0", 3)])
def test_stale(rows: list[Row], age: float | None, again: Row) -> None:
    """A stale read is older than the newest acknowledged version before it, by its age."""
    if any(isinstance(it, Operation) and it.written == 3 and it.outcome == "ok" for it in rows):
        again = FinalRead("k", "redis-a", "primary", 99, "p0", 3)
    with history_of([*TWO, *rows, again]) as history:
        found = stale_reads.stale_reads(history, "sessions")
        ages = [it.age for it in found.stale]
        assert ages == ([] if age is None else [pytest.approx(age)])
        assert found.lost == 0


@pytest.mark.parametrize(
    ("version", "took", "age"),
    [
        (3, 0.5, None),
        (2, 0.5, None),  # both were under way at once: either may have come last
        (2, 0.1, 9.0),  # it was there before the newer one began
        (1, 0.5, 9.0),
    ],
)
@pytest.mark.parametrize("has_newer", [False, True])
def test_several_writers(version: int, took: float, age: float | None, has_newer: bool) -> None:
    """What several pods store at once is there in any order; the next store ends that."""
    fields: Any = {"service": "api_cache", "node": "memcached-a"}
    rows: list[Row] = [
        operation(10, took=0.1, written=1, **fields),
        operation(20, took=took, written=2, **fields),
        operation(20.2, took=0.2, written=3, **fields),
        operation(29.4, kind="read", read=version, **fields),
    ]
    if has_newer:
        rows.append(operation(20.9, took=0.1, written=4, **fields))
        age = 8.4 if (version, took) in ((2, 0.5), (3, 0.5)) else age
    rows.append(operation(95, kind="read", read=4, **fields))
    with history_of(rows) as history:
        ages = [it.age for it in stale_reads.stale_reads(history, "api_cache").stale]
        assert ages == ([] if age is None else [pytest.approx(age)])


@pytest.mark.parametrize(
    ("ttl", "touch", "stale"),
    [(10.5, None, False), (11.5, None, True), (10.5, 25.0, True), (None, None, True)],
)
def test_what_expired_is_not_stale(ttl: float | None, touch: float | None, stale: bool) -> None:
    """A key that is absent because its TTL ended is not stale."""
    rows: list[Row] = [write(20, 2, ttl=ttl), read(30.1, None), AGAIN]
    if touch is not None:
        rows.append(operation(touch, kind="touch", ttl=10.5))
    with history_of(rows) as history:
        assert bool(stale_reads.stale_reads(history, "sessions").stale) == stale


@pytest.mark.parametrize(
    ("later", "lost"),
    [
        ([read(90, 2)], 0),
        ([read(90, 1)], 2),  # never right again
        ([FinalRead("k", "redis-a", "primary", 99, "p0", 1)], 1),
        ([FinalRead("k", "redis-a", "primary", 99, "p0", 2)], 0),
        ([FinalRead("k", "redis-a", "replica", 99, "p0", 1)], 0),
        ([FinalRead("k", "redis-a", "primary", 99, None, None)], 1),
        ([operation(95, kind="delete"), FinalRead("k", "redis-a", "primary", 99, None, None)], 0),
        ([operation(95, kind="delete"), read(98, None)], 0),
        ([write(20, 2, ttl=50), read(98, None)], 0),  # it has expired
        ([], 0),  # nothing tells
    ],
)
def test_never_right_again_is_lost(later: list[Row], lost: int) -> None:
    """A key that is never right again has lost a version: that is no staleness."""
    final = FinalRead("k", "redis-a", "primary", 99, "p0", 1)
    more = [final] if lost == 2 else []
    with history_of([*TWO, read(30, 1), *later, *more]) as history:
        found = stale_reads.stale_reads(history, "sessions")
        assert found.lost == lost
        assert len(found.stale) == (0 if lost else 1)


@pytest.mark.parametrize(("flushed", "stale"), [(15, 1), (25, 0), (35, 1)])
def test_what_a_step_has_deleted_is_not_stale(flushed: float, stale: int) -> None:
    """A key that a flush has deleted is not there, until it is written again."""
    flush = step({"fault": "flush", "nodes": ["redis-a"]}, flushed, 60, begin_confirmed=flushed + 1)
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)]), *TWO, read(30, None), flush]
    with history_of([*rows, write(80, 3), read(90, 3)]) as history:
        assert len(stale_reads.stale_reads(history, "sessions").stale) == stale


@pytest.mark.parametrize(("acknowledged", "lost"), [(49.95, 1), (30.0, 0)])
def test_what_a_promotion_lost_is_not_stale(acknowledged: float, lost: int) -> None:
    """What a killed primary acknowledged last, the new one does not have."""
    rows = [write(10, 1), write(acknowledged - 0.01, 2), read(70, 1), write(80, 3), read(90, 3)]
    offsets = samples("offset", "redis-a", [(at, RATE * at) for at in times(0, 50, 0.1)])
    offsets += samples(
        "offset", "redis-b", [(at, RATE * min(at, 49.9)) for at in times(0, 60, 0.1)]
    )
    with history_of([*rows, *offsets, kill(50, 90), *failover(50, 60)]) as history:
        assert stale_reads.stale_reads(history, "sessions").lost == lost


@pytest.mark.parametrize(("acknowledged", "age"), [(49.95, 0.04), (30.0, 40.05)])
def test_what_a_promotion_lost_does_not_age(acknowledged: float, age: float) -> None:
    """A version is old since the next one that the new primary has, be it one of its own."""
    rows = [write(10, 1), write(acknowledged - 0.01, 2), write(70, 3)._replace(node="redis-b")]
    rows += [read(70.05, 1, "redis-c"), read(90, 3)]
    offsets = samples("offset", "redis-a", [(at, RATE * at) for at in times(0, 50, 0.1)])
    offsets += samples(
        "offset", "redis-b", [(at, RATE * min(at, 49.9)) for at in times(0, 60, 0.1)]
    )
    with history_of([*rows, *offsets, kill(50, 90), *failover(50, 60)]) as history:
        [stale] = stale_reads.stale_reads(history, "sessions").stale
        assert stale.age == pytest.approx(age)


# --- against the bound ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "result"), [(2.0, "pass"), (2.09, "pass"), (2.35, "fail"), (5.0, "fail")]
)
def test_replicas_may_be_behind(age: float, result: str) -> None:
    """A replica's read may be as old as its offset was behind, and 100 ms."""
    rows = [*cluster(2.0), *TWO, read(20.01 + age, 1), AGAIN]
    assert verdict_on(rows).result == result


def test_the_primary_may_not() -> None:
    """The primary returns what it acknowledged."""
    rows = [*cluster(2.0), *TWO, read(20.1, 1, "redis-a"), AGAIN]
    verdict = verdict_on(rows)
    assert verdict.result == "fail"
    assert verdict.threshold == 0


def test_lags() -> None:
    """The lag is the time since the primary was last seen not to be ahead."""
    with history_of(cluster(2.0)) as history:
        at, lags = offset_lags(history)["redis-b"]
        number = at.index(50.0)
        assert lags[number] == pytest.approx(2.0, abs=0.11)
    with history_of(cluster(0.0)) as history:
        assert max(offset_lags(history)["redis-b"][1]) <= 0.11


@pytest.mark.parametrize("since", [0, 30_000])
def test_lags_after_the_offset_fell(since: float) -> None:
    """A primary whose offset is less than before, and a replica with the same, have no lag."""
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)])]
    for node in ("redis-a", "redis-b"):
        rows += samples("offset", node, [(at, RATE * at) for at in times(0, 50, 0.1)])
        rows += samples("offset", node, [(at, since + at - 55) for at in times(55, 100, 0.1)])
    with history_of(rows) as history:
        at, lags = offset_lags(history)["redis-b"]
        assert max(lag for when, lag in zip(at, lags, strict=True) if when != 55) <= 0.11


@pytest.mark.parametrize("restarts", [True, False])
def test_lags_of_who_has_received_nothing_since(restarts: bool) -> None:
    """A replica that is cut off from 30 to 60 is behind all the time, whoever restarts at 40."""
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)])]
    rows += samples("offset", "redis-a", [(at, RATE * at) for at in times(0, 40, 0.1)])
    rows += samples("offset", "redis-a", [(at, RATE * (at - 41)) for at in times(41, 80, 0.1)])
    rows += samples("offset", "redis-b", [(at, RATE * at) for at in times(0, 30, 0.1)])
    stays = 0.0 if restarts else RATE * 30
    rows += samples("offset", "redis-b", [(at, RATE * 30) for at in times(30, 40, 0.1)])
    rows += samples("offset", "redis-b", [(at, stays) for at in times(41, 60, 0.1)])
    rows += samples("offset", "redis-b", [(at, RATE * (at - 41)) for at in times(60, 80, 0.1)])
    with history_of(rows) as history:
        lags = dict(zip(*offset_lags(history)["redis-b"], strict=True))
        for when, lag in ((39.9, 10), (41.0, 11), (59.9, 30), (61.0, 0), (79.0, 0)):
            found = min(lags, key=lambda at: abs(at - when))
            assert lags[found] == pytest.approx(lag, abs=0.3)


def test_lags_of_who_is_seen_first() -> None:
    """A replica whose new process is read before the primary's is behind since it was even."""
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)])]
    rows += samples("offset", "redis-a", [(at, RATE * at) for at in times(0, 40, 0.1)])
    rows += samples("offset", "redis-b", [(at, RATE * at) for at in times(0, 39.9, 0.1)])
    rows += samples("offset", "redis-b", [(at, 0.0) for at in times(39.95, 60, 0.1)])
    rows += samples("offset", "redis-a", [(at, RATE * (at - 41)) for at in times(41, 80, 0.1)])
    with history_of(rows) as history:
        lags = dict(zip(*offset_lags(history)["redis-b"], strict=True))
        found = min(lags, key=lambda at: abs(at - 50))
        assert lags[found] == pytest.approx(10.1, abs=0.3)


@pytest.mark.parametrize(("most", "result"), [(9.0, "fail"), (11.0, "pass"), (9.9905, "unknown")])
def test_a_number(most: float, result: str) -> None:
    """With a number, the oldest read decides, wherever it was."""
    assert verdict_on([*cluster(), *TWO, read(30, 1), AGAIN], most).result == result


@pytest.mark.parametrize(
    ("fault", "most", "speed", "result"),
    [
        ({"fault": "partition", "a": "a", "b": "b"}, 60.0, 30, "unknown"),  # up to 5 min
        ({"fault": "partition", "a": "a", "b": "b"}, 400.0, 30, "pass"),
        ({"fault": "partition", "a": "a", "b": "b"}, 60.0, 1, "pass"),
        ({"fault": "partition", "a": "a", "b": "b"}, 9.0, 30, "fail"),
        ({"fault": "partition", "a": "a", "b": "b"}, 9.0, 0.5, "unknown"),  # from 5 s
        ({"fault": "replication-lag", "replicas": ["redis-b"], "seconds": 10}, 60.0, 30, "pass"),
        ({"fault": "kill", "nodes": ["memcached-a"]}, 60.0, 30, "pass"),
    ],
)
def test_a_number_at_a_speed(fault: Any, most: float, speed: float, result: str) -> None:
    """What is cut off gets older for as long as its fault lasts, which is longer in production."""
    rows = [*cluster(), *TWO, read(30, 1), AGAIN, step(fault, 19, 40)]
    assert verdict_on(rows, most, speed=speed).result == result


@pytest.mark.parametrize(("at", "result"), [(25.0, "unknown"), (50.0, "pass")])
def test_a_number_across_a_cut(at: float, result: str) -> None:
    """A hold that was cut would have made the value older."""
    rows = [*cluster(), *TWO, read(30, 1), AGAIN]
    assert verdict_on(rows, 60.0, cuts=[{"at": at, "seconds": 600.0}]).result == result


@pytest.mark.parametrize("node", ["memcached-a", None])
@pytest.mark.parametrize(("version", "result"), [(None, "pass"), (1, "fail")])
def test_a_miss_of_a_cache_is_not_stale(node: str | None, version: int | None, result: str) -> None:
    """What Memcached has may go at any time; an older version that it still has is stale."""
    writes = [it._replace(node="memcached-a") for it in TWO]
    rows: list[Row] = [*writes, read(30, version, node), read(90, 2, "memcached-a")]
    assert verdict_on(rows, 5.0).result == result


@pytest.mark.parametrize(
    ("reads", "result"),
    [
        ([(30, None)], "unknown"),
        ([(30, None), (90, 2)], "pass"),
        ([(30, None), (90, 1), (95, 2)], "fail"),
    ],
)
def test_a_users_own_code_may_tell_no_version(reads: list[Any], result: str) -> None:
    """Such a read may be a miss, of what had expired or was deleted, or tell nothing."""
    writes = [it._replace(node=None) for it in TWO]
    rows: list[Row] = [*writes, *(read(at, version, None) for at, version in reads)]
    assert verdict_on(rows, 5.0).result == result


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (cluster(reads=99), "99 reads went to replicas"),
        ([*TWO, *(read(50, None, "redis-a") for _ in range(3))], "does not report versions"),
        ([*cluster(), *TWO, read(20.02, 1, None), AGAIN], "offset is not known"),
        ([*cluster(), *TWO, read(20.02, 1, "redis-c"), AGAIN], "offset is not known"),
    ],
)
def test_unknown(rows: list[Row], why: str) -> None:
    """Too few reads of replicas, no versions, or no offsets decide nothing."""
    rows = [
        it
        for it in rows
        if not (why.startswith("does") and isinstance(it, Operation) and it.written)
    ]
    verdict = verdict_on(rows)
    assert verdict.result == "unknown"
    assert why in verdict.reason


def test_enough_reads() -> None:
    """A hundred reads of a replica that are right pass."""
    assert verdict_on(cluster()).result == "pass"


# --- a cache with a TTL ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "version", "result"),
    [
        (29.0, 1, "pass"),
        (31.0, 1, "pass"),  # 0.99 s after its TTL
        (31.1, 1, "fail"),
        (31.01, 1, "unknown"),  # within eps
        (31.1, 2, "pass"),  # of the write that came last
        (31.1, None, "unknown"),
        (31.1, 7, "unknown"),  # nobody wrote it
    ],
)
def test_ttl(at: float, version: int | None, result: str) -> None:
    """A value is not read later than a second after its TTL, since it was last written."""
    rows = [write(10, 2, ttl=20.0), write(10, 1, ttl=20.0), write(25, 2, ttl=20.0)]
    assert verdict_on([*rows, read(at, version)], "ttl").result == result


@pytest.mark.parametrize(
    ("touched", "outcome", "result"),
    [(25, "ok", "pass"), (25, "info", "pass"), (25, "fail", "fail"), (9, "ok", "fail")],
)
def test_ttl_after_a_touch(touched: float, outcome: Any, result: str) -> None:
    """A touch that may have come after the write prolongs its TTL."""
    touch = operation(touched, outcome, 0.01, kind="touch", ttl=20.0)
    rows: list[Row] = [write(10, 1, ttl=20.0), touch, read(40, 1)]
    assert verdict_on(rows, "ttl").result == result


@pytest.mark.parametrize(("at", "result"), [(31.0, "unknown"), (31.1, "fail")])
def test_ttl_across_a_cut(at: float, result: str) -> None:
    """In a hold that was cut TTLs would have ended."""
    rows: list[Row] = [write(10, 1, ttl=20.0), read(at, 1)]
    assert verdict_on(rows, "ttl", cuts=[{"at": 50.0, "seconds": 600.0}]).result == result
