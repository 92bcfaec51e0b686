"""The embedded Toxiproxy, compared with a real one; each is a process on this machine.

Behind them is one redis-server, without TLS. `redis-benchmark` gets values of 3 bytes, with one and
with 50 clients. How exact latency toxics are is measured with 1,000 requests a second over one
connection, sent by the clock; the figure is their time minus that on the untouched link and minus
the latency that was asked for.
"""

import csv
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.measure import Row, comparison, in_turns, table
from cachesim.aio.timers import new_event_loop
from cachesim.embedded.toxiproxy.proxies import Proxies
from cachesim.embedded.toxiproxy.server import ProxyServer
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Latency, Stream
from tests.embedded.toxiproxy.servers import binary, free_port, real

_REQUESTS = {
    ("untouched", 1): 10_000,
    ("untouched", 50): 40_000,
    ("5 ms", 1): 150,
    ("5 ms", 50): 7_500,
}
"""How many requests redis-benchmark sends, by toxic and clients: for a second or less."""

_RATE = 1000  # requests a second
_SAMPLES = 1000
_LATENCIES = (1, 5, 50)  # milliseconds
_SHARES = {"p50": 0.5, "p99": 0.99}
_REAL = "Toxiproxy 2.12"


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with ExitStack() as life:
        upstream = life.enter_context(_redis())
        program = binary(Path(life.enter_context(tempfile.TemporaryDirectory())))
        urls = {
            "embedded": life.enter_context(_embedded()),
            _REAL: life.enter_context(real(program)),
        }
        sides = {name: partial(_measure, url, upstream) for name, url in urls.items()}
        times = in_turns(runs, sides)
    ours, theirs = times.values()
    throughput = comparison(
        Row(figure, ours[figure], _REAL, theirs[figure])
        for figure in (_throughput(*what) for what in _REQUESTS)
    )
    return f"{throughput}\n\n{_exactness_table(ours, theirs)}"


def _exactness_table(*sides: Mapping[str, Sequence[float]]) -> str:
    head = ("latency toxic", *(f"{who} {name}" for who in ("cachesim", "peer") for name in _SHARES))
    return table(
        head,
        (
            (f"{asked} ms", *(_deviation(side[f"{asked} {p}"]) for side in sides for p in _SHARES))
            for asked in _LATENCIES
        ),
    )


def _deviation(values: Sequence[float]) -> str:
    middle, low, high = (f"{v * 1000:+.2f}" for v in (median(values), min(values), max(values)))
    return f"{middle} ms ({low} to {high})"


def _throughput(toxic: str, clients: int) -> str:
    return f"GET, {clients} {'client' if clients == 1 else 'clients'}, {toxic}"


def _measure(url: str, upstream: str) -> Mapping[str, float]:
    """Return the seconds a request takes over all clients, and the deviations from latencies."""
    with closing(ToxiproxyClient(url)) as api:
        api.populate([{"name": "redis", "listen": "127.0.0.1:0", "upstream": upstream}])
        port = int(api.proxy("redis")["listen"].rpartition(":")[2])
        return {**_throughputs(api, port), **_exactness(api, port)}


def _throughputs(api: ToxiproxyClient, port: int) -> Mapping[str, float]:
    figures = {}
    for (toxic, clients), requests in _REQUESTS.items():
        api.reset()
        if toxic != "untouched":
            api.add_toxic("redis", "latency", Latency(5), Stream.DOWNSTREAM)
        figures[_throughput(toxic, clients)] = 1 / _per_second(port, clients, requests)
    return figures


def _exactness(api: ToxiproxyClient, port: int) -> Mapping[str, float]:
    figures = {}
    api.reset()
    untouched = _percentiles(port)
    for asked in _LATENCIES:
        api.add_toxic("redis", "latency", Latency(asked), Stream.DOWNSTREAM)
        for name, taken in _percentiles(port).items():
            figures[f"{asked} {name}"] = taken - untouched[name] - asked / 1000
        api.reset()
    return figures


def _per_second(port: int, clients: int, requests: int) -> float:
    """Return the requests per second of redis-benchmark."""
    words = ["-p", str(port), "-c", str(clients), "-n", str(requests), "-t", "get", "--csv"]
    done = subprocess.run(  # noqa: S603  # a program of this machine
        [_found("redis-benchmark"), *words], check=True, capture_output=True, text=True
    )
    return float(next(csv.DictReader(done.stdout.splitlines()))["rps"])


def _percentiles(port: int) -> dict[str, float]:
    """Return how long requests take that are sent by the clock, in seconds."""
    sent: list[float] = []
    taken: list[float] = []
    rest = 0  # bytes of an answer that is not complete
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        while len(taken) < _SAMPLES:
            now = time.perf_counter()
            if len(sent) < _SAMPLES and now >= began + len(sent) / _RATE:
                sent.append(now)
                sock.sendall(b"PING\r\n")
                continue
            due = began + len(sent) / _RATE - now if len(sent) < _SAMPLES else None
            if select.select((sock,), (), (), due)[0]:
                now = time.perf_counter()
                answers, rest = divmod(rest + len(sock.recv(65536)), len(b"+PONG\r\n"))
                taken += (now - at for at in sent[len(taken) : len(taken) + answers])
    taken.sort()
    return {name: taken[int(share * len(taken))] for name, share in _SHARES.items()}


@contextmanager
def _redis() -> Iterator[str]:
    """Run a redis-server without persistence; yield its address."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(  # noqa: S603  # a program of this machine
        [_found("redis-server"), *words], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None  # noqa: S101
            if not any("Ready to accept connections" in line for line in server.stdout):
                raise RuntimeError("redis-server has not started")
            yield f"127.0.0.1:{port}"
        finally:
            server.kill()


@contextmanager
def _embedded() -> Iterator[str]:
    """Run an embedded Toxiproxy in a process of its own; yield its API's URL."""
    with subprocess.Popen(  # our own command
        [sys.executable, "-m", "benchmarks.proxy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101
        yield process.stdout.readline().strip()
        # Its process ends when its stdin is closed.


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"there is no {program} on the path: install Redis 7")
    return path


def main() -> None:
    """Serve until stdin is closed, as that process."""
    loop = new_event_loop()
    server = ProxyServer(loop, Proxies(loop, rng=Random(0)))
    print(server.start(), flush=True)
    loop.add_reader(sys.stdin, loop.stop)
    loop.run_forever()
    server.close()


if __name__ == "__main__":
    main()
