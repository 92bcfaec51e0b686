"""Blocked clients, which wait for keys, for replicas or for a script."""

from asyncio import TimerHandle
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachesim.protocols.resp import Error

_ROLE_CHANGED = (
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)


@dataclass(eq=False)
class Blocked:
    """A client that is blocked by a request.

    Attributes:
        keys: the keys whose change may end the wait; none if it waits for replicas.
        retry: answers the request if the changed key allows it. It must not raise, as it is called
            during the request of another client.
        unblock: answers with an error; None: answers as after a timeout.
        disconnect: answers with an error, and closes the connection.
        timer: the timer of the timeout; None if there is no timeout.
    """

    keys: tuple[bytes, ...]
    retry: Callable[[bytes | None], None]
    unblock: Callable[[Error | None], None]
    disconnect: Callable[[Error], None]
    timer: TimerHandle | None = None


class BlockedClients:
    """All blocked clients by key, in the order in which they were blocked.

    Args:
        may_serve: returns whether clients may be answered now; False while a script runs.
    """

    def __init__(self, may_serve: Callable[[], bool]) -> None:
        self._may_serve = may_serve
        self.everyone: dict[Blocked, None] = {}
        self._by_key: dict[bytes, dict[Blocked, None]] = {}
        self._ready: dict[bytes, None] = {}
        self._passed_over: set[bytes] = set()

    def add(self, blocked: Blocked) -> None:
        """Add a client."""
        self.everyone[blocked] = None
        for key in blocked.keys:
            self._by_key.setdefault(key, {})[blocked] = None

    def remove(self, blocked: Blocked) -> None:
        """Remove a client. Idempotent."""
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

    def pass_over(self, keys: Iterable[bytes]) -> None:
        """Let clients wait on when these keys change next."""
        for key in keys:
            self._passed_over.add(key)
            self._ready.pop(key, None)

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note that keys have changed."""
        for key in keys:
            if key in self._by_key and key not in self._passed_over:
                self._ready[key] = None
        self._passed_over.clear()

    def serve(self) -> None:
        """Answer those clients whose changed keys allow it."""
        while self._ready and self._may_serve():
            key = next(iter(self._ready))
            del self._ready[key]
            for blocked in list(self._by_key.get(key, ())):
                if blocked in self.everyone:
                    blocked.retry(key)

    def replicas_acknowledged(self) -> None:
        """Answer those clients for which enough replicas have acknowledged."""
        for blocked in list(self.everyone):
            if not blocked.keys:
                blocked.retry(None)

    def unblock_all(self, error: Error) -> None:
        """Answer all clients that wait for keys with an error."""
        for blocked in list(self.everyone):
            if blocked.keys:
                blocked.unblock(error)

    def disconnect_all(self) -> None:
        """Answer all clients that the role has changed, and close their connections."""
        for blocked in list(self.everyone):
            blocked.disconnect(Error(_ROLE_CHANGED))
