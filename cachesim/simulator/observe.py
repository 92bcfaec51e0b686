"""Observation: small real operations beside a test, and what became of them."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachesim.clock import Deadline, stands_still
from cachesim.errors import CachesimError
from cachesim.events import Events
from cachesim.history.rows import Kind, Operation
from cachesim.simulator.observing.lost import LostWrites
from cachesim.simulator.observing.observed import Observed
from cachesim.simulator.observing.probes import Probe, probe_of
from cachesim.simulator.observing.streams import Stream, stop
from cachesim.simulator.observing.tape import Tape
from cachesim.simulator.observing.workers import Tasks, Threads

_OPENING = 5.0  # seconds that connections have to be opened, before the schedule begins
_LOOK = 0.05  # seconds between two looks at whether an outage has ended
_LAST_CALLS = 5.0  # seconds that calls have at the end
_CHUNK = 1000  # keys that are read at once


@dataclass(frozen=True)
class Means:
    """What an observation needs of a topology.

    Attributes:
        events: its event log.
        speed: returns the speed of its control plane.
        read: returns what the Redis primary has under some keys.
    """

    events: Events
    speed: Callable[[], float]
    read: Callable[[Sequence[str]], Sequence[str | None]]

    @classmethod
    def of(cls, sim: Any) -> "Means":
        """Return those of a `Simulator`."""

        def read(keys: Sequence[str]) -> Sequence[str | None]:
            found: Sequence[str | None] = sim.servers.stored(sim.redis.primary.name, keys)
            return found

        return cls(sim.events, lambda: sim.control_plane.timing.speed, read)


class Observation(Observed):
    """What small operations beside a test tell. See `Observer` for how they are made.

    Attributes:
        reads, writes: what the operations of one kind tell.
    """

    def __init__(self, tape: Tape, probe: Probe, means: Means) -> None:
        super().__init__(tape, probe.kinds, probe.service)
        reads, writes = probe.kinds[:1], probe.kinds[1:]
        self.reads = Observed(tape, reads, f"{probe.service} reads")
        self.writes = Observed(tape, writes, f"{probe.service} writes")
        self._is_lasting = probe.is_lasting
        self._means = means
        self._lost: list[Operation] | CachesimError | None = None

    @property
    def lost_writes(self) -> list[Operation]:
        """The writes that Redis acknowledged, and did not have any more when the context ended.

        Each write has a key of its own, which the primary is asked for. Inside the context, it is
        asked now.

        Raises:
            CachesimError: the primary did not answer, or it was not Redis that was written to.
        """
        found = self._find_lost() if self._lost is None else self._lost
        if isinstance(found, CachesimError):
            raise found
        return found

    def settle(self, at: float) -> bool:
        """Let this be all if no outage is in progress and all is known until a time, and say so."""
        return self._tape.seal_if_settled(at)

    def cut_short(self) -> None:
        """Let what was recorded until now be all, as an error ends the context."""
        self._lost = CachesimError("the context of the observation ended with an error")
        self._tape.seal()

    def finish(self) -> None:
        """Find out what was lost. If it has not settled, let what was recorded until now be all."""
        self._tape.seal()
        self._lost = self._find_lost()

    def _find_lost(self) -> list[Operation] | CachesimError:
        if not self._is_lasting:
            return CachesimError("lost writes are those to Redis, and only a client shows them")
        acknowledged = [it for it in self.writes.operations if it.outcome == "ok"]
        if not acknowledged:
            return []
        try:
            found = [
                value
                for first in range(0, len(acknowledged), _CHUNK)
                for value in self._means.read([it.key for it in acknowledged[first:][:_CHUNK]])
            ]
        except CachesimError as error:
            return CachesimError(f"the primary could not be asked for what was written: {error}")
        lost = [
            it
            for it, value in zip(acknowledged, found, strict=True)
            if value is None or int(value) != it.written
        ]
        (writes,) = self._tape.figures(["write"])
        return LostWrites(lost, len(acknowledged), writes.begin)

    def __str__(self) -> str:
        return self._tape.timeline()


class Observer:
    """Makes small real operations, from the begin of a context to its end.

    The context's value is an `Observation`. With a client, keys of its own are read and written,
    each write to a new one. An asyncio client, or an `async def` function, is observed with
    `async with`, in the running event loop; all others by threads, in either form.

    Each operation is due at a time that does not depend on how long others take. If an outage is in
    progress at the end of the context, the observation goes on until it has ended.

    Args:
        target: a client of redis-py, valkey-py or pymemcache (a HashClient with a pool), or a
            function without arguments, whose operations count as reads.
        every: seconds from one read to the next, and from one write to the next.
        deadline: seconds from when an operation was due within which an answer is good.
        workers: how many reads, and how many writes, may be under way at once. None: 5 with a
            client, 1 with a function, which then need not be thread-safe.
        settle: the longest time that the end of the context waits for that of an outage, in
            seconds.

    Raises:
        TypeError: the target is neither a client nor a function.
        ValueError: a number is out of range, or several threads can't share the client.
    """

    def __init__(
        self,
        target: object,
        means: Means,
        *,
        every: float = 0.02,
        deadline: float = 1.0,
        workers: int | None = None,
        settle: float = 20.0,
    ) -> None:
        if not (every > 0 and deadline > 0 and settle >= 0 and (workers is None or workers > 0)):
            raise ValueError(
                "every, deadline and workers are above 0, and settle is not below: got "
                f"every={every!r}, deadline={deadline!r}, workers={workers!r}, settle={settle!r}"
            )
        self._probe = probe_of(target)
        self._means = means
        self._every, self._deadline, self._settle = every, deadline, settle
        self._count = self._probe.workers if workers is None else workers
        self._seen: Observation | None = None
        self._context: contextlib.AbstractContextManager[Observation]
        self._async_context: contextlib.AbstractAsyncContextManager[Observation]

    def __enter__(self) -> Observation:
        if self._probe.is_async:
            raise TypeError("this is asynchronous: observe it with `async with`")
        with self._threads() as (workers, streams):
            workers.open(_OPENING)
            self._context = self._by_threads(workers, streams)
            return self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    async def __aenter__(self) -> Observation:
        import asyncio

        if not self._probe.is_async:
            with self._threads() as (workers, streams):
                await asyncio.to_thread(workers.open, _OPENING)
                self._context = self._by_threads(workers, streams)
                return self._context.__enter__()
        self._async_context = self._by_tasks()
        return await self._async_context.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        import asyncio

        if not self._probe.is_async:
            return await asyncio.to_thread(self.__exit__, *error)
        await self._async_context.__aexit__(*error)
        return None

    def timeline(self) -> str:
        """Return the timeline of the last observation; empty if there is none."""
        return "" if self._seen is None else str(self._seen)

    @contextlib.contextmanager
    def _threads(self) -> Iterator[tuple[Threads, Mapping[Kind, Stream]]]:
        """Start threads. They end if the context does so with an error, such as a cancellation."""
        streams = self._make_streams()
        workers = Threads(self._probe, streams, self._count)
        try:
            yield workers, streams
        except BaseException:
            stop(streams)
            workers.begin()
            raise

    @contextlib.contextmanager
    def _by_threads(
        self, workers: Threads, streams: Mapping[Kind, Stream]
    ) -> Iterator[Observation]:
        try:
            seen = self._seen = self._begin(streams)
            try:
                workers.begin()
                yield seen
                for _ in self._until_settled(seen):
                    time.sleep(_LOOK)
            except BaseException:
                seen.cut_short()
                raise
        finally:
            stop(streams)
            workers.join(_LAST_CALLS)
        seen.finish()

    @contextlib.asynccontextmanager
    async def _by_tasks(self) -> AsyncIterator[Observation]:
        import asyncio

        streams = self._make_streams()
        workers = Tasks(self._probe, streams, self._count)
        try:
            await workers.open(_OPENING)
            seen = self._seen = self._begin(streams)
            try:
                workers.begin()
                yield seen
                for _ in self._until_settled(seen):
                    await asyncio.sleep(_LOOK)
            except BaseException:
                seen.cut_short()
                raise
        finally:
            stop(streams)
            await workers.join(_LAST_CALLS)
        await asyncio.to_thread(seen.finish)

    def _make_streams(self) -> dict[Kind, Stream]:
        if stands_still():  # the schedule would too, and the end not come
            raise CachesimError(
                "time stands still, so nothing can be observed: time.monotonic was replaced. For "
                'freezegun call freezegun.configure(extend_ignore_list=["cachesim"]) before'
            )
        keys = f"cachesim:{{{secrets.token_hex(4)}}}:"
        return {
            kind: Stream(kind, self._probe.service, keys, self._every, self._deadline)
            for kind in self._probe.kinds
        }

    def _begin(self, streams: Mapping[Kind, Stream]) -> Observation:
        begin = time.monotonic()
        for number, stream in enumerate(streams.values()):
            stream.begin = begin + self._every * number / 2  # reads and writes take turns
        means = self._means
        pace = self._every, self._deadline, self._count
        tape = Tape(streams, means.events, means.speed, begin, *pace)
        return Observation(tape, self._probe, means)

    def _until_settled(self, seen: Observation) -> Iterator[None]:
        """Yield as long as the end of the context is to wait."""
        at, limit = time.monotonic(), Deadline(self._settle)
        while not (seen.settle(at) or limit.expired):
            yield
