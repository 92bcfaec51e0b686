"""Lost writes: which are lost, and how many a failure may cost."""

from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesim.history.rows import EventRow, FinalRead, Operation, Row, Sample, Step
from cachesim.scenarios.checkers import lost_writes
from cachesim.scenarios.checkers.lost_writes import Expectation, losses_of
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import (
    beats,
    failover,
    history_of,
    kill,
    operation,
    samples,
    step,
    times,
)

LONG = 604800.0
FINAL_AT = 100.0


def final(key: str, version: int | None, role: Any = "primary") -> FinalRead:
    """Return what a node has under a key in the end."""
    return FinalRead(key, "redis-b", role, FINAL_AT, None if version is None else "p0", version)


def write(key: str, version: int, at: float, outcome: Any = "ok", **more: Any) -> Operation:
    """Return a write of a version."""
    fields: dict[str, Any] = {"node": "redis-a", "writer": "p0", "ttl": LONG} | more
    return operation(at, outcome, key=key, written=version, **fields)


# --- which writes are lost, against all that may have happened ------------------------------------


class Change(NamedTuple):
    """A change of a key, and whether it certainly, possibly or never took effect."""

    kind: str
    outcome: str
    short: bool


CHANGES = st.builds(
    Change,
    st.sampled_from(["write", "write", "delete", "touch"]),
    st.sampled_from(["ok", "ok", "info", "fail", "shed", "unacked"]),
    st.booleans(),
)
State = tuple[int | None, float]
"""The version under a key, and when it expires."""


def worlds(rows: Iterable[Operation]) -> set[int | None]:
    """Return what may be under a key in the end, if nothing is lost."""
    found = set()
    uncertain = [it for it in rows if it.outcome in ("info", "unacked")]
    for applied in product([True, False], repeat=len(uncertain)):
        version, expires = None, 0.0
        chosen = {id(it) for it, is_applied in zip(uncertain, applied, strict=True) if is_applied}
        for it in rows:
            if it.outcome != "ok" and id(it) not in chosen:
                continue
            ttl = it.ttl or 0.0
            if it.kind == "write":
                version, expires = it.written, it.start + ttl
            elif it.kind == "delete":
                version = None
            elif version is not None and it.start < expires:
                expires = it.start + ttl
        found.add(version if expires > FINAL_AT else None)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(CHANGES, max_size=6), st.integers(0, 7)), max_size=6))
def test_lost_is_what_no_world_explains(keys: list[tuple[list[Change], int]]) -> None:
    """A key has lost a write if nothing that may have happened explains what it has in the end."""
    rows: list[Row] = []
    expected = set()
    for number, (changes, chosen) in enumerate(keys):
        key, version, made = f"k{number}", 0, []
        for at, change in enumerate(changes, 20):
            version += change.kind == "write"
            ttl = None if change.kind == "delete" else 5.0 if change.short else LONG
            made.append(
                operation(
                    float(at),
                    change.outcome,  # type: ignore[arg-type]
                    0.5,
                    kind=change.kind,  # type: ignore[arg-type]
                    key=key,
                    ttl=ttl,
                    written=version if change.kind == "write" else None,
                )
            )
        sure = [it for it in made if it.kind == "write" and it.outcome == "ok"]
        options = [None, *(it.written for it in made if it.kind == "write")]
        seen = options[chosen % len(options)]
        rows += [*made, final(key, seen), final(key, None, "replica")]
        # What was deleted after its last acknowledged write is not judged, and what is there, also
        # beyond its TTL, is not lost.
        if sure:
            later = made[made.index(sure[-1]) + 1 :]
            deleted = any(
                it.kind == "delete" and it.outcome in ("ok", "info", "unacked") for it in later
            )
            there = seen is not None and seen >= (sure[-1].written or 0)
            if not deleted and not there and seen not in worlds(made):
                expected.add(key)
    with history_of(rows) as history:
        assert {it.key for it in losses_of(history, "sessions").lost} == expected


@pytest.mark.parametrize(("seen", "unacked"), [(2, 0), (3, 1)])
def test_unacked_but_applied(seen: int, unacked: int) -> None:
    """A later write without an answer that is there is shown, and is no loss."""
    rows = [write("k", 1, 20), write("k", 2, 30), write("k", 3, 40, "info"), final("k", seen)]
    with history_of(rows) as history:
        found = losses_of(history, "sessions")
        assert found.lost == []
        assert found.unacked_but_applied == unacked


@pytest.mark.parametrize(
    ("touch", "outcome", "lost", "undecided"),
    [
        (None, "ok", 0, 0),  # expired at 60
        (59.0, "ok", 1, 0),  # extended to 109
        (59.0, "info", 0, 1),  # perhaps extended
        (59.0, "fail", 0, 0),
        (45.0, "ok", 0, 0),  # extended to 95
        (45.0, "info", 0, 0),
    ],
)
def test_expiry(touch: float | None, outcome: Any, lost: int, undecided: int) -> None:
    """A key whose TTL ended is not lost; one that a touch may have extended is undecided."""
    rows: list[Row] = [write("k", 1, 20, ttl=40.0), final("k", None)]
    if touch is not None:
        rows.append(operation(touch, outcome, kind="touch", key="k", ttl=50.0))
    with history_of(rows) as history:
        found = losses_of(history, "sessions")
        assert (len(found.lost), found.undecided) == (lost, undecided)


@pytest.mark.parametrize(("ttl", "lost"), [(79.5, 0), (80.9, 0), (81.1, 1)])
def test_expiry_has_a_second_of_margin(ttl: float, lost: int) -> None:
    """A key may be gone from 1 s before its TTL ends."""
    with history_of([write("k", 1, 20, ttl=ttl), final("k", None)]) as history:
        assert len(losses_of(history, "sessions").lost) == lost


# --- against the bound ----------------------------------------------------------------------------

KILLED, PROMOTED = 50.0, 60.0
EVERY = 0.01
"""Ledger writes come 100 a second."""
RATE = 10_000.0
"""Bytes a second that replication sends."""


def crash(
    lost: tuple[float, float] | None = None,
    *,
    lag: float = 0.5,
    every: float = EVERY,
    absent: bool = True,
    ledger: int = 1,
) -> list[Row]:
    """Return a primary that is killed while its replicas lag, so that writes are lost.

    Args:
        lost: from when to when acknowledged writes are lost; by default as the lag has it.
        lag: seconds by which the replicas are behind.
        every: seconds between writes.
    """
    begin, end = lost or (KILLED - lag, KILLED)
    rows: list[Row] = []
    for number, at in enumerate([*times(40, KILLED, every), *times(PROMOTED, 80, every)]):
        node = "redis-a" if at < KILLED else "redis-b"
        key, done = f"k{number:05}", at + 0.002
        rows.append(write(key, 1, at, node=node, ledger=ledger))
        rows.append(final(key, None if absent and begin < done <= end else 1))
    rows += samples("role", "redis-a", [(0, 1), (49, 1)])
    rows += samples("role", "redis-b", [(0, 0), (49, 0), (61, 1)])
    rows += samples("offset", "redis-a", [(at, RATE * at) for at in times(0, KILLED, 0.1)])
    behind = [(at, RATE * max(min(at, KILLED) - lag, 0)) for at in times(0, PROMOTED, 0.1)]
    rows += samples("offset", "redis-b", behind)
    fault = {"fault": "replication-lag", "seconds": lag, "replicas": ["redis-b"]}
    rows += samples("offset", "redis-c", behind)
    return [
        *rows,
        step(fault, 20, 49.9 if lag == 0 else None, id="lag"),
        kill(KILLED, 90.0),
        *failover(KILLED, PROMOTED),
    ]


def verdict_on(rows: Iterable[Row], most: Any = "bound", **facts: Any) -> Verdict:
    """Return the verdict on a history."""
    with history_of(rows, **facts) as history:
        return lost_writes.check(history, Expectation(most))


@pytest.mark.parametrize("most", ["bound", 0, 5])
def test_nothing_that_tells_its_version(most: Any) -> None:
    """Without an acknowledged write of a version there is nothing to judge."""
    verdict = verdict_on([operation(1, key="a"), operation(2, kind="read", key="a")], most)
    assert verdict.result == "unknown"
    assert "tells its version" in verdict.reason


def test_within_the_bound() -> None:
    """What the killed primary acknowledged after the replica's last offset may go."""
    verdict = verdict_on(crash())
    assert verdict.result == "pass"
    [window] = verdict.details["windows"]
    assert window["bound"] == pytest.approx(50, abs=2)
    assert window["lost_ledger_writes"] == verdict.low == verdict.high == 50
    assert not window["scales_with_speed"]


@pytest.mark.parametrize(
    ("lost", "result"),
    [
        ((49.834, 50.0), "pass"),  # 17 of 15: within 10 % and two
        ((49.804, 50.0), "fail"),  # 20: above it, though after the reading before the offset
        ((49.7, 50.0), "fail"),  # before that reading
        ((70.0, 70.01), "fail"),  # one write, acknowledged by the new primary
        ((45.0, 45.01), "fail"),  # one write, long before
        ((0.0, 0.0), "unknown"),  # none at all
    ],
)
def test_against_the_bound(lost: tuple[float, float], result: str) -> None:
    """More than the bound fails, anything outside the window fails, and nothing is odd."""
    verdict = verdict_on(crash(lost, lag=0.15))
    assert verdict.details["windows"][0]["bound"] == 15
    assert verdict.result == result


@pytest.mark.parametrize(
    ("rows", "scales"),
    [
        ([], False),
        ([EventRow(98, 55.0, "recovering", "redis-c", "", {})], False),  # another node
        ([EventRow(98, 65.0, "recovering", "redis-a", "", {})], False),  # later
        ([EventRow(98, 55.0, "recovering", "redis-a", "", {})], True),  # it was replaced before
    ],
)
def test_who_was_dead_by_then(rows: list[Row], scales: bool) -> None:
    """What a dead primary took does not grow with the time until another one is promoted."""
    [window] = verdict_on([*crash(), *rows]).details["windows"]
    assert window["scales_with_speed"] == scales


def test_who_died_later() -> None:
    """A kill after the promotion is not what the primary was lost by."""
    [window] = verdict_on([*isolated(), kill(70, 75)]).details["windows"]
    assert window["scales_with_speed"]


def test_no_lag_loses_nothing() -> None:
    """Without a lag, nothing lost is as it should be, though few writes are in the window."""
    assert verdict_on(crash((0, 0), lag=0.0)).result == "pass"


def test_a_failover_by_request() -> None:
    """It promotes a replica that is behind, so it loses writes as a crash does."""
    asked = EventRow(10, KILLED, "failover-call", "group", "", {})
    by_itself = {"detecting", "promoting"}
    rows = [it for it in crash() if not (type(it) is EventRow and it.kind in by_itself)]
    assert verdict_on([*rows, asked]).result == "pass"
    assert verdict_on(rows).result == "fail"


def test_too_few_to_tell() -> None:
    """With fewer than ten ledger writes in the window, a loss can't be weighed."""
    verdict = verdict_on(crash(every=0.1))
    assert verdict.result == "unknown"
    assert "only 5 ledger writes" in verdict.reason
    assert verdict_on(crash(ledger=0)).result == "unknown"


@pytest.mark.parametrize(
    ("lost", "ledger", "result"),
    [
        ((49.85, 50.0), 1, "pass"),  # 3 of 3
        ((49.8, 50.0), 1, "unknown"),  # 4 of 3: within the two more
        ((49.8, 50.0), 0, "pass"),  # as many, of which none counts
        ((0.0, 0.0), 1, "pass"),
    ],
)
def test_a_few_that_no_fault_left_behind(
    lost: tuple[float, float], ledger: int, result: str
) -> None:
    """Few writes in the window are a pass, if no more are lost and no fault made a lag."""
    rows = [it for it in crash(lost, lag=0.15, every=0.05) if getattr(it, "id", "") != "lag"]
    rows = [
        it._replace(ledger=ledger) if isinstance(it, Operation) and it.due < KILLED else it
        for it in rows
    ]
    assert verdict_on(rows).result == result


@pytest.mark.parametrize(("begin", "result"), [(39.6, "pass"), (39.4, "unknown")])
def test_a_cut_that_is_the_loss_itself(begin: float, result: str) -> None:
    """A fault by which a primary is lost made no lag before, as may one of a second before."""
    rows: list[Row] = [it for it in isolated() if isinstance(it, Sample)]
    rows += [write("k", 1, 20, ledger=1), final("k", 1), *failover(40.5, 56)]
    cut = step({"fault": "isolate", "zone": "a"}, begin, 80)
    assert verdict_on([*rows, cut]).result == result


@pytest.mark.parametrize(("eps", "result"), [(0.001, "fail"), (0.06, "pass")])
def test_writes_near_the_edges(eps: float, result: str) -> None:
    """What was acknowledged within eps of the window's edges may be in it, or not."""
    verdict = verdict_on(crash((49.804, 50.0), lag=0.15), eps=eps)
    assert verdict.result == result


@pytest.mark.parametrize(
    ("lag", "at", "result"),
    [
        (0.5, 30.0, "unknown"),  # since the fault that made a lag
        (0.5, 19.9, "fail"),
        (0.0, 49.5, "unknown"),  # a second before the loss
        (0.0, 48.5, "fail"),
    ],
)
def test_since_when_without_offsets(lag: float, at: float, result: str) -> None:
    """Without offsets, a window begins with the fault that made a lag, or a second before."""
    rows: list[Row] = [it for it in crash((0, 0), lag=lag) if not isinstance(it, Sample)]
    rows += samples("role", "redis-a", [(0, 1), (49, 1)])
    rows += samples("role", "redis-b", [(0, 0), (49, 0), (61, 1)])
    assert verdict_on([*rows, write("x", 1, at), final("x", None)]).result == result


@pytest.mark.parametrize(
    ("most", "speed", "result"), [(50, 1, "pass"), (49, 1, "fail"), (50, 30, "pass")]
)
def test_a_number(most: int, speed: int, result: str) -> None:
    """With a number, all lost writes count; those of a crash do not grow with the time."""
    assert verdict_on(crash(), most, speed=speed).result == result


def test_final_read_missing() -> None:
    """A key that was not read in the end can't be judged."""
    rows = [it for it in crash() if not (type(it) is FinalRead and it.key == "k00100")]
    verdict = verdict_on(rows)
    assert verdict.result == "unknown"
    assert "1 keys" in verdict.reason
    assert (verdict.low, verdict.high) == (50, 51)


def test_only_replicas_were_read() -> None:
    """What replicas have in the end is not what the primary has."""
    rows = [it._replace(role="replica") if type(it) is FinalRead else it for it in crash()]
    assert verdict_on(rows).result == "unknown"


def evictions(count: int, node: str = "redis-b") -> list[Sample]:
    """Return a node's counter of evictions, which rises by a count."""
    return samples("evicted_keys", node, [(1, 7), (2, 7 + count)])


@pytest.mark.parametrize(
    ("more", "result"),
    [
        ([], "fail"),
        (evictions(1), "unknown"),
        (evictions(1, "memcached-a"), "fail"),
        (samples("noeviction", "redis-b", [(1, 0)]), "unknown"),
        (samples("noeviction", "redis-b", [(1, 1)]), "fail"),
    ],
)
def test_evicted(more: list[Row], result: str) -> None:
    """What Redis may have evicted explains so many absences."""
    verdict = verdict_on([*crash((45.0, 45.01)), *more])
    assert verdict.result == result
    assert ("may have been evicted" in verdict.reason) == (result == "unknown")


@pytest.mark.parametrize("fault", ["flush", "expire"])
@pytest.mark.parametrize(
    ("node", "at", "version", "result"),
    [
        ("redis-a", 30, None, "pass"),
        ("redis-a", 30, 1, "fail"),  # it has come back, older
        ("redis-a", 10, None, "fail"),  # it was written later
        ("memcached-a", 30, None, "fail"),
    ],
)
def test_what_a_step_has_deleted_is_not_lost(
    fault: str, node: str, at: float, version: int | None, result: str
) -> None:
    """A key that is gone since a step deleted keys was not lost."""
    rows: list[Row] = [*samples("role", "redis-a", [(0, 1)]), write("other", 1, 40)]
    rows += [final("other", 1), write("k", 2, 20), final("k", version)]
    emptying = step({"fault": fault, "nodes": [node]}, at, 60, begin_confirmed=at + 0.5)
    assert verdict_on([*rows, emptying], 0).result == result


def test_offsets_are_needed() -> None:
    """Without offsets, the window is known by its failover alone, and has no bound."""
    rows = [it for it in crash() if not (type(it) is Sample and it.name == "offset")]
    verdict = verdict_on(rows)
    assert verdict.result == "unknown"
    assert "offsets" in verdict.reason
    outside: list[Row] = [write("x", 1, 10), final("x", None)]
    assert verdict_on([*rows, *outside]).result == "fail"


def test_the_event_has_the_offset() -> None:
    """The offset of the control plane's own event counts more than the last reading."""
    shared = RATE * (KILLED - 1.0)
    lost = EventRow(99, PROMOTED, "lost", "redis-a", "", {"offsets": [shared, RATE * KILLED]})
    verdict = verdict_on([*crash((49.0, 50.0)), lost])
    assert verdict.details["windows"][0]["bound"] == pytest.approx(100, abs=2)
    assert verdict.result == "pass"


def test_the_last_reading_is_not_the_last_write() -> None:
    """What was acknowledged after the primary's last reading may have gone either way."""
    rows = [
        it
        for it in crash((49.9, 50.0), lag=0.0)
        if not (type(it) is Sample and it.name == "offset" and 49.75 < it.at < 51)
    ]
    verdict = verdict_on(rows)
    assert verdict.details["windows"][0]["bound"] == pytest.approx(30, abs=2)
    assert verdict.result == "pass"
    rows = [it._replace(version=1) if type(it) is FinalRead else it for it in rows]
    assert verdict_on(rows).result == "pass"


def isolated(fenced_at: float = 55.0, lost: tuple[float, float] = (40.0, 55.0)) -> list[Row]:
    """Return a primary that is cut off from its replicas, and takes writes until it is fenced."""
    rows: list[Row] = []
    for number, at in enumerate(times(35, fenced_at, EVERY)):
        key = f"k{number:05}"
        rows.append(write(key, 1, at, ledger=1))
        rows.append(final(key, None if lost[0] < at + 0.002 <= lost[1] else 1))
    rows += samples("role", "redis-a", [(0, 1), (54, 1)])
    rows += samples("fenced", "redis-a", [(at, at >= fenced_at) for at in times(0, 90, 0.5)])
    rows += samples("offset", "redis-a", [(at, RATE * at) for at in times(0, fenced_at, 0.1)])
    rows += samples("offset", "redis-b", [(at, RATE * min(at, 40)) for at in times(0, 60, 0.1)])
    return [*rows, step({"fault": "partition", "a": "a", "b": "b"}, 40, 80), *failover(41, 56)]


def test_an_isolated_primary() -> None:
    """An isolated primary loses what it acknowledged from the cut to the fence."""
    verdict = verdict_on(isolated())
    [window] = verdict.details["windows"]
    assert window["bound"] == pytest.approx(1500, abs=2)
    assert (window["begin"], window["end"]) == (pytest.approx(40, abs=0.1), 55)
    assert window["scales_with_speed"]
    assert verdict.result == "pass"


@pytest.mark.parametrize(
    ("most", "speed", "result"),
    [
        (1500, 1, "pass"),
        (1499, 1, "fail"),
        (1500, 2, "unknown"),
        (3000, 2, "pass"),
        (749, 0.5, "fail"),
        (750, 0.5, "unknown"),
        (1500, 0.5, "pass"),
    ],
)
def test_an_isolated_primary_loses_more_at_speed_1(most: int, speed: int, result: str) -> None:
    """What an isolated primary loses grows with the time: up to times the speed."""
    assert verdict_on(isolated(), most, speed=speed).result == result


def test_two_primaries_that_the_client_does_not_tell_apart() -> None:
    """What the new primary lost is not the old one's, which was not fenced yet."""
    rows = isolated(fenced_at=80.0)
    for number, at in enumerate(times(60, 75, EVERY)):
        rows.append(write(f"new{number:05}", 1, at, node="redis-b", ledger=1))
        rows.append(final(f"new{number:05}", None))
    assert verdict_on(rows).result == "fail"
    rows = [it._replace(node=None) if isinstance(it, Operation) else it for it in rows]
    verdict = verdict_on(rows)
    assert (verdict.result, "which of two primaries" in verdict.reason) == ("unknown", True)


def power(begin: float, lost: tuple[float, float]) -> list[Row]:
    """Return three zones without power, one after the other, with an fsync each second."""
    rows = [it for it in crash(lost, lag=0.0) if type(it) not in (EventRow, type(kill(0, 1)))]
    for number, zone in enumerate("abc"):
        fault = {"fault": "az-power", "zone": zone}
        rows.append(step(fault, begin + number * 0.01, 59.0, id=zone))
    rows += samples("fsynced_at", "redis-a", [(at + 0.1, at) for at in times(0.3, begin, 1)])
    return [*rows, *samples("role", "redis-c", [(0, 0)])]


@pytest.mark.parametrize(
    ("lost", "result"),
    [((49.3, 50.0), "pass"), ((49.1, 50.0), "fail"), ((0, 0), "unknown")],
)
def test_power_lost_everywhere(lost: tuple[float, float], result: str) -> None:
    """With no node left, what followed the last completed fsync may go."""
    verdict = verdict_on(power(KILLED, lost))
    assert verdict.details["windows"][0]["bound"] == pytest.approx(70, abs=2)
    assert verdict.result == result


def test_power_is_lost_everywhere_with_the_last_zone() -> None:
    """Zones that lose it one after the other, and one that has it again by then."""
    rows = power(KILLED, (49.3, 50.0))
    rest = [it for it in rows if not isinstance(it, Step)]
    a, b, c = (it for it in rows if isinstance(it, Step))
    c = c._replace(begin_call=53.0, begin_confirmed=53.1)
    [window] = verdict_on([*rest, a, b, c]).details["windows"]
    assert window["end"] == 53.1
    a = a._replace(end_call=52.0)
    assert verdict_on([*rest, a, b, c]).details["windows"] == []


def requested(called: float, confirmed: float) -> list[EventRow]:
    """Return the events of a failover that was asked for."""
    of_it = [it for it in failover(called, confirmed) if it.kind == "failover"]
    return [EventRow(9, called, "failover-call", "group", "", {}), *of_it]


CUT = EventRow(50, KILLED, "power-cut", "redis-a", "", {"fsynced_at": 49.3})


@pytest.mark.parametrize(
    ("more", "result"),
    [
        ([CUT], "pass"),
        ([], "fail"),  # nothing was cut
        ([CUT._replace(source="redis-b")], "fail"),  # a replica
        ([CUT, *failover(KILLED + 0.1, PROMOTED)], "fail"),  # the one promoted had all of it
        ([CUT, *failover(70, 80), *beats(60, 70, nodes=["redis-a"])], "pass"),  # later, once more
        ([CUT, *requested(70, 80), *beats(60, 70, nodes=["redis-a"])], "pass"),  # by request
        ([CUT, *requested(70, 80), *beats(75, 79, nodes=["redis-a"])], "fail"),
    ],
)
def test_power_lost_by_the_primary_alone(more: list[Row], result: str) -> None:
    """An fsync explains the loss of a primary that is back before another one is promoted."""
    rows = [it for it in power(KILLED, (49.3, 50.0)) if getattr(it, "id", "") not in ("b", "c")]
    assert verdict_on([*rows, *more]).result == result


def test_power_is_lost_once() -> None:
    """The power cut of the primary is no loss beside that of all zones."""
    verdict = verdict_on([*power(KILLED, (49.3, 50.0)), CUT._replace(at=KILLED - 0.005)])
    assert (verdict.result, len(verdict.details["windows"])) == ("pass", 1)


def test_a_service_without_writes() -> None:
    """Without an acknowledged write nothing was tested."""
    assert verdict_on([]).result == "unknown"


def test_writes_without_a_version() -> None:
    """Writes of a client that does not report versions can't be told from each other."""
    rows = [operation(it, key="k", node="redis-a") for it in range(20)]
    with history_of(rows) as history:
        verdict = lost_writes.check(history, Expectation("bound"))
        assert verdict.result == "unknown"
        assert "tells its version" in verdict.reason
