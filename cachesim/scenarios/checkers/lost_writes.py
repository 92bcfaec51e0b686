"""Lost writes: writes that Redis acknowledged and no longer has.

Rule: a write is lost if it is the last acknowledged one of its key, nothing deleted the key after
it or may have, and the final read of the primary is older or finds nothing. It is not lost if its
TTL had ended by then, since whatever may have set it last; nor is a key that is not there any more
since a step, `flush` or `expire`, deleted keys. Later writes without an answer that are there are
`unacked but applied`: shown, not judged. Keys that are written once
(the ledger) are counted; an overwritten loss can't be seen.

Bound, from this run's own acknowledgements: what the failed primary acknowledged

- dead before the promotion: after the promoted replica's last applied offset;
- isolated: from the same offset, which it passed when replication was cut, to the fence;
- power lost in all zones, or by a primary that is back before another is promoted: after the last
  completed fsync.

A failover that was asked for, and faults without promotion, lose nothing. `max: bound` passes if
the lost ledger writes are at most 1.1 x bound + 2 + those acknowledged within eps of the edges. A
write lost outside every such window always fails. With `max` as a number, all lost writes count,
those of an isolated primary up to times the speed.

Unknown: a key that could decide has no final read, or may have expired; the policy is not
noeviction or keys were evicted, for so many absences; a window without offsets or fsyncs, or with
two primaries at once if the client does not tell which of them it wrote to; nothing lost although
the bound is 10 or more; or fewer than 10 ledger writes in a window, if more of them are lost there
or replication was impaired before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import emptied
from cachesim.scenarios.checkers.loss_windows import LossWindow, loss_windows
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "lost_writes"
FACTOR, MORE, FEW = 1.1, 2, 10
EXPIRY_MARGIN = 1.0
"""Seconds before its TTL ends from which a key may be gone."""
_SHOWN = 100

_CHANGES = """
SELECT key, kind, outcome, written, start, end, node, ttl, ledger FROM operations
WHERE service = ? AND kind != 'read' ORDER BY key, start
"""
_FINAL = "SELECT key, version, at FROM final_reads WHERE role = 'primary' ORDER BY key, at DESC"


@dataclass(frozen=True)
class Expectation:
    """What is expected of the sessions.

    Attributes:
        max: the largest number of lost writes, or `bound`.
        service: the service that writes to Redis.
    """

    max: int | Literal["bound"]
    service: str = "sessions"

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return NAME


class Change(NamedTuple):
    """An operation that changed a key, or may have."""

    key: str
    kind: str
    outcome: str
    version: int | None
    start: float
    end: float | None
    node: str | None
    ttl: float | None
    ledger: int


@dataclass
class Losses:
    """What became of the acknowledged writes.

    Attributes:
        lost: the lost ones, by key.
        acknowledged: how many keys have an acknowledged write that could be lost.
        undecided: how many of them have no final read, or may have expired.
        absent: how many of the lost ones find nothing, so that eviction may explain them.
        unacked_but_applied: keys whose final version had no acknowledgement.
    """

    lost: list[Change] = field(default_factory=list)
    acknowledged: int = 0
    undecided: int = 0
    absent: int = 0
    unacked_but_applied: int = 0


def losses_of(history: History, service: str) -> Losses:
    """Return what became of a service's acknowledged writes."""
    found = Losses()
    final = _final_reads(history)
    at = next(final, None)
    rows = map(Change._make, history.rows(_CHANGES, service))
    for key, group in groupby(rows, key=itemgetter(0)):
        while at is not None and at[0] < key:
            at = next(final, None)
        read = at if at is not None and at[0] == key else None
        _judge_key(history, found, list(group), read)
    return found


def _final_reads(history: History) -> Iterator[tuple[str, int | None, float]]:
    """Return the last final read of each key from a primary, by key."""
    rows = history.rows(_FINAL)
    for _, group in groupby(rows, key=itemgetter(0)):
        key, version, at = next(group)
        yield key, version, at


def _judge_key(
    history: History,
    found: Losses,
    changes: list[Change],
    read: tuple[str, int | None, float] | None,
) -> None:
    acknowledged = [
        it for it in changes if it.kind == "write" and it.outcome == "ok" and it.version is not None
    ]
    if not acknowledged:
        return
    last = max(acknowledged, key=lambda it: it.version or 0)
    later = [it for it in changes if it.start > last.start]
    if any(it.kind == "delete" and _may_apply(it) for it in later):
        return
    is_absent = read is not None and read[1] is None
    if is_absent and any(last.start <= span.end for span in history.compute(emptied)):
        return
    found.acknowledged += 1
    if read is None:
        found.undecided += 1
        return
    _, version, at = read
    wanted = last.version or 0
    if version is not None and version >= wanted:
        found.unacked_but_applied += version > wanted
        return
    expired = version is None and _expired(last, later, at)
    if expired or expired is None:
        found.undecided += expired is None
        return
    found.lost.append(last)
    found.absent += version is None


def _may_apply(change: Change) -> bool:
    return change.outcome in ("ok", "info", "unacked")


def _expired(last: Change, later: list[Change], at: float) -> bool | None:
    """Return whether a key had expired by the time of its final read. None: it may have."""
    setters = [it for it in later if it.ttl is not None and it.outcome == "ok"]
    setter = setters[-1] if setters else last
    possible = [it for it in later if it.start > setter.start and it.ttl is not None]
    ends = [
        float("inf") if it.ttl is None else it.start + it.ttl - EXPIRY_MARGIN
        for it in [setter, *filter(_may_apply, possible)]
    ]
    if at > max(ends):
        return True
    return None if at > min(ends) else False


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on lost acknowledged writes."""
    found = history.compute(losses_of, expectation.service)
    windows = history.compute(loss_windows)
    inside: dict[LossWindow, list[Change]] = {window: [] for window in windows}
    outside: list[Change] = []
    for change in found.lost:
        owner = next((it for it in windows if _is_in(history, change, it)), None)
        (outside if owner is None else inside[owner]).append(change)
    evicted = min(_evicted(history), found.absent)
    details: dict[str, Any] = {
        "acknowledged": found.acknowledged,
        "unacked_but_applied": found.unacked_but_applied,
        "undecided": found.undecided,
        "evicted": evicted,
        "outside_every_window": [it._asdict() for it in outside[:_SHOWN]],
        "windows": [_details(history, it, lost) for it, lost in inside.items()],
    }
    low, high = max(len(found.lost) - evicted, 0), len(found.lost) + found.undecided
    for window, lost in inside.items():
        more = round(len(lost) * (history.speed - 1)) if window.scales else 0
        low, high = max(low + min(more, 0), 0), high + max(more, 0)
    threshold = None if expectation.max == "bound" else float(expectation.max)
    shape: dict[str, Any] = {"low": low, "high": high, "unit": "writes", "threshold": threshold}
    if len(outside) > evicted:
        reason = f"{len(outside)} acknowledged writes were lost that no failure explains"
        return Verdict(NAME, Result.FAIL, reason=reason, details=details, **shape)
    if not found.acknowledged:
        reason = "no acknowledged write that tells its version was read back"
        return unknown(NAME, reason, details=details, **shape)
    if threshold is not None:
        return against(NAME, low, high, "writes", threshold, _doubt(found, evicted), details)
    results = [_judge_window(it, lost) for it, lost in inside.items()]
    excess = next((it for it in results if it.result is Result.FAIL), None)
    doubt = next((it for it in results if it.result is Result.UNKNOWN), None)
    if excess is not None and not evicted:
        return Verdict(NAME, Result.FAIL, reason=excess.reason, details=details, **shape)
    if found.undecided or evicted:
        return unknown(NAME, _doubt(found, evicted), details=details, **shape)
    if doubt is not None:
        return unknown(NAME, doubt.reason, details=details, **shape)
    return Verdict(NAME, Result.PASS, reason="within the bound", details=details, **shape)


def _doubt(found: Losses, evicted: int) -> str:
    if found.undecided:
        return f"{found.undecided} keys that could decide have no final read, or may have expired"
    return f"{evicted} absent keys may have been evicted" if evicted else ""


def _is_in(history: History, change: Change, window: LossWindow) -> bool:
    if None not in (change.node, window.node) and change.node != window.node:
        return False
    end = change.start if change.end is None else change.end
    return end >= window.earliest - history.eps and change.start <= window.end + history.eps


def _evicted(history: History) -> int:
    """Return how many keys Redis may have evicted."""
    redis = {sample.node for sample in history.samples("role")}
    if any(it.value == 0 and it.node in redis for it in history.samples("noeviction")):
        return 2**62
    first: dict[str, float] = {}
    most: dict[str, float] = {}
    for sample in history.samples("evicted_keys"):
        first.setdefault(sample.node, sample.value)
        most[sample.node] = max(most.get(sample.node, 0), sample.value)
    # Memcached nodes evict too, and have no part in this.
    return int(sum(most[node] - first[node] for node in first if node in redis))


def _judge_window(window: LossWindow, lost: list[Change]) -> Verdict:
    ledger = sum(it.ledger for it in lost)
    name = f"{NAME}: {window.what}"
    if window.bound is None:
        return unknown(name, f"{window.what}: {window.why}")
    allowed = FACTOR * window.bound + MORE + window.edges
    if ledger > allowed:
        reason = f"{window.what}: {ledger} ledger writes were lost, {window.bound} may be"
        return Verdict(name, Result.FAIL, reason=reason)
    if window.bound >= FEW and not ledger and not window.upper:
        return unknown(name, f"{window.what}: nothing was lost although {window.bound} may be")
    if window.bound < FEW and (ledger > window.bound or window.is_impaired):
        return unknown(name, f"{window.what}: only {window.bound} ledger writes were in its window")
    return Verdict(name, Result.PASS)


def _details(history: History, window: LossWindow, lost: list[Change]) -> dict[str, Any]:
    return {
        "what": window.what,
        "node": window.node,
        "begin": window.begin,
        "end": window.end,
        "seconds": window.end - window.begin,
        "bound": window.bound,
        "lost_ledger_writes": sum(it.ledger for it in lost),
        "lost_writes_seen": len(lost),
        "scales_with_speed": window.scales,
        "speed": history.speed,
    }
