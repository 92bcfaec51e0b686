"""Histories made by hand, for tests of what judges them."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from cachesim.history.reader import History
from cachesim.history.recorder import Recorder
from cachesim.history.rows import (
    Beat,
    EventRow,
    GeneratorReading,
    Kind,
    Operation,
    Outcome,
    Sample,
    SampleName,
    Step,
)

LATENCY = 0.002
NODES = ("redis-a", "redis-b", "redis-c")

FACTS: dict[str, Any] = {
    "speed": 1,
    "deadline": 1,
    "eps": 0.001,
    "baseline": {"begin": 0.0, "end": 10.0},
    "end_at": 100.0,
}
"""The facts of a history, where a test does not say otherwise."""


@contextmanager
def history_of(rows: Iterable[Any], **facts: Any) -> Iterator[History]:
    """Return a history of rows, in a file that is removed afterwards.

    Args:
        rows: of any of the tables.
        facts: those that differ from `FACTS`. None leaves one out.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        with Recorder(path, interval=3600) as recorder:
            recorder.add(*rows)
            for key, value in (FACTS | facts).items():
                if value is not None:
                    recorder.set(key, value)
        with History(path) as history:
            yield history


def times(begin: float, end: float, every: float) -> list[float]:
    """Return times from a begin to before an end."""
    return [begin + number * every for number in range(round((end - begin) / every))]


def operation(
    due: float,
    outcome: Outcome = "ok",
    took: float | None = LATENCY,
    *,
    kind: Kind = "write",
    late: float = 0.0,
    **more: Any,
) -> Operation:
    """Return an operation.

    Args:
        took: seconds from its start to its end; None: it never ended.
        late: seconds from due to start.
        more: further fields.
    """
    start = due + late
    fields: dict[str, Any] = {"pod": "p0", "worker": 0, "service": "sessions", "key": "k"} | more
    end = None if took is None else start + took
    return Operation(kind=kind, due=due, start=start, end=end, outcome=outcome, **fields)


def load(
    begin: float, end: float, every: float = 0.05, outcome: Outcome = "ok", **more: Any
) -> list[Operation]:
    """Return operations at a steady rate."""
    return [operation(at, outcome, **more) for at in times(begin, end, every)]


def beats(
    begin: float,
    end: float,
    *,
    nodes: Iterable[str] = NODES,
    kind: Literal["read", "write"] = "read",
    ok: bool = True,
    every: float = 0.1,
    took: float = 0.001,
) -> list[Beat]:
    """Return beats to nodes at a steady rate."""
    return [
        Beat(node, kind, at, at, at + took if ok else None, int(ok))
        for at in times(begin, end, every)
        for node in nodes
    ]


def samples(name: SampleName, node: str, values: Iterable[tuple[float, float]]) -> list[Sample]:
    """Return readings of a node, from (time, value)."""
    return [Sample(at, node, name, value) for at, value in values]


def readings(begin: float, end: float, pod: str = "p0", **more: Any) -> list[GeneratorReading]:
    """Return looks at a pod that has nothing to complain of, but for `more`."""
    fields: dict[str, Any] = {"lag": 0.0, "cpu": 0.1, "idle": 0} | more
    return [GeneratorReading(at=at, pod=pod, **fields) for at in times(begin, end, 0.1)]


def failover(
    lost_at: float,
    confirmed: float,
    *,
    old: str = "redis-a",
    new: str = "redis-b",
    seconds: float = 20.0,
    speed: float = 1.0,
    number: int = 1,
) -> list[EventRow]:
    """Return the control plane's events of a failover.

    Args:
        seconds: what detection and promotion take in production.
    """
    data = {"lost_at": lost_at, "detection": seconds * 0.75 / speed}
    data["promotion"] = seconds * 0.25 / speed
    promoting = lost_at + (confirmed - lost_at) * 0.75
    rows: list[tuple[str, float, str, dict[str, Any]]] = [
        ("detecting", lost_at, old, data),
        ("promoting", promoting, old, {}),
        ("failover", confirmed, new, {"source_type": "cache-cluster"}),
        ("failover", confirmed, "group", {"source_type": "replication-group"}),
    ]
    return [
        EventRow(number * 10 + n, at, kind, source, "", values)
        for n, (kind, at, source, values) in enumerate(rows)
    ]


def step(
    fault: dict[str, Any],
    begin: float | None,
    end: float | None,
    *,
    id: str = "step",
    **more: Any,
) -> Step:
    """Return a step that was applied and healed at once."""
    fields: dict[str, Any] = {
        "target": "",
        "begin_confirmed": begin,
        "end_confirmed": end,
        "witness": {"seen": True, "gone": True},
        "outcome": "applied",
    } | more
    return Step(id=id, fault=fault, begin_call=begin, end_call=end, **fields)


def kill(begin: float, end: float | None, *nodes: str) -> Step:
    """Return a step that kills nodes."""
    return step({"fault": "kill", "nodes": list(nodes or ["redis-a"])}, begin, end)
