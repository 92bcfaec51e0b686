"""Those who make the operations of an observation: threads, or tasks of an event loop."""

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cachesim.clock import Deadline
from cachesim.history.rows import Kind
from cachesim.simulator.observing.probes import Probe
from cachesim.simulator.observing.streams import Stream, Turn

if TYPE_CHECKING:
    from asyncio import Task

_NO_KEY = "cachesim:nothing"
_NAP = 0.05  # seconds, at most, until a task sees that its stream has ended


class _Workers:
    def __init__(self, probe: Probe, streams: Mapping[Kind, Stream]) -> None:
        self._probe = probe
        self._streams = streams

    def _next(self, stream: Stream, worker: int) -> Turn | None:
        writes = self._streams.get("write")
        return stream.take(worker, writes.newest if writes else 0)

    def _operate(self, turn: Turn) -> Any:
        """Make an operation. What it returns is the version that it has read, if any."""
        if turn.written is not None:
            return self._probe.write(turn.key, turn.written)
        return self._probe.read(turn.key)


class Threads(_Workers):
    """Threads, for what blocks. They end with their streams.

    Args:
        count: how many work on each stream.
    """

    def __init__(self, probe: Probe, streams: Mapping[Kind, Stream], count: int) -> None:
        super().__init__(probe, streams)
        self._may_begin = threading.Event()
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._work, args=(stream, number), name="cachesim-observe", daemon=True
            )
            for stream in streams.values()
            for number in range(count)
        ]
        self._opened = threading.Semaphore(0)
        for thread in self._threads:
            thread.start()

    def open(self, limit: float) -> None:
        """Wait until all connections are open, for so many seconds at most."""
        deadline = Deadline(limit)
        for _ in self._threads:
            self._opened.acquire(timeout=deadline.remaining)

    def begin(self) -> None:
        """Begin with the first turns."""
        self._may_begin.set()

    def join(self, limit: float) -> None:
        """Wait for their end. Calls that are under way have so many seconds."""
        self._is_over.set()
        self._may_begin.set()
        deadline = Deadline(limit)
        for thread in self._threads:
            thread.join(deadline.remaining)

    def _work(self, stream: Stream, worker: int) -> None:
        if self._probe.opens:
            with contextlib.suppress(Exception):
                self._probe.read(_NO_KEY)
        self._opened.release()
        self._may_begin.wait()
        while (turn := self._next(stream, worker)) is not None:
            self._is_over.wait(max(0.0, turn.due - time.monotonic()))
            if stream.begins(turn):
                with stream.under_way(turn):
                    turn.read = self._operate(turn)


class Tasks(_Workers):
    """Tasks of the running event loop, for what is awaited. They end with their streams.

    Args:
        count: how many work on each stream.
    """

    def __init__(self, probe: Probe, streams: Mapping[Kind, Stream], count: int) -> None:
        import asyncio

        super().__init__(probe, streams)
        self._may_begin = asyncio.Event()
        self._opened = asyncio.Semaphore(0)
        self._tasks: list[Task[None]] = [
            asyncio.create_task(self._work(stream, number))
            for stream in streams.values()
            for number in range(count)
        ]

    async def open(self, limit: float) -> None:
        """Wait until all connections are open, for so many seconds at most."""
        import asyncio

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                for _ in self._tasks:
                    await self._opened.acquire()

    def begin(self) -> None:
        """Begin with the first turns."""
        self._may_begin.set()

    async def join(self, limit: float) -> None:
        """Wait for their end. Calls that are under way have so many seconds, then they are cut."""
        import asyncio

        self._may_begin.set()
        _, late = await asyncio.wait(self._tasks, timeout=limit)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, stream: Stream, worker: int) -> None:
        import asyncio

        if self._probe.opens:
            with contextlib.suppress(Exception):
                await self._probe.read(_NO_KEY)
        self._opened.release()
        await self._may_begin.wait()
        while (turn := self._next(stream, worker)) is not None:
            while (wait := min(turn.due, stream.end) - time.monotonic()) > 0:
                await asyncio.sleep(min(wait, _NAP))
            if stream.begins(turn):
                with stream.under_way(turn, _is_of_the_task):
                    turn.read = await self._operate(turn)


def _is_of_the_task(error: BaseException) -> bool:
    """Return whether an error is to end the running task, and is not that of a call in it."""
    import asyncio

    if isinstance(error, asyncio.CancelledError):
        # It may be what the call awaits that was cancelled, and not this task.
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)
