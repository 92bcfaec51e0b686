"""The expiry cycle, which removes expired keys before requests and in time slices."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from cachesim.aio.scheduler import Scheduler

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Keyspace

_AT_ONCE = 100  # expired keys that are removed before a request


class ExpiryCycle:
    """Removes expired keys on a primary.

    Args:
        removed: called with the removed keys, or with a key and its removed fields.
        defer: postpones a call while a script runs; see `ScriptRunner.defer`.

    Attributes:
        has_backlog: whether expired keys are left for later time slices.
    """

    def __init__(
        self,
        store: "Keyspace",
        scheduler: Scheduler,
        removed: Callable[[Sequence[bytes], Sequence[bytes]], None],
        defer: Callable[..., bool],
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._removed = removed
        self._defer = defer
        self.has_backlog = False

    def run(self) -> None:
        """Remove expired fields, and up to 100 expired keys; the others in time slices."""
        store = self._store
        if store.fields.soonest <= store.now:
            self._remove_fields()
        self._remove(store.delete_expired(_AT_ONCE))
        if not self.has_backlog and store.has_expired:
            self.has_backlog = True
            self._scheduler.add(self._take_turn, background=True)

    def expire(self, keys: Iterable[bytes]) -> None:
        """Remove those of the given keys that have expired."""
        self._remove(self._store.delete_expired_among(keys))

    def stop(self) -> None:
        """Stop removing keys: this node has become a replica, or its clients are paused."""
        self.has_backlog = False

    def _take_turn(self, until: float) -> None:
        if self._defer(self._take_turn, 0.0):
            return
        while self.has_backlog and self._scheduler.now() < until:
            self._remove(self._store.delete_expired(_AT_ONCE))
            self.has_backlog = self._store.has_expired
        if self.has_backlog:
            self._scheduler.add(self._take_turn, background=True)

    def _remove(self, keys: Sequence[bytes]) -> None:
        if keys:
            self._removed(keys, ())

    def _remove_fields(self) -> None:
        store = self._store
        for key, fields in store.fields.take(store.values, int(store.now * 1000)):
            value = store.values[key]
            for field in fields:
                value.remove(field)
            if not value:
                store.remove(key)
                store.dirty.pop()
            self._removed([key], fields)
