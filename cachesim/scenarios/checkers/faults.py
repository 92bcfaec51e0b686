"""The steps of the timeline: which nodes they touched, and when which node was dead or able."""

from collections.abc import Iterator
from typing import Any

from cachesim.history.reader import History, Span
from cachesim.history.rows import ORIGIN, Beat, Step

STREAK = 5
"""So many answers in a row make a node able, since the first of them."""
DEADLY = frozenset({"kill", "stop", "az-power"})
"""The faults after which a node's process is gone."""
ONCE = frozenset({"expire", "flush", "replace"})
"""Faults that happen once, at their begin: nothing is there that could be gone after the heal."""

EMPTYING = frozenset({"expire", "flush"})
"""The faults that delete keys."""


def all_nodes(history: History) -> frozenset[str]:
    """Return the names of all nodes that the history knows."""
    query = "SELECT DISTINCT node FROM beats UNION SELECT DISTINCT node FROM samples"
    return frozenset(node for (node,) in history.rows(query))


def removed(history: History) -> frozenset[str]:
    """Return the names of the nodes that were removed, and not added again."""
    found: set[str] = set()
    for event in history.events("scaled"):
        found = (found | set(event.data.get("removed", ()))) - set(event.data.get("added", ()))
    return frozenset(found)


def scaled(history: History) -> frozenset[str]:
    """Return the names of the nodes that were added or removed."""
    return frozenset(
        node
        for event in history.events("scaled")
        for key in ("added", "removed")
        for node in event.data.get(key, ())
    )


def nodes_of(history: History, fault: dict[str, Any]) -> frozenset[str]:
    """Return the nodes that a fault touches: those that it names, and those of its zones and links.

    A stale endpoint touches the nodes that it leads to, a change of the number of nodes those that
    were added or removed.

    Args:
        fault: its JSON form, with full names. One that was applied to several zones may have them
            as `zones`.
    """
    if fault.get("fault") == "scale":
        return history.compute(scaled)
    services = [str(name).removeprefix("endpoint-") for name in fault.get("endpoints") or ()]
    named = {str(name) for key in ("nodes", "replicas") for name in fault.get(key) or ()}
    where = [*(fault[key] for key in ("zone", "a", "b") if key in fault), *fault.get("zones", ())]
    zones = [str(zone).removeprefix("az-") for zone in where]
    within = {
        node
        for node in history.compute(all_nodes)
        if node.rpartition("-")[2].rstrip("0123456789") in zones
        or node.rpartition("-")[0] in services
    }
    links = {str(link).partition("-to-")[2].removesuffix("-bus") for link in fault.get("links", ())}
    return frozenset(named | within | links)


def touched(history: History) -> frozenset[str]:
    """Return the nodes that any step touched."""
    steps = history.compute(applied)
    return frozenset(node for step in steps for node in nodes_of(history, step.fault))


def nodes_of_services(history: History) -> dict[str, frozenset[str]]:
    """Return the nodes that answered each service; none for one whose client does not tell.

    An origin is behind the nodes, and asks none of them.
    """
    found: dict[str, set[str]] = {}
    query = "SELECT DISTINCT service, node FROM operations WHERE service != ?"
    for service, node in history.rows(query, ORIGIN):
        found.setdefault(service, set()).update({node} - {None})
    return {service: frozenset(nodes) for service, nodes in found.items()}


def applied(history: History) -> list[Step]:
    """Return the steps that were applied, by the time of their begin."""
    return [
        step
        for step in history.steps()
        if step.outcome == "applied" and step.begin_call is not None
    ]


def emptied(history: History) -> list[Span]:
    """Return when steps deleted keys of Redis, from the call of each until it was seen."""
    redis = {sample.node for sample in history.samples("role")}
    found = []
    for step in history.compute(applied):
        if step.fault.get("fault") in EMPTYING and redis & nodes_of(history, step.fault):
            assert step.begin_call is not None  # noqa: S101 - for the type checker
            end = step.begin_confirmed
            if step.fault.get("stages"):  # again and again
                end = history.end_at if step.end_call is None else step.end_call
            found.append(Span(step.begin_call, step.begin_call if end is None else end))
    return found


def death_before(history: History, node: str, at: float) -> Span | None:
    """Return when a node was killed, from the call to its effect, if it was dead at a time.

    The control plane may have given it a new process while the step goes on.
    """
    renewed = [it.at for it in history.events("recovering") if it.source == node and it.at <= at]
    for step in reversed(history.compute(applied)):
        begin, end = step.begin_call, step.end_call
        if begin is None or begin > at or (end is not None and end <= at):
            continue
        if renewed and renewed[-1] > begin:
            continue
        if step.fault.get("fault") in DEADLY and node in nodes_of(history, step.fault):
            return Span(begin, at if step.begin_confirmed is None else step.begin_confirmed)
    return None


def able_since(history: History, node: str | None, after: float) -> Span | None:
    """Return since when a node is able: the first of `STREAK` answers to beats in a row.

    Args:
        node: its name, for its reads; None for the writes to the primary.
        after: answers to what began earlier do not count.

    Returns:
        Between the beat before, which had no answer, and the first answer. None: it never was.
    """
    failed, streak = after, 0
    first = Span(after, after)
    for beat in _beats_after(history, node, after):
        if not beat.ok or beat.end is None:
            failed, streak = beat.start, 0
            continue
        streak += 1
        if streak == 1:
            first = Span(failed, beat.end)
        if streak == STREAK:
            return first
    return None


def _beats_after(history: History, node: str | None, after: float) -> Iterator[Beat]:
    if node is None:
        return history.beats("kind = 'write' AND start >= ?", after)
    return history.beats("kind = 'read' AND start >= ? AND node = ?", after, node)
