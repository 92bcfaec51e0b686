"""The process of a pod, from its order to its end.

On stdin, one JSON object a line, come the order, then when to begin, then the end. On stdout goes
what became of them. The end of stdin is the end of the process that started it, and the pod's.
See `cachesim.workload.pods` for the other side.
"""

import contextlib
import gc
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from cachesim.errors import CachesimError, WorkloadError, as_json
from cachesim.history.recorder import Recorder
from cachesim.history.rows import Operation
from cachesim.workload.calls import Asked, Call
from cachesim.workload.generator import Generator
from cachesim.workload.plan import POOL, Plan
from cachesim.workload.readings import Readings
from cachesim.workload.schedule import Schedule, Stream

CRASHED = 70
"""The exit code of a pod with a mistake of its own, `EX_SOFTWARE`."""

_INTERVAL = 0.5
"""Seconds between two times that a pod writes to the history: each costs more than the rows."""


Load = Callable[[Iterable[Iterable[Call]]], None]
"""Writes what has to be there before the begin, and records it."""


class Work(Protocol):
    """What a pod does between its begin and its end."""

    @property
    def idle(self) -> int:
        """How many workers have nothing to do."""

    def begin(self, at: float) -> None:
        """Begin at a monotonic time."""

    def stop(self, patience: float) -> None:
        """End, within some seconds."""


@dataclass(frozen=True)
class Order:
    """What a pod is told.

    Attributes:
        pod: its number, from 0.
        env: the variables of `cachesim env`.
        path: the history.
        deadline: seconds.
        environment: the variables of the process that ordered it.
    """

    plan: Plan
    pod: int
    env: Mapping[str, str]
    path: Path
    deadline: float
    seed: int
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.plan.names[self.pod]

    def draws(self, what: str) -> random.Random:
        """Return what the seed draws for this pod."""
        return random.Random(f"{self.seed}/{self.name}/{what}")

    def phase(self, what: str) -> float:
        """Return the phase of a stream, the same for all pods."""
        return random.Random(f"{self.seed}/{what}").random()


def main(order: Mapping[str, Any]) -> int:
    """Run a pod until it is to end, and return its exit code."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what else is printed goes to the log

    def report(**message: object) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more
            print(json.dumps(message), file=reports)

    it = Order(
        Plan.from_dict(order["plan"]),
        order["pod"],
        order["env"],
        Path(order["path"]),
        order["deadline"],
        order["seed"],
        order["environment"],
    )
    inbox = Inbox()
    with Recorder(it.path, _INTERVAL) as recorder:
        try:
            work = _prepare(it, recorder, report, inbox.is_over)
        except CachesimError as error:
            report(error=as_json(error))
            return 1
        except Exception as error:
            reason = f"{it.name} could not get ready: {type(error).__name__}: {error}"
            report(error=as_json(WorkloadError(reason)))
            return 1
        gc.freeze()  # what is there stays: no collection need look at it
        report(ready=it.name)
        readings = None
        patience = 0.0
        for message in inbox.messages():
            if "begin" in message:
                readings = Readings(it.name, lambda: work.idle, recorder.add)
                work.begin(message["begin"])
            else:
                patience = message["end"]
                break
        try:
            work.stop(patience)
        except WorkloadError as error:
            report(error=as_json(error))
            return 1
        finally:
            if readings is not None:
                readings.close()
    report(ended=it.name, eps=getattr(work, "eps", 0.0))
    return 0


class Inbox:
    """Reads the messages on stdin, also while something else is waited for.

    Attributes:
        is_over: is set at the end: no more messages come.
    """

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        threading.Thread(target=self._read, name="cachesim-inbox", daemon=True).start()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Return the messages as they come."""
        while (message := self._messages.get()) is not None:
            yield message

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._messages.put(json.loads(line))
        self.is_over.set()
        self._messages.put(None)


def _prepare(
    order: Order, recorder: Recorder, report: Callable[..., None], is_over: threading.Event
) -> Work:
    if order.plan.command:
        from cachesim.workload.command import Command

        return Command(
            order.plan.command,
            order.name,
            {**order.environment, **order.env},
            recorder.add,
            lambda code: report(command=code),
            is_over,
        )
    if order.plan.python is not None:
        from cachesim.workload.user_code import Function

        return Function(order.plan.python, order.name, order.env, order.seed, recorder.add, is_over)
    threading.excepthook = _end_at_once
    asked = Asked()
    load = partial(_record_loaded, order.name, recorder, is_over)
    streams = [
        *_session_streams(order, asked, load),
        *_api_cache_streams(order, asked, load),
    ]
    schedule = Schedule(streams, order.pod, order.plan.pods)
    return Generator(
        order.name, schedule, asked, workers=POOL, deadline=order.deadline, record=recorder.add
    )


def _end_at_once(failed: threading.ExceptHookArgs) -> None:
    """End the pod: a worker that is gone would look like one that is busy."""
    traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
    sys.stderr.flush()
    os._exit(CRASHED)


def _session_streams(order: Order, asked: Asked, load: Load) -> Iterator[Stream]:
    from cachesim.workload.clients import redis_cluster
    from cachesim.workload.sessions import READS, Sessions

    traffic, pods = order.plan.sessions, order.plan.pods
    if traffic is None:
        return
    client = redis_cluster(order.env, asked, replicas=traffic.replicas)
    count = len(range(order.pod, traffic.population, pods))
    draws = order.draws("sessions")
    sessions = Sessions(client, order.name, max(1, count), traffic, draws)
    load(sessions.load())
    for name, share, draw in (
        ("sessions.read", READS, sessions.read),
        ("sessions.change", 1 - READS, sessions.change),
    ):
        yield Stream(traffic.rate * share, order.phase(name), draw)


def _api_cache_streams(order: Order, asked: Asked, load: Load) -> Iterator[Stream]:
    from cachesim.workload.api_cache import ApiCache
    from cachesim.workload.clients import memcached_client
    from cachesim.workload.origin import Origin

    traffic, pods = order.plan.api_cache, order.plan.pods
    if traffic is None:
        return
    client = memcached_client(order.env, asked)
    origin = Origin(order.plan.origin, pods)
    cache = ApiCache(client, origin, traffic.population, order.draws("api_cache"))
    load(cache.load(order.pod, pods))
    yield Stream(traffic.rate, order.phase("api_cache.read"), cache.read)


def _record_loaded(
    pod: str, recorder: Recorder, is_over: threading.Event, batches: Iterable[Iterable[Call]]
) -> None:
    """Record what is written before the begin, while it is."""
    start = time.monotonic()
    for batch in batches:
        if is_over.is_set():
            raise WorkloadError("the run was given up before its begin")
        end = time.monotonic()
        recorder.add(*(_loaded(pod, it, start, end) for it in batch))
        start = end


def _loaded(pod: str, call: Call, start: float, end: float) -> Operation:
    written = call.written
    return Operation(
        pod=pod,
        worker=0,
        service=call.service,
        kind=call.kind,
        key=call.key,
        due=start,
        start=start,
        end=end,
        outcome="ok",
        writer=None if written is None else written.writer,
        written=None if written is None else written.number,
        ttl=call.ttl,
    )
