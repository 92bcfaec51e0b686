"""How far replicas were behind the primary when, from the offsets that they told."""

from bisect import bisect_right
from collections import defaultdict

from cachesim.history.reader import History
from cachesim.scenarios.checkers.promotions import primary_at

Lag = tuple[list[float], list[float]]


def offset_lags(history: History) -> dict[str, Lag]:
    """Return for each node the times of its readings, and how far its offset was behind then.

    That is the time since the primary was last seen not to be ahead of it, in seconds. A new
    process counts anew, so that offsets do not tell of what was before: a replica that has received
    nothing of it yet is behind for as long as it was before, and since.
    """
    times: list[float] = []
    offsets: list[float] = []
    found: dict[str, Lag] = defaultdict(lambda: ([], []))
    last: dict[str, float] = {}
    even: dict[str, float] = {}  # when each node last had what the primary had
    held: dict[str, float] = {}  # the same of those that have received nothing since a new process
    for sample in history.samples("offset"):
        node, before = sample.node, last.get(sample.node, 0.0)
        last[node] = sample.value
        if node == primary_at(history, sample.at):
            if offsets and offsets[-1] > sample.value:
                held = even | held
            # A new process counts anew, and a promoted replica from what it had.
            while offsets and offsets[-1] > sample.value:
                times.pop()
                offsets.pop()
            times.append(sample.at)
            offsets.append(sample.value)
            even[node] = sample.at
            continue
        if sample.value > before:
            held.pop(node, None)
        elif sample.value < before and node in even:
            held.setdefault(node, even[node])
        at, lags = found[node]
        at.append(sample.at)
        passed = bisect_right(offsets, sample.value)
        since = times[max(passed - 1, 0)] if passed < len(offsets) else sample.at
        even[node] = min(since, held.get(node, since))
        lags.append(sample.at - even[node])
    return found
