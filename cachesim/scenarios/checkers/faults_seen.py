"""Gate: every fault was there, was gone after its heal, and the workload met it.

Rule: each step has a witness that is neither the answer of what injected it nor an error of the
workload's clients. Where the history has one, it decides:

- `latency`: the median of the beat's answers from the touched nodes rose by 80 to 120 % of the
  value, and fell again;
- `blackhole`, `refuse`, `reset` between clients and nodes, `isolate`, `az-power`: the touched nodes
  answered no beat that began while it was applied;
- `kill`, `stop`, `pause`: they did not answer the first five, as a node may be replaced meanwhile;
- `loss`: of the beats that did not wait behind a late one, about as many came late as should;
- `memory-fill`: the memory of the nodes was in use to at least 80 % of what was asked for;
- `connection-limit`: the nodes' limit was lower than in the baseline;
- `answer`, `delay`, `slow`: emulated nodes counted requests that they worked on;
- `expire`: more keys expired within a second than in the second before; `flush`: most of the keys
  were gone by then;
- `hot-key`: the nodes served more requests a second than in the baseline, by half of the rate;
- `replace`: a counter of each node began anew, as it has another process;
- `replication-lag`: a replica's offset was behind the primary's by at least half the lag.

What the runner saw itself, the step's `witness`, must agree, and stands alone for other faults, and
for steps that change while they last. At least 20 operations were due to the touched nodes while it
was applied, or since then if it is one that happens once (`expire`, `flush`, `replace`), those
included whose node is not known. A client that tries another node tells only the last one that it
asked, so of each service those also count that would have gone to the touched nodes: the share that
they answered in the 5 s before the step. A command that reports no operations may have met it if it
had not ended by then.

Unknown: a step was not seen, was not gone after its heal, or was not met by the workload; it had no
target or its event never came, unless the file says to skip it; it could not be applied; or all
steps were skipped.
"""

import json
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from cachesim.history.reader import History, Span
from cachesim.history.rows import Beat, Step
from cachesim.scenarios.checkers import command
from cachesim.scenarios.checkers.effects import (
    Effect,
    has_expired,
    has_fewer_connections,
    has_fewer_keys,
    has_full_memory,
    has_injected,
    has_loss,
    has_new_process,
    is_read_more,
)
from cachesim.scenarios.checkers.faults import ONCE, STREAK, nodes_of, nodes_of_services
from cachesim.scenarios.checkers.lags import offset_lags
from cachesim.scenarios.checkers.promotions import primary_at
from cachesim.scenarios.verdict import Result, Verdict, unknown

NAME = "faults"
MET = 20
BEFORE = 5.0
"""Seconds before a step that tell which nodes a service asks."""
LATENCY_LEAST, LATENCY_MOST = 0.8, 1.2
LAG_SHARE = 0.5
SETTLED = 0.5
"""Seconds, real, after a heal in which the effect may still be seen, or is just being seen."""
SILENCING = frozenset({"blackhole", "refuse", "reset", "isolate", "az-power"})
REPLACED = frozenset({"kill", "stop", "pause"})
"""Faults of nodes that the control plane may end by a replacement."""
OF_SERVERS: Mapping[str, Effect] = {
    "loss": has_loss,
    "memory-fill": has_full_memory,
    "connection-limit": has_fewer_connections,
    "answer": has_injected,
    "delay": has_injected,
    "slow": has_injected,
    "hot-key": is_read_more,
    "expire": has_expired,
    "flush": has_fewer_keys,
    "replace": has_new_process,
}
"""Faults whose effect beats and samples show."""

_MET = """
SELECT count(*) FROM operations WHERE due BETWEEN ? AND ? AND (
    node IN (SELECT value FROM json_each(?))
    OR node IS NULL AND service IN (SELECT value FROM json_each(?))
)
"""

_DUE = "SELECT service, count(*) FROM operations WHERE due BETWEEN ? AND ? GROUP BY service"
_SHARES = """
SELECT service, avg(node IN (SELECT value FROM json_each(?))) FROM operations
WHERE due BETWEEN ? AND ? AND node NOT NULL GROUP BY service
"""


def check(history: History) -> Verdict:
    """Return whether all steps of the timeline took effect, and ended."""
    steps = history.steps()
    found = {step.id: problem_of(history, step) for step in steps}
    problems = {id: problem for id, problem in found.items() if problem}
    if problems:
        reason = "; ".join(f"{id}: {problem}" for id, problem in problems.items())
        return unknown(NAME, reason, details=problems)
    count = sum(step.outcome == "applied" for step in steps)
    if steps and not count:
        return unknown(NAME, "all steps were skipped: no fault was there")
    return Verdict(NAME, Result.PASS, reason=f"{count} steps took effect, and ended")


def problem_of(history: History, step: Step) -> str:
    """Return why a step can't be taken to have happened; empty if it can."""
    if step.outcome == "skipped":
        return ""
    if step.outcome != "applied":
        why = str(step.witness.get("why", ""))
        if step.outcome == "missing":
            return why or "it had no target, or its event never came"
        return f"it could not be applied or healed{why and f': {why}'}"
    begin = step.begin_call if step.begin_confirmed is None else step.begin_confirmed
    if begin is None:
        return "it never began"
    end = history.end_at if step.end_call is None else step.end_call
    nodes = nodes_of(history, step.fault)
    span = Span(begin, end)
    # What happens once may have happened before its call has returned, and is seen when it has.
    called = step.begin_call if step.fault.get("fault") in ONCE else None
    shown = span if called is None else Span(called, max(begin, end) + SETTLED)
    seen, told = _own_witness(history, step.fault, nodes, shown), step.witness.get("seen")
    if False in (seen, told) or (seen is None and told is None):
        return "its effect was not seen" if False in (seen, told) else "nobody saw its effect"
    if step.end_call is not None:
        gone = _is_gone(history, step, nodes)
        if False in (gone, step.witness.get("gone")):
            return "its effect was still there after its heal"
    if command.applies(history) and command.is_silent(history):
        # Whether it met the fault is not known; its exit code is what is asked for.
        ended = history.meta.get("command_ended_at")
        is_late = ended is not None and ended <= begin
        return "the command had ended before it began" if is_late else ""
    # And who asks its nodes after its heal meets it too.
    felt = span if called is None else Span(begin, history.end_at)
    met = max(_met(history, nodes, felt), _meant(history, nodes, felt))
    return "" if met >= MET else f"the workload met it with {met} operations, {MET} are needed"


def _own_witness(
    history: History, fault: dict[str, Any], nodes: frozenset[str], span: Span
) -> bool | None:
    """Return whether the history shows a fault's effect. None: it does not tell."""
    name = str(fault.get("fault"))
    if (
        fault.get("stages")
        or not nodes
        or (name != "replication-lag" and not _is_between_clients(fault))
    ):
        return None
    if name == "latency":
        rises = [_rise(history, node, span) for node in nodes]
        told = [rise for rise in rises if rise is not None]
        low, high = (share * fault["ms"] / 1000 for share in (LATENCY_LEAST, LATENCY_MOST))
        return all(low <= rise <= high for rise in told) if told else None
    if name in SILENCING:
        beats = [it for node in nodes for it in _beats(history, node, span)]
        return not any(_answered_within(beat, span) for beat in beats) if beats else None
    if name in REPLACED:
        first = [it for node in nodes for it in _beats(history, node, span)[:STREAK]]
        return not any(_answered_within(beat, span) for beat in first) if first else None
    if name in OF_SERVERS:
        return OF_SERVERS[name](history, fault, nodes, span)
    if name == "replication-lag":
        return _is_behind(history, nodes, span, LAG_SHARE * fault["seconds"])
    return None


def _is_between_clients(fault: dict[str, Any]) -> bool:
    """Return whether a fault is on the way between clients and nodes, where beats go."""
    return all(str(link).startswith("client-to-") for link in fault.get("links", ()))


def _beats(history: History, node: str, span: Span) -> list[Beat]:
    where = "node = ? AND kind = 'read' AND start >= ? AND start <= ?"
    return list(history.beats(where, node, *span))


def _answered_within(beat: Beat, span: Span) -> bool:
    return bool(beat.ok) and beat.end is not None and beat.end <= span.end


def _rise(history: History, node: str, span: Span) -> float | None:
    """Return by how much the median answer to beats rose over that of the baseline, in seconds."""
    if history.baseline is None:
        return None
    before = _answers(_beats(history, node, history.baseline))
    during = _answers(_beats(history, node, span))
    return median(during) - median(before) if before and during else None


def _answers(beats: Iterable[Beat]) -> list[float]:
    return [it.end - it.start for it in beats if it.ok and it.end is not None]


def _is_behind(history: History, nodes: frozenset[str], span: Span, least: float) -> bool | None:
    """Return whether a replica among the nodes was behind its primary by some seconds."""
    lags = [
        lag
        for node in nodes
        if node != primary_at(history, span.begin)
        for at, lag in zip(*history.compute(offset_lags).get(node, ([], [])), strict=True)
        if span.begin <= at <= span.end
    ]
    return max(lags) >= least if lags else None


def _is_gone(history: History, step: Step, nodes: frozenset[str]) -> bool | None:
    """Return whether a fault's nodes answer beats again, as quickly as before, after its heal."""
    fault = step.fault
    if fault.get("stages"):
        return None
    end = step.end_call if step.end_confirmed is None else step.end_confirmed
    if end is None or not nodes or not _is_between_clients(fault):
        return None
    later = [
        it.begin_call
        for it in history.steps()
        if it.id != step.id and it.begin_call is not None and it.begin_call >= (step.end_call or 0)
    ]
    span = Span(end + SETTLED, min(later, default=history.end_at))
    if span.end <= span.begin:
        return None
    name = str(fault.get("fault"))
    if name == "latency":
        rises = [_rise(history, node, span) for node in nodes]
        limit = (1 - LATENCY_LEAST) * fault["ms"] / 1000
        return (
            all(rise <= limit for rise in rises if rise is not None)
            if any(rise is not None for rise in rises)
            else None
        )
    if name in ONCE:
        return None
    if name in OF_SERVERS:
        is_there = OF_SERVERS[name](history, fault, nodes, span)
        return None if is_there is None else not is_there
    if name in SILENCING | REPLACED:
        beats = {node: _beats(history, node, span) for node in nodes}
        if not all(beats.values()):
            return None
        return all(any(it.ok for it in found) for found in beats.values())
    return None


def _met(history: History, nodes: frozenset[str], span: Span) -> int:
    """Return how many operations were due to nodes, or to nodes that are not known."""
    services = history.compute(nodes_of_services)
    near = [service for service, used in services.items() if not used or used & nodes]
    [(count,)] = history.rows(
        _MET, span.begin, span.end, json.dumps(sorted(nodes)), json.dumps(near)
    )
    return int(count)


def _meant(history: History, nodes: frozenset[str], span: Span) -> int:
    """Return how many operations would have gone to nodes, as those before a span did."""
    before = Span(span.begin - BEFORE, span.begin)
    due = dict(history.rows(_DUE, *span))
    return sum(
        int(due.get(service, 0) * share)
        for service, share in history.rows(_SHARES, json.dumps(sorted(nodes)), *before)
    )
