"""Blocked clients: those that wait for keys, for replicas, or until a time."""

from asyncio import TimerHandle
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachesim.protocols.resp import Error


@dataclass(eq=False)
class Blocked:
    """A client that is blocked by a request.

    Attributes:
        keys: the keys whose change may end the wait; none if it waits for replicas.
        retry: answers the request if that is possible now.
        unblock: answers with an error; with None as if the time were up.
        disconnect: answers with an error, and closes the connection.
        timer: ends the wait; None if it has no end.
    """

    keys: tuple[bytes, ...]
    retry: Callable[[], None]
    unblock: Callable[[Error | None], None]
    disconnect: Callable[[Error], None]
    timer: TimerHandle | None = None


class BlockedClients:
    """All blocked clients by key, in the order in which they came.

    Args:
        may_serve: whether they may be answered now; not while a script runs.
    """

    def __init__(self, may_serve: Callable[[], bool]) -> None:
        self._may_serve = may_serve
        self.everyone: dict[Blocked, None] = {}
        self._by_key: dict[bytes, dict[Blocked, None]] = {}
        self._ready: dict[bytes, None] = {}

    def add(self, blocked: Blocked) -> None:
        """Add a client."""
        self.everyone[blocked] = None
        for key in blocked.keys:
            self._by_key.setdefault(key, {})[blocked] = None

    def remove(self, blocked: Blocked) -> None:
        """Remove a client. Repeating it is harmless."""
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
        """The keys that clients wait for."""
        return self._by_key.keys()

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note that keys have changed."""
        for key in keys:
            if key in self._by_key:
                self._ready[key] = None

    def serve(self) -> None:
        """Answer the clients whose keys have changed, as far as that is possible."""
        while self._ready and self._may_serve():
            key = next(iter(self._ready))
            del self._ready[key]
            for blocked in list(self._by_key.get(key, ())):
                if blocked in self.everyone:
                    blocked.retry()

    def replicas_acknowledged(self) -> None:
        """Answer the clients that wait for replicas, as far as that is possible."""
        for blocked in list(self.everyone):
            if not blocked.keys:
                blocked.retry()

    def disconnect_all(self, error: Error) -> None:
        """Answer all clients with an error, and close their connections."""
        for blocked in list(self.everyone):
            blocked.disconnect(error)
