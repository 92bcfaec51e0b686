"""The process of a pod, from its order to its end.

On stdin, one JSON object a line, comes when to begin, then the end. The end of stdin is the end of
the process that it was forked from, and the pod's. See `cachesim.workload.host`.
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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Protocol, TypeVar

from cachesim.errors import CachesimError, WorkloadError, as_json
from cachesim.history.recorder import Recorder
from cachesim.history.rows import Operation
from cachesim.runs.env import REDIS_PASSWORD, REDIS_PASSWORD_FILE
from cachesim.workload.calls import Asked, Call
from cachesim.workload.generator import Generator
from cachesim.workload.plan import POOL, Plan
from cachesim.workload.readings import Readings
from cachesim.workload.schedule import Schedule, Stream

CRASHED = 70
"""The exit code of a pod with a mistake of its own, `EX_SOFTWARE`."""

_INTERVAL = 0.5
"""Seconds between two times that a pod writes to the history: each costs more than the rows."""


_GRACE = 0.5
"""Seconds for what is under way when nobody is there any more."""
_TRIES = 3
_LONGEST = 320
"""Characters of an error: with up to 12 bytes each as JSON, a pipe takes the line in one piece."""
T = TypeVar("T")
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


class Turns:
    """Lets a few processes do something at a time.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._take, self._give = os.pipe()
        os.write(self._give, b"." * count)

    def __enter__(self) -> None:
        os.read(self._take, 1)

    def __exit__(self, *_error: object) -> None:
        os.write(self._give, b".")


@dataclass(frozen=True)
class Order:
    """What a pod is told.

    Attributes:
        pod: its number, from 0.
        env: the variables of `cachesim env`.
        path: the history.
        deadline: seconds.
        environment: the variables of the process that ordered it.
        turns: taken by a pod while it opens its pools.
        names: of the nodes, by address, as far as they are known.
    """

    plan: Plan
    pod: int
    env: Mapping[str, str]
    path: Path
    deadline: float
    seed: int
    environment: Mapping[str, str]
    turns: Turns
    names: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.plan.names[self.pod]

    def tokens(self) -> list[str]:
        """Return the AUTH tokens: the first one, and the one that a rotation may have made."""
        tokens = [self.env.get(REDIS_PASSWORD, "")]
        if file := self.env.get(REDIS_PASSWORD_FILE):
            with contextlib.suppress(OSError):  # the topology has ended
                tokens.append(Path(file).read_text(encoding="utf-8").strip())
        return sorted(filter(None, tokens), key=len, reverse=True)  # one may be part of the other

    def draws(self, what: str) -> random.Random:
        """Return what the seed draws for this pod."""
        return random.Random(f"{self.seed}/{self.name}/{what}")

    def phase(self, what: str) -> float:
        """Return the phase of a stream, the same for all pods."""
        return random.Random(f"{self.seed}/{what}").random()


class Reports:
    """What a pod tells the process that ordered it, one JSON object a line.

    Args:
        pod: its name.
        stream: all pods' own.
        tokens: returns what is never told.
    """

    def __init__(self, pod: str, stream: IO[str], tokens: Callable[[], list[str]] = list) -> None:
        self._pod = pod
        self._stream = stream
        self._tokens = tokens

    def __call__(self, **message: object) -> None:
        """Tell something."""
        # One write for a line, or those of several pods would be mixed.
        line = _without(self._tokens(), json.dumps({"pod": self._pod, **message})) + "\n"
        with contextlib.suppress(OSError):  # nobody is there any more
            self._stream.write(line)
            self._stream.flush()


def run(order: Order, report: Reports) -> int:
    """Run a pod until it is to end, and return its exit code."""
    inbox = Inbox()
    with Recorder(order.path, _INTERVAL) as recorder:
        try:
            work = _prepare(order, recorder, report, inbox)
        except CachesimError as error:
            report(error=_told(order, error))
            return 1
        except Exception as error:
            what = f"{order.name} could not get ready: {type(error).__name__}: {error}"
            report(error=_told(order, what))
            return 1
        gc.freeze()  # what is there stays: no collection need look at it
        report(ready=True)
        readings = None
        patience = _GRACE
        for message in inbox.messages():
            if "begin" in message:
                readings = Readings(order.name, lambda: work.idle, recorder.add)
                work.begin(message["begin"])
            elif "node" in message:
                order.names[message["address"]] = message["node"]
            else:
                patience = message["end"]
                break
        try:
            work.stop(patience)
        except WorkloadError as error:
            report(error=_told(order, error))
            return 1
        finally:
            if readings is not None:
                readings.close()
    report(eps=getattr(work, "eps", 0.0))
    return 0


def _told(order: Order, reason: object) -> dict[str, Any]:
    """Return an error for the process that ordered the pod."""
    text = _without(order.tokens(), str(reason))
    if len(text) > _LONGEST:
        print(text, file=sys.stderr)  # the log has all of it
        text = f"{text[:_LONGEST]}..."
    return as_json(WorkloadError(text))


def _without(tokens: Iterable[str], text: str) -> str:
    """Return a text of a user's own code without AUTH tokens, which a URL in it may have."""
    for token in tokens:
        text = text.replace(token, "***")
    return text


def _record_theirs(order: Order, recorder: Recorder, row: Operation) -> None:
    """Record what a user's own code reports."""
    tokens = order.tokens()
    recorder.add(
        row._replace(
            service=_without(tokens, row.service),
            key=_without(tokens, row.key),
            error=row.error and _without(tokens, row.error),
        )
    )


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

    def end(self) -> None:
        """Let the end be the next message."""
        self._messages.put({"end": 0.0})

    def _read(self) -> None:
        with os.fdopen(0, "rb", closefd=False) as stdin:
            for line in stdin:
                self._messages.put(json.loads(line))
        self.is_over.set()
        self._messages.put(None)


def _prepare(order: Order, recorder: Recorder, report: Reports, inbox: Inbox) -> Work:
    record = partial(_record_theirs, order, recorder)
    if order.plan.command:
        from cachesim.workload.command import Command

        return Command(
            order.plan.command,
            order.name,
            {**order.environment, **order.env},
            record,
            report,
            inbox.is_over,
        )
    if order.plan.python is not None:
        from cachesim.workload.user_code import Function

        return Function(
            order.plan.python,
            order.name,
            order.env,
            order.seed,
            record,
            inbox.is_over,
            inbox.end,
        )
    threading.excepthook = _end_at_once
    asked = Asked()
    load = partial(_record_loaded, order.name, recorder, inbox.is_over)
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
    opening = partial(redis_cluster, order.env, asked, order.names, replicas=traffic.replicas)
    client = _opened(order, opening)
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
    opening = partial(memcached_client, order.env, asked, order.names)
    client = _opened(order, opening)
    if traffic.discovery is not None:
        from cachesim.workload.discovery import Discovery

        Discovery(client, order.env).start(traffic.discovery)
    origin = Origin(order.plan.origin, pods)
    cache = ApiCache(client, origin, traffic.population, order.draws("api_cache"))
    load(cache.load(order.pod, pods))
    yield Stream(traffic.rate, order.phase("api_cache.read"), cache.read)


def _opened(order: Order, opening: Callable[[], T]) -> T:
    """Return a client with its pools open.

    All pods at once would be a storm of connections, which time out on a busy machine.
    """
    with order.turns:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(Exception):
                return opening()
        return opening()


def _record_loaded(
    pod: str, recorder: Recorder, is_over: threading.Event, batches: Iterable[Iterable[Call]]
) -> None:
    """Record what is written before the begin, while it is."""
    start = time.monotonic()
    for batch in batches:
        if is_over.is_set():
            raise WorkloadError("the run was given up before its begin")
        end = time.monotonic()
        recorder.add(*(it.row(pod, 0, start, start, end, "ok") for it in batch))
        start = end
