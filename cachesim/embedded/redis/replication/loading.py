"""Loading a node's data: the requests that recreate it are run in time slices."""

from collections.abc import Callable, Iterable, Iterator

from cachesim.aio.scheduler import SLICE, Scheduler


class Loader:
    """Loads data from the requests of the append-only file or of a full resync.

    Args:
        replay: runs a request.
        wall: returns seconds since the epoch.
        changed: called when loading has begun or ended.

    Attributes:
        is_loading: whether data is being loaded. Meanwhile the node gossips with other nodes, but
            answers LOADING to clients.
        since: when the last loading began, in seconds since the epoch.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        replay: Callable[[list[bytes]], None],
        wall: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._replay = replay
        self._wall = wall
        self._changed = changed
        self.is_loading = False
        self.since = 0.0

    def load(self, requests: Iterable[list[bytes]], done: Callable[[], None]) -> None:
        """Run requests in time slices.

        Args:
            done: called when all requests have run.
        """
        self.is_loading = True
        self.since = self._wall()
        self._changed()

        def steps() -> Iterator[None]:
            for arguments in requests:
                self._replay(arguments)
                yield

        def end() -> None:
            self.is_loading = False
            done()
            self._changed()

        self._scheduler.run(steps(), end, self._scheduler.now() + SLICE)
