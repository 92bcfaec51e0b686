"""Taking snapshots for replicas and for the append-only file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cachesim.aio.scheduler import Scheduler
from cachesim.embedded.redis.keyspace.snapshot import Snapshot
from cachesim.embedded.redis.replication.backlog import Stream

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Keyspace


class Snapshots:
    """Takes snapshots of the data in time slices, while the node serves requests.

    Args:
        function_requests: returns the encoded requests that load the functions.
        defer: postpones a call while a script runs; see `ScriptRunner.defer`.

    Attributes:
        running: the snapshots that are being taken.
    """

    def __init__(
        self,
        store: "Keyspace",
        stream: Stream,
        scheduler: Scheduler,
        function_requests: Callable[[], Iterable[bytes]],
        defer: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._store = store
        self._stream = stream
        self._scheduler = scheduler
        self._function_requests = function_requests
        self._defer = defer
        self.running: list[Snapshot] = []

    def take(self, write: Callable[[bytes], object], done: Callable[[], None]) -> None:
        """Take a snapshot.

        Args:
            write: called repeatedly with encoded requests.
            done: called when the snapshot is complete, before the data changes again; not called
                if the snapshot is cancelled.
        """
        snapshot = Snapshot(self._store, self._function_requests, write)
        self.running.append(snapshot)

        def steps() -> Iterator[None]:
            for _ in snapshot.steps():
                if snapshot not in self.running:
                    return
                yield

        def end() -> None:
            if snapshot not in self.running:
                return
            if self._defer(end):
                return  # the script's effects are not in the stream yet
            self._stream.flush()
            snapshot.finish()
            self.running.remove(snapshot)
            self._stream.select_again()
            done()

        self._scheduler.run(steps(), end)

    def changed(self, keys: Sequence[bytes]) -> None:
        """Note that keys have changed."""
        for snapshot in self.running:
            snapshot.changed(keys)

    def flushed(self) -> None:
        """Note that all keys were deleted."""
        for snapshot in self.running:
            snapshot.flushed()

    def cancel(self) -> None:
        """Cancel all snapshots."""
        self.running.clear()
