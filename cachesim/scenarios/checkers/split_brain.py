"""Split brain: writes that a former primary acknowledged after another node was the primary.

Rule: an acknowledged write of a node that is not the primary, and that began after the confirmed
promotion of another. What began before it is the loss of an isolated primary (see `lost_writes`).
What began within eps of the promotion counts both ways. A node that is about to be promoted again
is no former primary from the moment at which it may have been.

Bound: what the scenario expects, `max`. What was acknowledged after the old primary was fenced
always fails. The number before the fence grows with the time, so it is up to times the speed,
or as few below speed 1.

Unknown: the threshold lies inside the interval, which writes that no node is known of widen; or no
node is known of any write, and none was lost that ended after a promotion.
"""

from dataclasses import dataclass
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers.lost_writes import losses_of
from cachesim.scenarios.checkers.promotions import Promotion, fence_of, promotions
from cachesim.scenarios.checkers.time_scale import grown
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "split_brain"

_WRITES = """
SELECT node, start FROM operations WHERE service = ? AND kind != 'read' AND outcome = 'ok'
AND start >= ? AND start < ? AND node IS NOT ? ORDER BY start
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of the sessions.

    Attributes:
        max: the largest number of such writes.
        service: the service that writes to Redis.
    """

    max: int = 0
    service: str = "sessions"

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return NAME


@dataclass
class _Count:
    """Writes of a former primary: surely before the fence, perhaps, and after the fence."""

    sure: int = 0
    perhaps: int = 0
    after_fence: int = 0


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the writes that former primaries acknowledged."""
    changes = history.compute(promotions)
    nodes = "SELECT 1 FROM operations WHERE service = ? AND kind != 'read' AND node NOT NULL"
    if changes and not any(history.rows(f"{nodes} LIMIT 1", expectation.service)):
        return _deduced(history, expectation, changes)
    counts: dict[str, _Count] = {}
    for number, it in enumerate(changes):
        following = changes[number + 1] if number + 1 < len(changes) else None
        counts[f"after the promotion of {it.new}"] = _count(history, expectation, it, following)
    details: dict[str, Any] = {what: vars(count) for what, count in counts.items()}
    sure = sum(it.sure for it in counts.values())
    low, high = grown(history, sure, sure + sum(it.perhaps for it in counts.values()))
    fenced = sum(it.after_fence for it in counts.values())
    if fenced:
        return Verdict(
            NAME,
            Result.FAIL,
            low + fenced,
            high + fenced,
            "writes",
            expectation.max,
            f"{fenced} writes were acknowledged after the fence",
            details,
        )
    return against(NAME, low, high, "writes", expectation.max, "", details)


def _count(
    history: History, expectation: Expectation, it: Promotion, following: Promotion | None
) -> _Count:
    eps, found = history.eps, _Count()
    fence = fence_of(history, it)
    until = history.end_at if following is None else following.confirmed
    rows = history.rows(_WRITES, expectation.service, it.confirmed - eps, until, it.new)
    for node, start in rows:
        if following is not None and start >= following.called - eps:
            # The next primary takes writes before it is seen to.
            if node is not None and node != following.new:
                found.sure += 1
            continue
        is_fenced = fence is not None and start > fence.end + eps
        if node is None or start <= it.confirmed + eps:
            found.perhaps += not is_fenced
        elif is_fenced and node == it.old:
            found.after_fence += 1
        else:
            found.sure += 1
    return found


def _deduced(history: History, expectation: Expectation, changes: list[Promotion]) -> Verdict:
    """Judge by the writes that were lost although another node was the primary already."""
    lost = history.compute(losses_of, expectation.service).lost
    first = changes[0].confirmed + history.eps
    count = sum(it.end is not None and it.end > first for it in lost)
    if not count:
        reason = "the client does not tell which node answered, and no such write was lost"
        return unknown(NAME, reason, unit="writes", threshold=expectation.max)
    return against(NAME, *grown(history, count, count), "writes", expectation.max)
