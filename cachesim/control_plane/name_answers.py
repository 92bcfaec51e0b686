"""What a name server answers for a configuration endpoint, as its clients keep it."""

import random
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence

from cachesim.clock import Clock, SystemClock
from cachesim.topology import Endpoint


class NameAnswers:
    """The nodes that a configuration endpoint leads to. Thread-safe.

    An answer holds for some time, in which its nodes may die or change their addresses.

    Args:
        healthy: returns the address of each node that is healthy now, by its name.
        ttl: returns for how many seconds the next answer holds.
        draws: chooses among the nodes.
    """

    def __init__(
        self,
        healthy: Callable[[], Mapping[str, Endpoint]],
        ttl: Callable[[], float],
        draws: random.Random,
        clock: Clock | None = None,
    ) -> None:
        self._healthy = healthy
        self._ttl = ttl
        self._draws = draws
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._answer: Mapping[str, Endpoint] = {}
        self._until = float("-inf")
        self._holders: set[Hashable] = set()

    @property
    def answer(self) -> Mapping[str, Endpoint]:
        """The address of each node as it was when the present answer was given, by its name.

        While no node is healthy, it is the answer of before.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now >= self._until and not self._holders:
                self._answer = dict(self._healthy()) or self._answer
                self._until = now + self._ttl()
            return self._answer

    def choose(self) -> Endpoint | None:
        """Return the address for a new connection; None: no node has ever been healthy."""
        found: Sequence[Endpoint] = tuple(self.answer.values())
        return self._draws.choice(found) if found else None

    def hold(self, holder: Hashable) -> None:
        """Keep the present answer until this holder, and all others, release it."""
        _ = self.answer  # as clients had it at this moment
        with self._lock:
            self._holders.add(holder)

    def release(self, holder: Hashable) -> None:
        """End what `hold` began, with a new answer. Repeating it is harmless."""
        with self._lock:
            if holder in self._holders:
                self._holders.discard(holder)
                self._until = float("-inf")

    def forget(self) -> None:
        """Give a new answer next time, whoever holds this one."""
        with self._lock:
            self._holders.clear()
            self._until = float("-inf")
