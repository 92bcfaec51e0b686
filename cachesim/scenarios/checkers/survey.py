"""One pass over all operations: what was due, what was bad, and the outages of every class.

What is good is in `cachesim.history.outcomes`. A class is a service's reads, or its writes (which
include deletes and touches); each pod and each node has its own. Loads from an origin are of no
class.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cachesim.history.outages import PARTIAL_SHARE, Track
from cachesim.history.outcomes import error_of, is_good
from cachesim.history.percentiles import percentile
from cachesim.history.reader import History
from cachesim.history.rows import ORIGIN

_OPERATIONS = """
SELECT service, kind = 'read', pod, node, due, end, outcome, error, read IS NOT NULL
FROM operations
WHERE due >= ? AND due <= ? AND service != ? ORDER BY due
"""


class OperationClass(NamedTuple):
    """A class of operations."""

    service: str
    kind: Literal["read", "write"]

    def __str__(self) -> str:
        return f"{self.service}.{self.kind}"


@dataclass
class ClassSurvey:
    """The operations of one class.

    Attributes:
        all: the track of all of them.
        pods, nodes: a track for each.
        errors: how many were bad, by error, `shed` and `info` being errors of their own.
        undecided: how many were under way when the run ended, before their deadline. They are
            neither good nor bad, and counted nowhere else.
        baseline_due, baseline_bad: how many were due, and bad, in the baseline.
        baseline_hits: how many in the baseline read a version.
        latencies: seconds from due to answer of those that were good in the baseline.
    """

    all: Track
    pods: dict[str, Track] = field(default_factory=dict)
    nodes: dict[str, Track] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    baseline_due: int = 0
    baseline_bad: int = 0
    baseline_hits: int = 0
    latencies: list[float] = field(default_factory=list)


Survey = dict[OperationClass, ClassSurvey]


def begin_of(history: History) -> float:
    """Return when the run began: with the baseline, or with the first operation."""
    if history.baseline is not None:
        return history.baseline.begin
    [(found,)] = history.rows("SELECT min(due) FROM operations")
    return float(found or 0)


def survey(history: History) -> Survey:
    """Return what became of the operations of each class."""
    begin, end, deadline = begin_of(history), history.end_at, history.deadline
    baseline_end = history.baseline.end if history.baseline else begin
    found: Survey = {}
    for service, is_read, pod, node, due, ended, outcome, error, hit in history.rows(
        _OPERATIONS, begin, end, ORIGIN
    ):
        name = OperationClass(service, "read" if is_read else "write")
        it = found.get(name)
        if it is None:
            it = found[name] = ClassSurvey(Track(begin))
        limit = due + deadline
        if ended is None and outcome != "shed" and limit > end:
            it.undecided += 1
            continue
        good = is_good(outcome, due, ended, deadline)
        if due < baseline_end:
            it.baseline_due += 1
            it.baseline_bad += not good
            it.baseline_hits += hit
            if good:
                it.latencies.append(ended - due)
        if not good:
            it.errors[error_of(outcome, error)] += 1
        it.all.add(due, good)
        track = it.pods.get(pod)
        if track is None:
            track = it.pods[pod] = Track(begin)
        track.add(due, good)
        if node is not None:
            track = it.nodes.get(node)
            if track is None:
                track = it.nodes[node] = Track(begin)
            track.add(due, good)
    return found


def classes_of(history: History, service: str, kind: str | None) -> list[OperationClass]:
    """Return the classes of a service to judge: the one of a kind, or all but the rare ones.

    A cache is written to when a read misses: without a fault such writes are few. They are judged
    if they are asked for.
    """
    every = {it: found for it, found in history.compute(survey).items() if it.service == service}
    if kind is not None:
        return [it for it in every if it.kind == kind]
    before = sum(found.baseline_due for found in every.values())
    due = sum(found.all.due for found in every.values())
    return [
        it
        for it, found in every.items()
        if (
            found.baseline_due >= PARTIAL_SHARE * before
            if found.baseline_due
            else found.all.due >= PARTIAL_SHARE * due
        )
    ]


def baseline_p99(history: History) -> float:
    """Return the 99th percentile of all latencies in the baseline, in seconds; 0 without any."""
    every = sorted(it for found in history.compute(survey).values() for it in found.latencies)
    return percentile(every, 0.99) if every else 0.0
