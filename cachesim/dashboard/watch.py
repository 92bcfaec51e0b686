"""Follows a topology while somebody looks at it, and tells all who look what has changed."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cachesim.dashboard.figures import Figures
from cachesim.dashboard.looking import Look, Sample
from cachesim.dashboard.picture import Picture
from cachesim.errors import CachesimError, NotRunning
from cachesim.events import Event

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator

EVERY = 1.0
"""Seconds from one reading of the servers to the next."""
SELDOM = 3.0
"""The same, while nothing happens."""
KEPT = 300
"""The readings, the events and the messages that are kept for who looks later."""
_QUEUE = 100  # messages that wait for one who does not read them

Message = tuple[str, Any]
"""What has changed: its kind, and JSON."""
_Queue = asyncio.Queue[Message]


class Watch:
    """Follows a topology. It makes no call while nobody looks.

    To be used in one event loop. The kinds of messages: `picture`, `events` (numbered), `history`
    (the readings until now), `figures` (one reading), `alarms` (all), `inbox` (new messages),
    `run` (of a scenario), `late` (messages were dropped: look again) and `ended`. After the last
    two nothing comes.

    Args:
        sim: a topology that runs.
        run: returns the state of the scenario's run, if there is one.
    """

    def __init__(self, sim: "Simulator", run: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._sim = sim
        self._run = run
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._queues: set[_Queue] = set()
        self._beginning = asyncio.Lock()
        self._look = Look(sim)
        self._told: Picture | None = None
        self._seen = 0  # events that were told
        self._events: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._alarms: Sequence[Mapping[str, Any]] = ()
        self._inbox: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self._told_run: Mapping[str, Any] = {}

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[_Queue]:
        """Yield a queue of messages. The first ones tell the state now, and the latest past.

        Raises:
            NotRunning: the topology has ended.
        """
        queue: _Queue = asyncio.Queue(_QUEUE)
        async with self._beginning:
            if self._task is None or self._task.done():
                self._loop = asyncio.get_running_loop()
                await self._see()
                await self._hear()
                self._task = asyncio.create_task(self._follow())
            self._queues.add(queue)
        for kind, data in (
            ("picture", self._told),
            ("events", list(self._events)),
            ("history", list(self._samples)),
            ("alarms", self._alarms),
            ("inbox", list(self._inbox)),
            ("run", self._told_run),
        ):
            queue.put_nowait((kind, data))
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

    async def _follow(self) -> None:
        due = time.monotonic()
        try:
            while True:
                wait = max(0.0, due - time.monotonic())
                if await asyncio.to_thread(self._sim.events.next, self._seen, wait):
                    await self._see()
                if time.monotonic() >= due:
                    begun = time.monotonic()
                    await self._see()  # a few changes have no event
                    is_calm = await self._measure()
                    await self._hear()
                    due = begun + (SELDOM if is_calm else EVERY)
        except NotRunning as error:
            self._tell("ended", str(error))
        except CachesimError as error:
            self._tell("ended", f"The topology's process does not answer: {error}")
        except Exception as error:
            self._tell("ended", f"The page does not follow the topology any longer: {error!r}")
            raise

    async def _see(self) -> None:
        """Tell of new events, and of the state if it has changed."""
        now = await asyncio.to_thread(self._look.see)
        new = _numbered(await asyncio.to_thread(self._sim.events.since, self._seen), self._seen)
        if new:
            self._seen += len(new)
            self._events += new
            self._tell("events", new)
        if self._told is None or _lasting(now) != _lasting(self._told):
            self._tell("picture", now)
        self._told = now

    async def _measure(self) -> bool:
        """Tell the figures, and return whether nothing happens: no fault, and as they were."""
        sample = await asyncio.to_thread(self._look.measure)
        before = self._samples[-1]["nodes"] if self._samples else None
        self._samples.append(sample)
        self._tell("figures", sample)
        is_well = self._told is not None and not self._told["faults"]
        return is_well and _rounded(sample["nodes"]) == _rounded(before)

    async def _hear(self) -> None:
        """Tell of alarms that have changed, of new messages, and of how a run goes on."""
        alarms = await asyncio.to_thread(self._look.alarms)
        if alarms != self._alarms:
            self._alarms = alarms
            self._tell("alarms", alarms)
        last = self._inbox[-1]["number"] if self._inbox else 0
        if new := await asyncio.to_thread(self._look.messages, last):
            self._inbox += new
            self._tell("inbox", new)
        if (run := self._run()) != self._told_run:
            self._told_run = run
            self._tell("run", run)

    def _tell(self, kind: str, data: Any) -> None:
        for queue in self._queues:
            if not queue.full():
                queue.put_nowait((kind, data))
                continue
            while not queue.empty():  # who does not read begins again
                queue.get_nowait()
            queue.put_nowait(("late", None))


def _lasting(now: Picture) -> Mapping[str, Any]:
    """Return a picture without the times that pass by themselves."""
    return {**now, "faults": [{**it, "seconds": None} for it in now["faults"]]}


def _rounded(nodes: Mapping[str, Figures] | None) -> object:
    """Return figures as a person would tell them apart."""
    if nodes is None:
        return None
    values: Mapping[str, Mapping[str, Any]] = {name: {**it} for name, it in nodes.items()}
    return {name: [round(it or 0) for it in some.values()] for name, some in values.items()}


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
