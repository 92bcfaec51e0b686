"""Clients that wait for keys, replicas or time."""

from asyncio import TimerHandle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachesim.embedded.redis.connections.client import Answer

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session


@dataclass(eq=False)
class Blocked:
    """A request that is not answered yet.

    Attributes:
        keys: those whose change may let it be answered.
        retry: gives the answer, or None while there is none.
        timed_out: gives the answer when time is up.
    """

    session: "Session"
    keys: tuple[bytes, ...]
    retry: Callable[[], Answer]
    timed_out: Callable[[], Answer]
    timer: TimerHandle | None = None


class Waiting:
    """All that are blocked, by key, in the order in which they came.

    Args:
        may_serve: whether it is time for them: not within a script.
    """

    def __init__(self, may_serve: Callable[[], bool]) -> None:
        self._may_serve = may_serve
        self.everyone: dict[Blocked, None] = {}
        self._by_key: dict[bytes, dict[Blocked, None]] = {}
        self._ready: dict[bytes, None] = {}

    def add(self, blocked: Blocked) -> None:
        """Let one wait."""
        self.everyone[blocked] = None
        for key in blocked.keys:
            self._by_key.setdefault(key, {})[blocked] = None

    def remove(self, blocked: Blocked) -> None:
        """Let one wait no longer. Repeating it is harmless."""
        self.everyone.pop(blocked, None)
        if blocked.timer is not None:
            blocked.timer.cancel()
        for key in blocked.keys:
            if (there := self._by_key.get(key)) is not None:
                there.pop(blocked, None)
                if not there:
                    del self._by_key[key]

    @property
    def keys(self) -> Iterable[bytes]:
        """Those that anybody waits for."""
        return self._by_key.keys()

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note that keys have changed."""
        for key in keys:
            if key in self._by_key:
                self._ready[key] = None

    def serve(self) -> None:
        """Answer those whose keys have changed, as far as they can be."""
        while self._ready and self._may_serve():
            key = next(iter(self._ready))
            del self._ready[key]
            for blocked in list(self._by_key.get(key, ())):
                if blocked in self.everyone:
                    blocked.session.try_again(blocked)
