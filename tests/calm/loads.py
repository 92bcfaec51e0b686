"""Loads that take the processor from a topology or stop it, or keep the nodes busy.

All are in the processes of one tree, as those of a user's container are.

A load begins when it is called, and ends at the latest when the returned function is called.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial

from redis.exceptions import RedisError

from cachesim import Simulator
from cachesim.runs.registry import find_run

_PIPELINES = """
import sys
from redis import Redis
host, port, ca = sys.argv[1:]
redis = Redis(host=host, port=int(port), password=sys.stdin.readline().strip(), ssl=True,
              ssl_ca_certs=ca, socket_timeout=60)
while True:
    pipeline = redis.pipeline(transaction=False)
    for number in range(20_000):
        pipeline.set(f"key:{number}", "x" * 100)
    pipeline.execute(raise_on_error=False)
"""


@contextmanager
def _repeated(count: int, act: Callable[[], object], pause: float = 0.0) -> Iterator[None]:
    """Do something again and again in threads."""
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            with suppress(RedisError):  # there may be a failover
                act()
            if pause:
                stopping.wait(pause)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _compute() -> None:
    sum(number * number for number in range(10_000))


def threads(count: int, _sim: Simulator) -> AbstractContextManager[None]:
    """Threads of this process that compute."""
    return _repeated(count, _compute)


def held_interpreter(_sim: Simulator) -> AbstractContextManager[None]:
    """A C call that holds the interpreter for 2 s, every 4 s."""
    libc = ctypes.PyDLL(None)
    return _repeated(1, partial(libc.usleep, 2_000_000), pause=2.0)


@contextmanager
def _children(count: int, *arguments: str, told: str = "") -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            child = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, text=True)
            stack.callback(child.wait)
            stack.callback(child.kill)
            assert child.stdin is not None
            child.stdin.write(told)
            child.stdin.close()
        yield


def processes(count: int, _sim: Simulator) -> AbstractContextManager[None]:
    """Processes beside this one that compute."""
    return _children(count, "-c", "while True: pass")


def sending_processes(count: int, sim: Simulator) -> AbstractContextManager[None]:
    """Processes that send pipelines of 20,000 SETs of 100 bytes."""
    env, at = sim.env(), sim.redis.primary.endpoint
    arguments = at.host, str(at.port), env["CACHESIM_CA_FILE"]
    return _children(
        count, "-c", _PIPELINES, *arguments, told=env["CACHESIM_REDIS_PASSWORD"] + "\n"
    )


@contextmanager
def pipelines(sim: Simulator) -> Iterator[None]:
    """A pipeline of 20,000 SETs of 100 bytes, again and again."""

    def send() -> None:
        pipeline = client.pipeline()
        for number in range(20_000):
            pipeline.set(f"key:{number}", "x" * 100)
        pipeline.execute()

    with closing(sim.redis_cluster(socket_timeout=60)) as client, _repeated(1, send, pause=0.2):
        yield


@contextmanager
def long_lists(sim: Simulator) -> Iterator[None]:
    """RPUSH of 10,000 elements, 40 times on one list, again and again."""
    elements = [f"element-{number}" for number in range(10_000)]

    def push() -> None:
        client.delete("list")
        for _ in range(40):
            client.rpush("list", *elements)

    with closing(sim.redis_cluster(socket_timeout=60)) as client, _repeated(1, push, pause=0.2):
        yield


def stopped_client(_sim: Simulator) -> AbstractContextManager[None]:
    """This process is stopped for 1 s, every 3 s."""
    return _stopped(os.getpid())


def stopped_daemon(sim: Simulator) -> AbstractContextManager[None]:
    """The topology's process is stopped for 1 s, every 3 s."""
    return _stopped(find_run(sim.name).owner.pid)


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    script = f"while :; do sleep 2; kill -STOP {pid}; sleep 1; kill -CONT {pid}; done"
    child = subprocess.Popen(["/bin/sh", "-c", script])
    try:
        yield
    finally:
        child.kill()
        child.wait()
        os.kill(pid, signal.SIGCONT)


LOADS: dict[str, Callable[[Simulator], AbstractContextManager[None]]] = {
    "1-thread": partial(threads, 1),
    "4-threads": partial(threads, 4),
    "8-threads": partial(threads, 8),
    "16-threads": partial(threads, 16),
    "held-interpreter": held_interpreter,
    "6-processes": partial(processes, 6),
    "16-processes": partial(processes, 16),
    "pipelines": pipelines,
    "4-sending-processes": partial(sending_processes, 4),
    "long-lists": long_lists,
    "stopped-client": stopped_client,
    "stopped-daemon": stopped_daemon,
}
