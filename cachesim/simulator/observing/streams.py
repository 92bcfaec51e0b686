"""The operations of one kind that an observation makes: when they are due, and how they ended."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cachesim.clock import Clock, SystemClock
from cachesim.history.rows import Kind, Operation, Outcome

_WHO = "observer"  # the pod and the writer of all operations


@dataclass
class Turn:
    """One operation that a worker has taken.

    Attributes:
        worker: the worker's number.
        due: when it is to begin, in monotonic seconds.
        was_idle: whether the worker had nothing to do when it was due.
        key: its key.
        written: the version that it writes. None: it reads.
        start: when it began. None: it has not.
        read: the version that it has read. None: none.
    """

    worker: int
    due: float
    was_idle: bool
    key: str
    written: int | None
    start: float | None = None
    read: int | None = None


class Stream:
    """The operations of one kind, on a schedule that is fixed in advance. Thread-safe.

    A worker takes a turn and waits until it is due. While all workers are in calls, turns wait, and
    count from when they were due. One that has waited for longer than the deadline is shed. Each
    write has a key of its own.

    Args:
        kind: of the operations.
        service: what they talk to.
        keys: what their keys begin with.
        every: seconds from one to the next.
        deadline: seconds within which an answer is good.

    Attributes:
        begin: when the first one is due, in monotonic seconds. It is set before the first turn.
        end: no operation is due after it.
        newest: the newest version whose write was acknowledged; 0: none.
        stall: by how much a worker that had nothing to do began too late, at most, in seconds.
    """

    def __init__(
        self,
        kind: Kind,
        service: str,
        keys: str,
        every: float,
        deadline: float,
        clock: Clock | None = None,
    ) -> None:
        self.kind = kind
        self.service = service
        self.begin = 0.0
        self.end = float("inf")
        self.newest = 0
        self.stall = 0.0
        self._keys, self._every, self._deadline = keys, every, deadline
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._taken = 0
        self._turns: dict[int, Turn] = {}  # by worker
        self._ended: list[Operation] = []

    def take(self, worker: int, newest: int) -> Turn | None:
        """Return a worker's next turn; None: there is none any more.

        Args:
            newest: the version whose key is read.
        """
        with self._lock:
            due = self._due(self._taken)
            if due > self.end:
                return None
            self._taken += 1
            written = self._taken if self.kind == "write" else None
            was_idle = self._clock.monotonic() <= due
            turn = Turn(worker, due, was_idle, f"{self._keys}{written or newest}", written)
            self._turns[worker] = turn
        return turn

    def begins(self, turn: Turn) -> bool:
        """Let a turn begin now. False: it is shed, or the schedule has ended before it was due."""
        now = self._clock.monotonic()
        late = now - turn.due
        with self._lock:
            if turn.due > self.end:
                del self._turns[turn.worker]
                return False
            turn.start = now
            if turn.was_idle:
                self.stall = max(self.stall, late)
            if late > self._deadline:
                self._end(turn, "shed", now)
                return False
        return True

    @contextmanager
    def under_way(
        self, turn: Turn, is_raised: Callable[[BaseException], bool] = lambda _error: False
    ) -> Iterator[None]:
        """Record how a turn ends: with the context, and with its error, which is not raised.

        Args:
            is_raised: whether an error is raised all the same, as it is not the operation's: the
                turn does not end then.
        """
        error: str | None = None
        try:
            yield
        except BaseException as raised:  # pytest.fail() raises what is no Exception
            if is_raised(raised):
                raise
            error = type(raised).__name__
        with self._lock:
            # The client may have sent it before, so that an error does not say: not applied.
            self._end(turn, "info" if error else "ok", self._clock.monotonic(), error)
            if error is None:
                self.newest = max(self.newest, turn.written or 0)

    def stop(self) -> None:
        """Let no operation be due from now on; none at all, if it has not begun."""
        with self._lock:
            self.end = self._clock.monotonic() if self.begin else float("-inf")

    def known(self) -> tuple[list[Operation], float]:
        """Return the operations of which all is known, by due time, and until when that is.

        All was known of those that were due before that time: they were answered, or they failed,
        or their deadline has passed.
        """
        overdue = self._clock.monotonic() - self._deadline
        with self._lock:
            found, turns, number = list(self._ended), list(self._turns.values()), self._taken
        while (due := self._due(number)) < overdue and due <= self.end:
            found.append(self._operation(Turn(0, due, False, "", None), "shed"))
            number += 1
        until = min([due, *(it.due for it in turns if it.due >= overdue)])
        for turn in turns:
            outcome: Outcome = "shed" if turn.start is None else "info"
            found.append(self._operation(turn, outcome))
        return sorted((it for it in found if it.due < until), key=lambda it: it.due), until

    def _due(self, number: int) -> float:
        return self.begin + number * self._every

    def _end(self, turn: Turn, outcome: Outcome, end: float, error: str | None = None) -> None:
        del self._turns[turn.worker]
        self._ended.append(self._operation(turn, outcome, end, error))

    def _operation(
        self, turn: Turn, outcome: Outcome, end: float | None = None, error: str | None = None
    ) -> Operation:
        return Operation(
            pod=_WHO,
            worker=turn.worker,
            service=self.service,
            kind=self.kind,
            key=turn.key,
            due=turn.due,
            start=turn.due if turn.start is None else turn.start,
            end=end,
            outcome=outcome,
            writer=None if turn.written is None else _WHO,
            written=turn.written,
            read_writer=None if turn.read is None else _WHO,
            read=turn.read,
            error=error,
            ledger=int(turn.written is not None),
        )


def stop(streams: Mapping[Kind, Stream]) -> None:
    """Let no operation be due from now on."""
    for stream in streams.values():
        stream.stop()
