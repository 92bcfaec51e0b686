"""The client's constants that made an outage as long as it was, each with a remedy.

What is told comes from the recorded calls: how long they took, how often they were sent, with which
error, and whether workers were free. The built-in clients' constants are the architecture's and
their libraries'.
"""

from collections.abc import Iterator
from typing import NamedTuple

from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import able_since, nodes_of_services
from cachesim.scenarios.checkers.promotions import promotions
from cachesim.scenarios.checkers.survey import begin_of, survey
from cachesim.scenarios.checkers.time_scale import INFINITE
from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Cause
from cachesim.scenarios.report.services import services

TIMEOUT = 0.5
"""Seconds: `socket_timeout` of the Redis client, `timeout` of the Memcached client."""
DEAD_TIMEOUT = 60.0
"""Seconds for which pymemcache leaves out a node that it holds for dead."""
MANY = 4
"""Timeouts in a call from which it has too many. Each is a try, or a question for the slots."""
SHED_SHARE = 0.2
"""The share of bad operations, never begun, from which busy workers are a cause."""

_FEWER = (
    "Give RedisCluster fewer retries: "
    "`retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=1), 3)` ends a call after about 2 s "
    "and leaves its worker to others."
)
_CALLS = """
SELECT CASE outcome WHEN 'ok' THEN 'an answer, too late' ELSE coalesce(error, 'an error') END,
    count(*), max(end - start), sum(end - start), max(attempts)
FROM operations
WHERE service = ? AND due >= ? AND end IS NOT NULL
    AND (outcome IN ('info', 'fail') OR outcome = 'ok' AND end > due + ?)
GROUP BY 1 ORDER BY 2 DESC
"""
_SHED = "SELECT count(*) FROM operations WHERE service = ? AND outcome = 'shed' AND due >= ?"
_HELD = """
SELECT service, sum(coalesce(end, :end) - start) FROM operations
WHERE due >= :begin AND outcome != 'shed' AND coalesce(end, :end) - start >= :least GROUP BY service
"""
_FIRST_ANSWER = """
SELECT min(end) FROM operations WHERE service = ? AND node = ? AND outcome = 'ok' AND start >= ?
"""


class _Calls(NamedTuple):
    """The bad calls of a service that ended alike, most often with an error."""

    error: str
    calls: int
    longest: float
    held: float
    attempts: int | None


def causes(history: History) -> list[Cause]:
    """Return what in the clients made the outages as long as they were."""
    slow = list(_slow_calls(history))
    hidden = [] if any(it.remedy == _FEWER for it in slow) else _patience(history)
    return [
        *_busy_workers(history),
        *slow,
        *hidden,
        *_early_ends(history),
        *_dead_nodes(history),
    ]


def _services(history: History) -> list[str]:
    """Return the services with bad operations, the one with the most first."""
    bad = dict.fromkeys(services(history), 0)
    for name, it in history.compute(survey).items():
        if name.service in bad:
            bad[name.service] += it.all.bad
    return sorted(filter(bad.__getitem__, bad), key=lambda service: -bad[service])


def _failed(history: History, service: str) -> list[_Calls]:
    return list(
        map(_Calls._make, history.rows(_CALLS, service, begin_of(history), history.deadline))
    )


def _slow_calls(history: History) -> Iterator[Cause]:
    """Yield what made bad calls hold their workers, the service whose did longest first."""
    slow = {
        service: [it for it in _failed(history, service) if it.longest >= TIMEOUT]
        for service in _services(history)
    }
    for service in sorted(slow, key=lambda name: -sum(it.held for it in slow[name])):
        if not slow[service]:
            continue
        it = max(slow[service], key=lambda one: one.longest)
        took = figures.seconds(it.longest)
        held = f"A call took up to {took} and ended with {it.error}; its worker served nobody else."
        waits = int(it.longest / TIMEOUT)
        if service == "sessions" and waits >= MANY:
            yield Cause(
                service=service,
                constant=f"socket_timeout 0.5 s x {figures.several(waits, 'wait')}",
                observed=held,
                remedy=_FEWER,
            )
        elif service == "api_cache":
            yield Cause(
                service=service,
                constant=f"timeout 0.5 s x {waits}",
                observed=held,
                remedy="A cache on the same network answers in a millisecond: `timeout=0.1, "
                "connect_timeout=0.1` frees the worker five times as soon.",
            )
        elif service != "sessions":
            yield Cause(
                service=service,
                constant=f"a call of {took}",
                observed=held,
                remedy="Bound the time of a call, retries included, below the deadline.",
            )


def _patience(history: History) -> Iterator[Cause]:
    """Yield what a compressed failover hides: calls that wait for it in production."""
    lengths = [it.production for it in history.compute(promotions) if it.lost_at is not None]
    patience = history.patience_of("sessions")
    if history.speed != 1 and lengths and history.deadline < patience < INFINITE:
        yield Cause(
            service="sessions",
            constant=f"patience {figures.seconds(patience)}",
            observed="So long may a call take, with all retries, by the client's own constants. "
            f"Production's failover takes {figures.seconds(max(lengths))} here: calls wait for it, "
            "each with its worker.",
            remedy=_FEWER,
        )


def _early_ends(history: History) -> Iterator[Cause]:
    """Yield which retries were over before the failover was."""
    lengths = [it.confirmed - it.lost_at for it in history.compute(promotions) if it.lost_at]
    if not lengths or "sessions" not in _services(history):
        return
    failover = max(lengths) * history.speed
    for it in _failed(history, "sessions"):
        if it.error in ("ConnectionError", "ClusterDownError") and it.longest < failover:
            took = figures.seconds(it.longest)
            yield Cause(
                service="sessions",
                constant=f"{figures.several(it.attempts or 1, 'request')} in {took}",
                observed=f"{figures.several(it.calls, 'call')} ended with {it.error} after {took} "
                f"or less, with all retries. The failover took {figures.seconds(failover)}.",
                remedy="No retry within a request outlives that. Answer without the session "
                "meanwhile, or retry in the background with a backoff.",
            )
            return


def _busy_workers(history: History) -> Iterator[Cause]:
    """Yield where operations were not begun as all workers of their pod waited in calls."""
    shares = {}
    for service in _services(history):
        [(shed,)] = history.rows(_SHED, service, begin_of(history))
        every = history.compute(survey).items()
        bad = sum(it.all.bad for name, it in every if name.service == service)
        if shed >= SHED_SHARE * bad:
            shares[service] = shed / bad
    if not shares:
        return
    held = dict(history.rows(_HELD, begin=begin_of(history), least=TIMEOUT, end=history.end_at))
    waits = ""
    remedy = (
        "Shorter calls free the workers. A circuit breaker answers at once while a node is gone."
    )
    if len(held) > 1 or not held.keys() <= shares.keys():
        holder = max(held, key=lambda name: held[name])
        share = figures.share(held[holder] / sum(held.values()))
        waits = f" {share} of that waiting was in calls of {holder}."
        if spared := [service for service in shares if service != holder]:
            remedy += f" Workers of its own would have kept {spared[0]} served."
    told = " and ".join(f"{figures.share(share)} of {name}" for name, share in shares.items())
    pool = history.meta.get("pool")
    yield Cause(
        service=", ".join(shares),
        constant=f"{pool} workers a pod" if pool else "the workers of a pod",
        observed=f"All workers of a pod waited in calls: of the bad operations {told} were never "
        f"begun.{waits}",
        remedy=remedy,
    )


def _dead_nodes(history: History) -> Iterator[Cause]:
    """Yield Memcached nodes that clients left out for long after they were able again."""
    waits = {}
    asked = history.compute(nodes_of_services).get("api_cache", frozenset())
    for node, _ in _memcached_touched(history):
        if history.heal_at is None or node not in asked:
            continue
        able = able_since(history, node, history.heal_at)
        if able is None:
            continue
        [(first,)] = history.rows(_FIRST_ANSWER, "api_cache", node, able.end)
        waits[node] = (history.end_at if first is None else first) - able.end
    longest = max(waits.values(), default=0.0)
    if longest > DEAD_TIMEOUT / 4:
        node = max(waits, key=lambda name: waits[name])
        yield Cause(
            service="api_cache",
            constant="dead_timeout 60 s",
            observed=f"{node} answered again, and no client asked it for "
            f"{figures.seconds(longest)}.",
            remedy="`dead_timeout=10` looks for the node six times as often, at the price of one "
            "timeout each time while it is dead.",
        )


def _memcached_touched(history: History) -> list[tuple[str, int]]:
    nodes = "SELECT node, sum(NOT ok) FROM beats WHERE node LIKE 'memcached-%' GROUP BY node"
    return [(node, failed) for node, failed in history.rows(nodes) if failed]
