"""Stale reads: reads that returned less than what was acknowledged before they began.

Rule: a read that began at s is stale if it returned an older version than the newest one
acknowledged before s - eps, or found nothing although that version's TTL had not ended and nothing
deleted the key or may have, a step that deletes keys included. What Memcached has may go at any
time: a miss there is never stale, nor is a read of a user's own code that tells no version. The age
is s less the end of the first acknowledged version newer than the one returned, but for those that
a promotion lost before. Of what several pods store at once any version may stay. A key that is
never right again was lost, and so were versions that a promotion lost (see `lost_writes`): such
reads are listed, not judged. That a key is gone later, as it was deleted or its TTL has ended, does
not tell.

Bound: with `max: bound`, on a replica, the time by which its offset was behind the primary's, plus
100 ms; on the primary, nothing. With a number, the longest age in seconds, on any node: while a
fault lasts that cuts a node off, the age may grow, so that its part in such a fault is up to times
the speed, and a hold that was cut counts whole. With `max: ttl`, for a cache with a TTL: a value
must not be read later than 1 s after its TTL, counted from the end of the write, or of a touch that
may have come after it.

Unknown: the client does not report versions; fewer than 100 reads went to replicas; the offsets of
a replica were not sampled; with a number, the threshold lies inside the interval of the age; or,
with `ttl`, a hold was cut, in which TTLs would have ended.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers.faults import ONCE, applied, emptied, nodes_of
from cachesim.scenarios.checkers.generator import union
from cachesim.scenarios.checkers.lags import offset_lags
from cachesim.scenarios.checkers.loss_windows import loss_windows
from cachesim.scenarios.checkers.promotions import primary_at
from cachesim.scenarios.checkers.resolution import why_ttls_were_cut
from cachesim.scenarios.checkers.time_scale import CACHES
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "stale_reads"
FEW = 100
READING_DELAY = 0.1
"""Seconds between two readings of an offset."""
TTL_MARGIN = 1.0
CONSTANT = frozenset({"replication-lag", "latency"})
"""Faults by which a node is behind for as long as they say, however long they last."""
_SHOWN = 20

_ROWS = """
SELECT key, kind, outcome, written, read, start, end, node, ttl FROM operations
WHERE service = ? ORDER BY key, start
"""
_FINAL = "SELECT key, max(version), max(at) FROM final_reads WHERE role = 'primary' GROUP BY key"


@dataclass(frozen=True)
class Expectation:
    """What is expected of a service.

    Attributes:
        max: the longest age in seconds, `bound`, or `ttl`.
        service: its name.
    """

    max: float | Literal["bound", "ttl"] = "bound"
    service: str = "sessions"

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.service}"


class _Row(NamedTuple):
    key: str
    kind: str
    outcome: str
    written: int | None
    read: int | None
    start: float
    end: float | None
    node: str | None
    ttl: float | None


class StaleRead(NamedTuple):
    """A stale read.

    Attributes:
        age: seconds.
        start: when it began, in monotonic seconds.
        due_version: the version that it should have returned at least.
        acknowledged: when the first version newer than the one returned was acknowledged.
    """

    key: str
    node: str | None
    age: float
    start: float
    version: int | None
    due_version: int
    acknowledged: float


@dataclass
class Found:
    """What the reads of a service returned.

    Attributes:
        stale: the stale ones.
        lost: how many returned less because a version was lost.
        reads: how many were answered, by node.
        replica_reads: how many were answered by a node that was not the primary.
        versions: how many returned a version.
        over_ttl: the most by which a value was read after its TTL, in seconds; negative if none
            was. None: no value with a TTL was read.
    """

    stale: list[StaleRead] = field(default_factory=list)
    lost: int = 0
    reads: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    replica_reads: int = 0
    versions: int = 0
    over_ttl: float | None = None


def stale_reads(history: History, service: str) -> Found:
    """Return the stale reads of a service."""
    found = Found()
    finals = {key: final for key, *final in history.rows(_FINAL)}
    for key, rows in _by_key(history, service):
        _count(history, found, rows)
        _judge_key(history, found, rows, *finals.get(key, (None, None)))
    return found


def _by_key(history: History, service: str) -> Iterator[tuple[str, list[_Row]]]:
    for key, group in groupby(history.rows(_ROWS, service), key=itemgetter(0)):
        yield key, [_Row._make(values) for values in group]


def _count(history: History, found: Found, rows: list[_Row]) -> None:
    """Count the reads of a key, and find the one that came latest after its value's TTL."""
    expiries: dict[int, float] = {}
    for it in rows:
        if it.kind != "read" and it.ttl is not None and _may_apply(it):
            expiry = (it.start if it.end is None else it.end) + it.ttl
            if it.kind == "touch":
                expiries = {version: max(at, expiry) for version, at in expiries.items()}
            elif it.written is not None:
                expiries[it.written] = expiry
        elif it.kind == "read" and it.outcome == "ok":
            found.reads[it.node] += 1
            found.replica_reads += it.node not in (None, primary_at(history, it.start))
            if it.read is None:
                continue
            found.versions += 1
            if it.read in expiries:
                over = it.start - expiries[it.read]
                found.over_ttl = over if found.over_ttl is None else max(found.over_ttl, over)


def _may_apply(row: _Row) -> bool:
    return row.outcome in ("ok", "info", "unacked")


def _judge_key(
    history: History, found: Found, rows: list[_Row], final: int | None, final_at: float | None
) -> None:
    """Find the stale reads of a key.

    Args:
        final: the version that the primary had in the end; None: none.
        final_at: when that was read; None: it was not.
    """
    writes = [
        it for it in rows if it.kind == "write" and it.outcome == "ok" and it.written is not None
    ]
    writes.sort(key=_end)
    ends = [_end(it) for it in writes]
    newest = list(accumulate((it.written or 0 for it in writes), max))
    changes = [it for it in rows if it.kind != "read" and _may_apply(it)]
    # The newest version that was read later; -1: there was none. None: nothing tells.
    later = final
    if writes and final_at is not None and final is None:
        last = writes[-1]._replace(kind="read", start=final_at, end=final_at)
        later = None if _is_gone(history, last, writes[-1], changes) else -1
    for it in reversed(rows if writes else []):
        if it.kind != "read" or it.outcome != "ok":
            continue
        number = bisect_left(ends, it.start - history.eps)
        seen = -1 if it.read is None else it.read
        if number and seen < newest[number - 1]:
            due = _due(it, writes[:number], changes)
            version = due.written or 0
            if _is_gone(history, it, due, changes):
                continue
            if seen < version:
                first = _superseded_at(history, it, seen, writes)
                age = it.start - first
                read = StaleRead(it.key, it.node, age, it.start, it.read, version, first)
                if (later is not None and later < version) or _is_lost(history, due, it):
                    found.lost += 1
                else:
                    found.stale.append(read)
        later = seen if later is None else max(later, seen)


def _end(row: _Row) -> float:
    return float("inf") if row.end is None else row.end


def _due(read: _Row, acknowledged: list[_Row], changes: list[_Row]) -> _Row:
    """Return the write with the oldest version that a read may return.

    A session has one writer, which waits for each answer: it is the last write. What several pods
    store at the same time may come in any order.
    """
    last = max(it.start for it in acknowledged)
    found = [
        it
        for it in changes
        if it.kind == "write" and it.written is not None
        if it.start <= _end(read) and _end(it) > last
    ]
    return min(found, key=lambda it: it.written or 0)


def _superseded_at(history: History, read: _Row, version: int, writes: list[_Row]) -> float:
    """Return when the first newer version was acknowledged that was written after this one.

    One that a promotion lost before the read never reached any replica.
    """
    written = min((_end(it) for it in writes if it.written == version), default=float("-inf"))
    newer = [it for it in writes if (it.written or 0) > version]
    newer = [it for it in newer if not _is_lost(history, it, read)] or newer
    return min(_end(it) for it in ([it for it in newer if it.start >= written] or newer))


def _is_gone(history: History, read: _Row, due: _Row, changes: list[_Row]) -> bool:
    """Return whether a key that was not found may have been deleted or evicted, or have expired."""
    if read.read is not None:
        return False
    if read.node is None and due.node is None:
        return True  # a user's own code, which tells neither a TTL nor a miss from no version
    # A client that takes a node for dead asks none: then the node of the write tells.
    if any(node and node.startswith(CACHES) for node in (read.node, due.node)):
        return True
    end = read.start if read.end is None else read.end
    if any(due.start <= span.end and span.begin <= end for span in history.compute(emptied)):
        return True
    since = [it for it in changes if due.start <= it.start <= end]
    if any(it.kind == "delete" for it in since):
        return True
    setters = [it for it in since if it.ttl is not None]
    sure = max((n for n, it in enumerate(setters) if it.outcome == "ok"), default=0)
    return any(end >= it.start + (it.ttl or 0) - TTL_MARGIN for it in setters[sure:])


def _is_lost(history: History, due: _Row, read: _Row) -> bool:
    """Return whether a promotion may have lost the version that was due."""
    return any(
        due.node in (None, window.node)
        and due.end is not None
        and window.earliest - history.eps <= due.end <= window.end + history.eps
        and read.start >= window.end - history.eps
        for window in history.compute(loss_windows)
    )


# --- what is allowed ----------------------------------------------------------------------------


def _allowed(history: History, read: StaleRead) -> float | None:
    """Return the age that a read's node explains, in seconds, or None if nothing tells."""
    if read.node is None:
        return None
    if read.node == primary_at(history, read.start):
        return 0.0
    at, lags = history.compute(offset_lags).get(read.node, ([], []))
    number = bisect_right(at, read.start)
    if not number:
        return None
    before = lags[number - 1]
    after = lags[number] if number < len(at) else before + read.start - at[-1]
    return max(before, after) + READING_DELAY


class _Judged(NamedTuple):
    """A stale read with the least and the most of its age in production, and what is allowed."""

    read: StaleRead
    low: float
    high: float
    most: float | None


def _excess(it: _Judged) -> tuple[bool, float]:
    most = it.most or 0.0
    return it.low > most, it.high - most


def _age(history: History, read: StaleRead, limit: float | None) -> tuple[float, float]:
    """Return the least and the most of a read's age in production, in seconds.

    What is allowed by the lag of this run is compared with the age in this run.

    Args:
        limit: None: it is compared with the lag.
    """
    more = 0.0 if limit is None else _held(history, read) * (history.speed - 1)
    cut = 0.0 if limit is None else _cut_in(history, read)
    return (
        max(read.age - history.eps + min(more, 0.0), 0.0),
        read.age + history.eps + max(more, 0.0) + cut,
    )


def _held(history: History, read: StaleRead) -> float:
    """Return for how much of a read's age a fault lasted that may have cut off its node."""
    service = (read.node or "").rpartition("-")[0]
    spans = []
    for step in history.compute(applied):
        nodes = nodes_of(history, step.fault)
        is_near = not nodes or any(node.startswith(service) for node in nodes)
        if is_near and step.fault.get("fault") not in ONCE | CONSTANT:
            begin, end = step.begin_call or 0.0, step.end_call
            spans.append(
                Span(
                    max(begin, read.acknowledged),
                    read.start if end is None else min(end, read.start),
                )
            )
    return sum(it.end - it.begin for it in union(sorted(it for it in spans if it.end > it.begin)))


def _cut_in(history: History, read: StaleRead) -> float:
    """Return how long the holds were that were cut while the value got older, in seconds."""
    return history.cut_within(read.acknowledged, read.start)


def _settle(history: History, read: StaleRead) -> str:
    if _cut_in(history, read):
        return "a hold was cut while it got older; a run without cuts settles it"
    if history.speed != 1:
        return "its fault lasts longer in production; --speed 1 settles it"
    return "the bound lies within eps"


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the stale reads of a service."""
    name = expectation.name
    if expectation.max == "ttl":
        return _against_ttl(history, expectation.service, name)
    found = history.compute(stale_reads, expectation.service)
    allowed = {it: _allowed(history, it) for it in found.stale}
    details: dict[str, Any] = {
        "reads": {str(node): count for node, count in found.reads.items()},
        "reads_of_replicas": found.replica_reads,
        "stale": len(found.stale),
        "lost": found.lost,
        "oldest": [
            it._asdict() | {"allowed": allowed[it]}
            for it in sorted(found.stale, key=lambda it: -it.age)[:_SHOWN]
        ],
    }
    shape: dict[str, Any] = {"unit": "s", "details": details}
    limit = expectation.max if isinstance(expectation.max, int | float) else None
    verdict = Verdict(name, Result.PASS, 0.0, 0.0, "s", limit, "no read was stale", details)
    judged = [
        _Judged(it, *_age(history, it, limit), allowed[it] if limit is None else limit)
        for it in found.stale
    ]
    told = [it for it in judged if it.most is not None]
    if told:
        # One that is surely too old decides, then the one that may be the most too old.
        worst, low, high, most = max(told, key=_excess)
        where = f"a read of {worst.key} from {worst.node} decides"
        verdict = against(name, low, high, "s", most or 0.0, _settle(history, worst), details)
        verdict = replace(verdict, reason=f"{verdict.reason}: {where}")
        if verdict.result is Result.FAIL:
            return verdict
    if not found.versions:
        return unknown(name, "the client does not report versions", **shape)
    if limit is None and found.replica_reads < FEW:
        return unknown(name, f"only {found.replica_reads} reads went to replicas", **shape)
    if len(told) < len(judged):
        return unknown(name, "stale reads whose node's offset is not known", **shape)
    return verdict


def _against_ttl(history: History, service: str, name: str) -> Verdict:
    found = Found()
    for _, rows in _by_key(history, service):
        _count(history, found, rows)
    if found.over_ttl is None:
        return unknown(name, "the client does not report versions, or sets no TTL", unit="s")
    low, high = found.over_ttl - history.eps, found.over_ttl + history.eps
    details = {"over_ttl": found.over_ttl}
    verdict = against(name, max(low, 0.0), max(high, 0.0), "s", TTL_MARGIN, details=details)
    why = why_ttls_were_cut(history)
    if why is None or verdict.result is not Result.PASS:
        return verdict
    return replace(verdict, result=Result.UNKNOWN, reason=why)
