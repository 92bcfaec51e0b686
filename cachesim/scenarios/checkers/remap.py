"""Remap share: how many keys were asked of another node than before, though theirs was there.

Rule: a key's nodes are those that were asked for it in the baseline. Of the keys that were asked
for after it too, the share that was asked of another node at least once. Keys of the nodes that a
step touched are counted apart, in the details: a client that hashes consistently moves them alone,
and no other.

Bound: what the scenario expects, `max`, a share of 1. The interval is the share, two standard
deviations of a sample of so many keys less and more.

Unknown: fewer than 300 keys are left to judge; the nodes asked are not known; the service spreads
one key's reads over several nodes even in the baseline; the threshold lies inside the interval; or
too many keys moved while the generator was unfit (see `generator`): on a machine that has no time
for them, clients give up nodes that no fault touched.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import touched
from cachesim.scenarios.checkers.generator import why_unfit
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "remap"
KEYS = 300
SPREAD_SHARE = 0.05
"""The share of keys with several nodes in the baseline from which keys have no node of theirs."""

_ASKED = """
SELECT DISTINCT key, node FROM operations
WHERE service = ? AND node IS NOT NULL AND due >= ? AND due < ?
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a service's client.

    Attributes:
        service: its name.
        max: the largest share of keys of nodes without a fault that are asked of another node.
    """

    service: str
    max: float

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.service}"


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the keys that were asked of another node."""
    name, baseline = expectation.name, history.baseline
    if baseline is None:
        return unknown(name, "no baseline was recorded")
    home = _asked(history, expectation.service, baseline.begin, baseline.end)
    later = _asked(history, expectation.service, baseline.end, float("inf"))
    if not home:
        return unknown(name, "the nodes that were asked are not known")
    spread = sum(len(nodes) > 1 for nodes in home.values()) / len(home)
    if spread > SPREAD_SHARE:
        return unknown(name, f"{spread:.0%} of the keys had several nodes in the baseline")
    reached = history.compute(touched)
    moved = {key: not later[key] <= nodes for key, nodes in home.items() if key in later}
    lost = [is_moved for key, is_moved in moved.items() if home[key] & reached]
    kept = [is_moved for key, is_moved in moved.items() if not home[key] & reached]
    details: dict[str, Any] = {
        "keys": len(kept),
        "moved": sum(kept),
        "keys_of_touched_nodes": len(lost),
        "moved_of_touched_nodes": sum(lost),
    }
    if len(kept) < KEYS:
        reason = f"{len(kept)} keys of nodes without a fault were asked for, {KEYS} are needed"
        return unknown(name, reason, details=details)
    low, high = around(sum(kept), len(kept))
    verdict = against(name, low, high, "share", expectation.max, details=details)
    why = why_unfit(history, baseline.end, history.end_at)
    if why is None or verdict.result is Result.PASS:
        return verdict
    return replace(verdict, result=Result.UNKNOWN, reason=why)


def around(count: int, total: int) -> tuple[float, float]:
    """Return the share that so many of a sample are, two standard deviations less and more."""
    share = count / total
    spread = 2 * sqrt(share * (1 - share) / total)
    return max(0.0, share - spread), min(1.0, share + spread)


def _asked(history: History, service: str, begin: float, end: float) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for key, node in history.rows(_ASKED, service, begin, end):
        found[key].add(node)
    return dict(found)
