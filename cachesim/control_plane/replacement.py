"""Replaces dead nodes, Redis and Memcached alike, and reports their recovery."""

import random
from collections.abc import Callable, Collection, Iterable

from cachesim import elasticache
from cachesim.clock import Clock
from cachesim.control_plane.evidence import Evidence, answers, is_outdated
from cachesim.control_plane.reporter import Reporter
from cachesim.control_plane.timing import Timing
from cachesim.errors import CachesimError, NoPower


class Replacement:
    """Replaces dead nodes.

    Args:
        nodes: the names of the nodes to watch.
        replace: gives a node a new process; see `ControlPlane`.
        timing: returns the present timing.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        evidence: Evidence,
        replace: Callable[[str], None],
        timing: Callable[[], Timing],
        reporter: Reporter,
        clock: Clock,
    ) -> None:
        self._nodes = list(nodes)
        self._evidence = evidence
        self._replace_node = replace
        self._timing = timing
        self._reporter = reporter
        self._clock = clock

    def restart(self, seed: str) -> None:
        """Forget all evidence and all plans, and begin the draws anew."""
        self._seed = seed
        # The earliest moment at which each node's present process may have started.
        self._new_at = dict.fromkeys(self._nodes, self._clock.monotonic())
        # When a node died, and the seconds from then to its replacement.
        self._planned: dict[str, tuple[float, float]] = {}
        self._recovering: set[str] = set()
        # One stream for each node: a draw must not depend on what happened to other nodes.
        self._draws = {node: random.Random(f"{seed} replacement {node}") for node in self._nodes}

    def replace_dead(
        self,
        now: float,
        *,
        is_spared: Callable[[str], bool] = lambda _node: False,
        known_dead: Collection[str] = (),
    ) -> None:
        """Plan the replacement of dead nodes, and replace those whose time has come.

        Args:
            is_spared: whether a dead node is not to be replaced yet.
            known_dead: nodes whose death needs no detection.
        """
        timing = self._timing()
        for node in self._nodes:
            probe = self._evidence.probe(node)
            new_at = self._new_at[node]
            if probe is None or probe.answered:
                self._planned.pop(node, None)
                continue
            if is_outdated(probe, new_at, self._evidence):
                continue  # it was of the previous process
            if is_spared(node):
                self._planned.pop(node, None)
                continue
            if node not in self._planned:
                draws, is_known = self._draws[node], node in known_dead
                detection = 0.0 if is_known else timing.draw(draws, timing.detection)
                started = now if is_known else max(probe.since, new_at)
                delay = detection + timing.draw(draws, timing.replacement)
                self._planned[node] = started, delay
            started, delay = self._planned[node]
            # The time since when a silent node is dead may have become later meanwhile.
            if now >= max(started, probe.since, new_at) + delay:
                self._replace(node)

    def _replace(self, node: str) -> None:
        try:
            self._replace_node(node)
        except NoPower as error:
            self._reporter.record_once("waiting", node, str(error))
        except Exception as error:  # or it would end the tick, and with it all that others need
            text = error if isinstance(error, CachesimError) else repr(error)
            self._reporter.record_once("waiting", node, f"could not be replaced: {text}")
        else:
            del self._planned[node]
            self._new_at[node] = self._clock.monotonic()
            self.begin_recovery(node)

    def add(self, node: str) -> None:
        """Watch one more node."""
        self._nodes.append(node)
        self._new_at[node] = self._clock.monotonic()
        self._draws[node] = random.Random(f"{self._seed} replacement {node}")

    def remove(self, node: str) -> None:
        """Watch a node no more."""
        self._nodes.remove(node)
        self._planned.pop(node, None)
        self._recovering.discard(node)
        del self._new_at[node], self._draws[node]

    def note(self, node: str) -> None:
        """Note that one of the nodes was given a new process by others."""
        if node in self._new_at:
            self._planned.pop(node, None)
            self._new_at[node] = self._clock.monotonic()
            self.begin_recovery(node)

    def begin_recovery(self, node: str) -> None:
        """Report that a node recovers, unless that was reported already."""
        if node not in self._recovering:
            self._recovering.add(node)
            self._reporter.record("recovering", node, elasticache.recovering(node))

    def end_recoveries(self, is_recovered: Callable[[str], bool] | None = None) -> None:
        """Report the nodes that have recovered.

        Args:
            is_recovered: whether a node has recovered; None: a node that answers has.
        """
        for node in list(self._recovering):
            if is_recovered(node) if is_recovered else answers(self._evidence, node):
                self.forget_recovery(node)
                self._reporter.record("recovered", node, elasticache.recovered(node))

    def forget_recovery(self, node: str) -> None:
        """Do not report the end of a node's recovery."""
        self._recovering.discard(node)
