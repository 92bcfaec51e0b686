"""What becomes of the workload's operations while it runs, from the growing history."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cachesim.history.outages import PARTIAL_SHARE
from cachesim.history.reader import History, Span

BUCKET = 0.5
"""Seconds of due times that are counted together."""
STRETCH = 5.0
"""Seconds, about, in which a class is as in the baseline, or not."""
_UNAVAILABLE = 0.5  # the share of bad operations from which a class is told to be unavailable
_BASELINE_MORE = 0.01
_RATE_SHARE = 0.8

_NEW = """
SELECT id, service, kind = 'read', due, (outcome = 'ok' AND end <= due + ?) IS TRUE
FROM operations WHERE id > ? AND due >= ? ORDER BY id
"""


@dataclass
class Count:
    """Operations that were due, and how many of them were bad."""

    due: int = 0
    bad: int = 0

    @property
    def share(self) -> float:
        """The share of bad ones."""
        return self.bad / self.due if self.due else 0.0


class Traffic:
    """Follows the operations as they are recorded.

    Args:
        path: the history.
        deadline: seconds from its due time within which an answer is good.
        since: when the baseline begins, in monotonic seconds. What pods load before is no traffic.
    """

    def __init__(self, path: Path, deadline: float, since: float) -> None:
        self._history = History(path)
        self._deadline = deadline
        self._since = since
        self._last = 0
        # By class, such as `sessions.write`, and number of the bucket.
        self._counts: dict[str, dict[int, Count]] = defaultdict(lambda: defaultdict(Count))

    def update(self) -> None:
        """Take what was recorded since the last time."""
        for number, service, is_read, due, good in self._history.rows(
            _NEW, self._deadline, self._last, self._since
        ):
            self._last = number
            count = self._counts[f"{service}.{'read' if is_read else 'write'}"][int(due / BUCKET)]
            count.due += 1
            count.bad += not good

    def close(self) -> None:
        """Close the file."""
        self._history.close()

    def within(self, name: str, begin: float, end: float) -> Count:
        """Return what became of operations that were due in a time.

        Args:
            name: a service, or a class such as `sessions.write`.
        """
        found = Count()
        for it, buckets in self._counts.items():
            if name in (it, it.rpartition(".")[0]):
                for number in range(int(begin / BUCKET), int(end / BUCKET) + 1):
                    if number in buckets:
                        found.due += buckets[number].due
                        found.bad += buckets[number].bad
        return found

    def unavailable(self, begin: float, end: float) -> list[str]:
        """Return the classes that were hardly served in a time."""
        return [
            name
            for name in sorted(self._counts)
            if (it := self.within(name, begin, end)).due and it.share > _UNAVAILABLE
        ]

    def is_as_before(self, baseline: Span, begin: float, end: float) -> bool:
        """Return whether each class was as in the baseline, in all of a time.

        That is, hardly more bad ones over all of it, and in each `STRETCH` nearly all that was due
        then, and no outage. A client that tries a dead node again each minute has a few bad ones
        then; they are its steady state. Among the writes of a cache, few as they are without a
        fault, they would be many: what was rare in its service does not tell. Nor does a command
        that reports nothing: it may be in the middle of what it tries.
        """
        length = baseline.end - baseline.begin
        stretches = max(1, int((end - begin) / STRETCH))
        width = (end - begin) / stretches
        for name in list(self._counts):
            before = self.within(name, baseline.begin, baseline.end)
            service = self.within(name.rpartition(".")[0], baseline.begin, baseline.end)
            if before.due < PARTIAL_SHARE * service.due:
                continue
            if _is_worse(self.within(name, begin, end), before, _BASELINE_MORE):
                return False
            for number in range(stretches):
                first = begin + number * width
                it = self.within(name, first, first + width)
                if it.due < _RATE_SHARE * before.due / length * width - 2:
                    return False
                if _is_worse(it, before, PARTIAL_SHARE):
                    return False
        return bool(self._counts)


def _is_worse(it: Count, before: Count, more: float) -> bool:
    """Return whether the share of bad ones is more than so much above that of before."""
    return it.bad > max(1, (before.share + more) * it.due)
