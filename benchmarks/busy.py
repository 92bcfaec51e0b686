"""GETs of a client process, while the process that started the topology computes.

The client is another process, on the embedded backend. The computing process keeps to the first
processor, and the topology and the client to the others, with and without the load.
"""

import ctypes
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from statistics import quantiles

import psutil

from benchmarks.measure import Row, Side, comparison, in_turns
from cachesim import Simulator
from cachesim.runs.registry import find_run

_SECONDS = 2.0
_THREADS = (1, 4, 16)


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    first, *others = psutil.Process().cpu_affinity() or [0]
    psutil.Process().cpu_affinity([first])
    with Simulator(backend="embedded", speed=30) as sim:
        psutil.Process(find_run(sim.name).owner.pid).cpu_affinity(others)
        loads: dict[str, Callable[[], object]] = {"idle": lambda: time.sleep(0.01)}
        counts = {"idle": 1}
        for count in _THREADS:
            name = f"{count} computing thread{'s' if count > 1 else ''}"
            loads[name], counts[name] = _compute, count
        libc = ctypes.PyDLL(None)
        name = "C calls that hold the interpreter for 1 s"
        loads[name], counts[name] = lambda: libc.usleep(1_000_000), 1
        sides = {name: _side(sim, others, load, counts[name]) for name, load in loads.items()}
        times = in_turns(runs, sides)
        failovers = [str(event) for event in sim.events.of("failover")]
    psutil.Process().cpu_affinity([first, *others])
    table = comparison(
        Row(f"GET, {figure}: {name}", times[name][figure], "idle", times["idle"][figure])
        for name in loads
        if name != "idle"
        for figure in ("p50", "p99")
    )
    return f"{table}\n\nFailovers: {len(failovers)}."


def _side(sim: Simulator, processors: list[int], load: Callable[[], object], threads: int) -> Side:
    def measure() -> Mapping[str, float]:
        receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
        client = multiprocessing.get_context("spawn").Process(
            target=_get, args=(sim.env(), processors, sender), daemon=True
        )
        client.start()
        with closing(receiver):
            receiver.recv()  # it is connected
            with _repeated(threads, load):
                times: list[float] = receiver.recv()
        client.join()
        cuts = quantiles(times, n=100)
        return {"p50": cuts[49], "p99": cuts[98]}

    return measure


def _get(env: Mapping[str, str], processors: list[int], sender: Connection) -> None:
    psutil.Process().cpu_affinity(processors)
    from redis.cluster import RedisCluster

    client = RedisCluster.from_url(
        env["CACHESIM_REDIS_URL"], ssl_ca_certs=env["CACHESIM_CA_FILE"], decode_responses=True
    )
    client.set("key", "value")
    sender.send("ready")
    times, end = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        client.get("key")
        times.append(time.perf_counter() - began)
    sender.send(times)


def _compute() -> None:
    sum(number * number for number in range(10_000))


@contextmanager
def _repeated(count: int, act: Callable[[], object]) -> Iterator[None]:
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            act()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
