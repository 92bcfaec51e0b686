"""Follows a topology while somebody looks at it, and tells all who look what has changed."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cachesim.dashboard.figures import figures
from cachesim.dashboard.picture import Picture, picture
from cachesim.errors import CachesimError, NotRunning
from cachesim.events import Event

if TYPE_CHECKING:
    from cachesim.runs.calls import Readings
    from cachesim.simulator.simulator import Simulator

EVERY = 1.0
"""Seconds from one reading of the servers to the next."""
KEPT = 600
"""The readings, and the events, that are kept for who looks later."""
_QUEUE = 100  # messages that wait for one who does not read them

Message = tuple[str, Any]
"""What has changed: its kind, and JSON."""


class Watch:
    """Follows a topology. It makes no call while nobody looks.

    To be used in one event loop. The kinds of messages: `picture`, `events` (numbered, new ones
    and some that were told), `history` (the readings until now), `figures` (one reading), `late`
    (messages were dropped: look again) and `ended`. After the last two nothing comes.

    Args:
        sim: a topology that runs.
    """

    def __init__(self, sim: "Simulator") -> None:
        self._sim = sim
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[Message]] = set()
        self._task: asyncio.Task[None] | None = None
        self._picture: Picture | None = None
        self._seen = 0  # events that were told
        self._before: Readings | None = None
        self._samples: deque[Mapping[str, Any]] = deque(maxlen=KEPT)

    @contextlib.asynccontextmanager
    async def looking(self) -> "AsyncIterator[asyncio.Queue[Message]]":
        """Yield a queue of messages. The first ones tell the state now, and the latest past.

        Raises:
            NotRunning: the topology has ended.
        """
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        now, events = await asyncio.to_thread(self._state)
        queue.put_nowait(("picture", now))
        first = max(0, len(events) - KEPT)
        queue.put_nowait(("events", _numbered(events[first:], first)))
        queue.put_nowait(("history", list(self._samples)))
        if not self._queues:
            self._picture, self._seen, self._before = now, len(events), None
            self._task = asyncio.create_task(self._follow())
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
            if not self._queues and self._task is not None:
                self._task.cancel()
                self._task = None

    def end(self, why: str) -> None:
        """Tell all who look that there is nothing more. Thread-safe."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._tell, "ended", why)

    def _state(self) -> tuple[Picture, list[Event]]:
        return picture(self._sim.topology, self._sim.servers.status()), list(self._sim.events)

    async def _follow(self) -> None:
        due = time.monotonic()
        try:
            while True:
                wait = max(0.0, due - time.monotonic())
                new = await asyncio.to_thread(self._sim.events.next, self._seen, wait)
                if new:
                    self._tell("events", _numbered(new, self._seen))
                    self._seen += len(new)
                await self._look()
                if time.monotonic() >= due:
                    due = time.monotonic() + EVERY
                    await self._read()
        except NotRunning as error:
            self._tell("ended", str(error))
        except CachesimError as error:
            self._tell("ended", f"The topology's process does not answer: {error}")

    async def _look(self) -> None:
        status = await asyncio.to_thread(self._sim.servers.status)
        now = picture(self._sim.topology, status)
        if self._picture is None or _lasting(now) != _lasting(self._picture):
            self._tell("picture", now)
        self._picture = now

    async def _read(self) -> None:
        primary = self._picture["primary"] if self._picture else None
        now = await asyncio.to_thread(self._sim.servers.readings)
        sample = {"at": round(time.time(), 2), "nodes": figures(now, self._before, primary)}
        self._before = now
        self._samples.append(sample)
        self._tell("figures", sample)

    def _tell(self, kind: str, data: Any) -> None:
        for queue in self._queues:
            if queue.full():  # who does not read begins again
                while not queue.empty():
                    queue.get_nowait()
                kind, data = "late", None
            queue.put_nowait((kind, data))


def _lasting(now: Picture) -> Mapping[str, Any]:
    """Return a picture without the times that pass by themselves."""
    return {**now, "faults": [{**it, "seconds": None} for it in now["faults"]]}


def _numbered(events: Sequence[Event], after: int) -> list[Mapping[str, Any]]:
    return [
        {
            "number": number,
            "at": event.date.timestamp(),
            "kind": event.kind,
            "source": event.source,
            "message": event.message,
            "fault": event.data.get("fault"),
        }
        for number, event in enumerate(events, after + 1)
    ]
