"""Runs made by hand, as whole as real ones: a zone without power, and what clients see of it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cachesim.history.rows import Beat, FinalRead, GeneratorReading, Operation, Outcome, Sample
from cachesim.scenarios import report
from cachesim.scenarios.judging import judgement_of
from tests.scenarios.histories import failover, history_of, step, times

SCENARIO: dict[str, Any] = {
    "scenario": {
        "version": 1,
        "name": "az-outage",
        "description": "The zone of the Redis primary loses its power.\nConnections to it hang.",
        "baseline": {"for": 10.0, "steady": {}},
        "workload": {"pods": 4},
        "deadline": 1.0,
        "expect": {
            "lost_writes": {"max": "bound"},
            "unavailability": {"sessions.write": {"longest": 20.0}, "api_cache": {"longest": 10.0}},
            "recovery": {"within": 60.0},
            "stale_reads": {"sessions": {"max": "bound"}},
        },
    },
    "seed": 7,
    "steps": [
        {
            "id": "outage",
            "at": 10.0,
            "after": None,
            "delay": 0.0,
            "for": 40.0,
            "fault": "az-power",
            "fields": {},
            "target": {"zone": {"of": "primary"}},
            "flap": None,
            "if_none": "fail",
        }
    ],
}
"""The resolved timeline of `az_outage`."""


@dataclass(frozen=True)
class Times:
    """When what happens, in monotonic seconds."""

    cut: float = 20.0
    promoting: float = 33.5
    able: float = 39.0
    tail: float = 4.0
    heal: float = 60.0
    end: float = 90.0


def az_outage(
    *, rate: float = 200.0, pods: int = 4, when: Times | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the rows and the facts of a run in which the primary's zone lost its power.

    Args:
        rate: operations a second over all pods.
    """
    at = when or Times()
    rows: list[Any] = list(operations(at, rate, pods))
    last: dict[str, Operation] = {}
    for row in rows:
        if row.written is not None and row.outcome == "ok" and row.service == "sessions":
            last[row.key] = row
    for key, row in last.items():
        for node in ("redis-a", "redis-b", "redis-c"):
            role: Literal["primary", "replica"] = "primary" if node == "redis-b" else "replica"
            rows.append(FinalRead(key, node, role, at.end + 1, "w", row.written))
    rows += failover(at.cut, at.able, seconds=at.able - at.cut)
    rows.append(
        step(
            {"fault": "az-power", "zone": "a"},
            at.cut,
            at.heal,
            id="outage",
            target="az-a",
            witness={"seen": True, "gone": True, "what": "beats to redis-a had no answer"},
        )
    )
    rows += _samples(at)
    rows += _beats(at)
    rows += [
        GeneratorReading(moment, f"pod-{pod}", 0.001, 0.2, 0 if at.cut < moment < at.able else 6)
        for pod in range(pods)
        for moment in times(0, at.end, 0.1)
    ]
    facts: dict[str, Any] = {
        "scenario": SCENARIO,
        "expect": SCENARIO["scenario"]["expect"],
        "backend": "embedded",
        "seed": 7,
        "speed": 1,
        "deadline": 1,
        "eps": 0.005,
        "client": {"patience": 6, "comeback": 120},
        "pods": pods,
        "pool": 10,
        "settings": {
            "engine": "redis",
            "detection_seconds": [10, 20],
            "promotion_seconds": [5, 10],
        },
        "versions": {"cachesim": "0.1.0", "redis": "8.1.0"},
        "utc_offset": 1_700_000_000.0,
        "baseline": {"begin": 0.0, "end": 10.0},
        "heal_at": at.heal,
        "end_at": at.end,
    }
    return rows, facts


def operations(at: Times, rate: float, pods: int) -> Iterator[Operation]:
    """Yield the operations: sessions time out until the clients follow."""
    draws = random.Random(1)
    sequence = 0
    for number, due in enumerate(times(0, at.end, 1 / rate)):
        pod, turn = number % pods, number // pods
        sessions = turn % 2 == 0
        kind = ("read", "write", "read", "read")[turn // 2 % 4]
        tail = at.tail * (1.5 if pod == 1 else 0.7)
        took = draws.lognormvariate(-6.5, 0.4)
        outcome: Outcome = "ok"
        error = None
        node = f"memcached-{'abc'[number % 3]}"
        if sessions:
            node = "redis-a" if due < at.able else "redis-b"
            if kind == "read" and number % 3 == 0:
                node = "redis-c"
            if at.cut <= due < at.able + tail:
                waits = draws.random() < 0.03
                outcome, error = ("info", "TimeoutError") if waits else ("shed", None)
                took = 5.6 if waits else 1.0
        elif node == "memcached-a" and at.cut <= due < at.cut + 2 and kind == "read":
            outcome, error, took = "fail", "TimeoutError", 0.5
        written = None
        key = f"session:{number % 500}" if sessions else f"api:products:list:{number % 400}"
        ledger = 0
        if kind == "write" and sessions:
            sequence += 1
            written, ledger = sequence, int(sequence % 5 == 0)
            key = (
                f"session:{pod}-{'once' if ledger else 'often'}-{sequence % 97 + sequence * ledger}"
            )
        yield Operation(
            f"pod-{pod}", number % 10, "sessions" if sessions else "api_cache",
            "write" if kind == "write" else "read", key, due, due + 0.0002,
            None if outcome == "shed" else due + 0.0002 + took, outcome,
            None if error or outcome == "shed" else node,
            writer="w" if written else None, written=written,
            read=1 if kind == "read" and outcome == "ok" and number % 10 and not sessions else None,
            error=error, ledger=ledger,
        )  # fmt: skip


def _samples(at: Times) -> Iterator[Sample]:
    for moment in times(0, at.end, 0.2):
        for zone in "abc":
            node, dark = f"redis-{zone}", zone == "a" and at.cut <= moment < at.heal
            primary = "redis-a" if moment < at.able else "redis-b"
            if dark:
                continue
            behind = 0 if node == primary else 40 + 4000 * (zone == "c" and 50 < moment < 55)
            yield Sample(moment, node, "role", float(node == primary))
            yield Sample(moment, node, "offset", moment * 2000 - behind)
            yield Sample(moment, node, "noeviction", 1)
            storm = 40 if at.able < moment < at.able + 5 else 0
            yield Sample(moment, node, "connections", 40 * (node == primary) + storm)
            yield Sample(moment, node, "connections_received", 40 + storm * (moment - at.able))


def _beats(at: Times) -> Iterator[Beat]:
    for moment in times(0, at.end, 0.1):
        for node in ("redis-a", "redis-b", "redis-c", "memcached-a", "memcached-b", "memcached-c"):
            dark = node.endswith("-a") and at.cut <= moment < at.heal + 0.3
            end = None if dark else moment + 0.001
            yield Beat(
                node, "read", moment, moment, end, int(not dark), "timeout" if dark else None
            )
        dark = at.cut <= moment < at.able
        end = None if dark else moment + 0.001
        yield Beat("redis-b", "write", moment, moment, end, int(not dark))


def write_reports(folder: Path, rows: list[Any], facts: dict[str, Any]) -> None:
    """Judge a run, and write its reports."""
    with history_of(rows, **facts) as history:
        timeline = history.meta.get("scenario") or SCENARIO
        report.write(folder, history, judgement_of(history), timeline, environ={})
