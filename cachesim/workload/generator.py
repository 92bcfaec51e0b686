"""The workers of a pod: they do the operations of its schedule at their due times.

One worker leads: it takes the next operation and waits for its due time, while the idle others wait
to lead. When it is due, the next one leads. So operations begin at their due times while there is
an idle worker, and none is put into a queue. One that can't begin within the deadline is shed.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from cachesim.history.rows import Operation, Outcome
from cachesim.workload.calls import Asked, Call
from cachesim.workload.schedule import Schedule
from cachesim.workload.values import Version

_NOBODY = -1
_NAP = 0.05
"""Seconds within which a stop is noticed."""


class Generator:
    """The workers of one pod.

    Args:
        pod: its name.
        asked: what the clients ask.
        workers: how many.
        deadline: seconds from its due time after which an operation does not begin any more.
        record: takes the finished operations.
    """

    def __init__(
        self,
        pod: str,
        schedule: Schedule,
        asked: Asked,
        *,
        workers: int,
        deadline: float,
        record: Callable[[Operation], None],
    ) -> None:
        self._pod = pod
        self._schedule = schedule
        self._asked = asked
        self._deadline = deadline
        self._record = record
        self._begin = float("inf")
        self._stopped = threading.Event()
        self._lead = threading.Lock()
        self._finishing = threading.Lock()
        self._is_over = False
        self._under_way: dict[int, tuple[Call, float, float]] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name=f"worker-{n}", daemon=True)
            for n in range(workers)
        ]

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""
        return len(self._threads) - len(self._under_way)

    def begin(self, at: float) -> None:
        """Begin the schedule.

        Args:
            at: when, in monotonic seconds.
        """
        self._begin = at
        for thread in self._threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """Begin no more operations, and wait until those under way have ended.

        What has not ended then is recorded as never ended. Idempotent.

        Args:
            patience: the longest wait, in seconds.
        """
        if self._stopped.is_set():
            return
        self._stopped.set()
        now = time.monotonic()
        until = now + patience
        with self._lead:
            self._shed_until(now)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        with self._finishing:
            self._is_over = True
            for worker, (call, due, start) in list(self._under_way.items()):
                self._record(self._row(worker, call, due, start, None, "info"))

    def _shed_until(self, now: float) -> None:
        """Shed what should have begun by now and can't any more. What still could is left out."""
        while True:
            after, draw = self._schedule.next()
            due = self._begin + after
            if due + self._deadline >= now:
                return
            self._shed(_NOBODY, draw(), due, now)

    def _shed(self, worker: int, call: Call, due: float, now: float) -> None:
        call.after("shed", None)
        self._finish(worker, self._row(worker, call, due, now, None, "shed"))

    def _work(self, worker: int) -> None:
        is_stopped, monotonic, sleep = self._stopped.is_set, time.monotonic, time.sleep
        while True:
            with self._lead:
                after, draw = self._schedule.next()
                due = self._begin + after
                # An event's own wait costs a quarter more, and each operation waits.
                while (left := due - monotonic()) > 0 and not is_stopped():
                    sleep(min(left, _NAP))
                if is_stopped():
                    return
                call = draw()
                start = monotonic()
                self._under_way[worker] = call, due, start
            if start - due <= self._deadline:
                self._perform(worker, call, due, start)
            else:
                self._shed(worker, call, due, start)
            self._under_way.pop(worker, None)

    def _perform(self, worker: int, call: Call, due: float, start: float) -> None:
        """Do a call, and what follows from it."""
        following: Call | None = call
        asked, monotonic = self._asked, time.monotonic
        while following is not None:
            call, following = following, None
            self._under_way[worker] = call, due, start
            asked.clear()
            read: Version | None = None
            outcome: Outcome = "ok"
            name = None
            try:
                read = call.send()
            except Exception as error:
                outcome, name = call.outcome_of(error), type(error).__name__
            end = monotonic()
            self._finish(worker, self._row(worker, call, due, start, end, outcome, read, name))
            following = call.after(outcome, read)
            due = start = end

    def _finish(self, worker: int, row: Operation) -> None:
        with self._finishing:
            if not self._is_over:
                self._record(row)
                self._under_way.pop(worker, None)

    def _row(
        self,
        worker: int,
        call: Call,
        due: float,
        start: float,
        end: float | None,
        outcome: Outcome,
        read: Version | None = None,
        error: str | None = None,
    ) -> Operation:
        asked: dict[str, Any] = {} if end is None else self._asked.told()
        return call.row(self._pod, worker, due, start, end, outcome, read, error=error, **asked)
