"""The embedded backend, compared with containers and with fakeredis's own server.

The client of the traffic is in a process of its own, as a service is: redis-py, one command at a
time, or pipelines of 200, values of 100 bytes. Both backends are reached through a client link with
TLS and AUTH, and two replicas follow; fakeredis's server has neither link nor TLS nor replicas.
"""

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator, Mapping
from multiprocessing.queues import Queue
from typing import Any

from benchmarks.measure import Row, Side, comparison, in_turns, seconds
from cachesim import Simulator
from cachesim.runs import env as run_env

_PIPELINE = 200
_SINGLE, _BATCHES = 300, 10
_OURS, _DOCKER, _FAKE = "embedded", "containers", "fakeredis.TcpFakeServer, plain"


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    lives = in_turns(runs, {backend: _life(backend) for backend in ("embedded", "docker")})
    with contextlib.ExitStack() as life:
        sims = {
            name: life.enter_context(Simulator(backend=backend))
            for name, backend in ((_OURS, "embedded"), (_DOCKER, "docker"))
        }
        changes = in_turns(runs, {name: _changes(sim) for name, sim in sims.items()})
        ways = {name: _way(sim) for name, sim in sims.items()}
        ways[_FAKE] = life.enter_context(_fake_server())
        traffic = in_turns(
            runs, {name: life.enter_context(_client(options)) for name, options in ways.items()}
        )
    rows = [
        *(Row(it, lives["embedded"][it], _DOCKER, lives["docker"][it]) for it in ("start", "stop")),
        *(
            Row(it, changes[_OURS][it], _DOCKER, changes[_DOCKER][it])
            for it in ("reset", "partition applied", "partition healed")
        ),
        *(
            Row(it, traffic[_OURS][it], peer, traffic[peer][it])
            for it in ("SET", "GET", "SET in a pipeline")
            for peer in (_DOCKER, _FAKE)
        ),
    ]
    return comparison(rows)


def _life(backend: str) -> Side:
    def live() -> Mapping[str, float]:
        with contextlib.ExitStack() as life:

            def start() -> None:
                life.callback(Simulator(backend=backend).start().stop)

            return {"start": seconds(start), "stop": seconds(life.close)}

    return live


def _changes(sim: Simulator) -> Side:
    def change() -> Mapping[str, float]:
        partition = []
        return {
            "reset": seconds(sim.reset),
            "partition applied": seconds(lambda: partition.append(sim.faults.partition("a", "b"))),
            "partition healed": seconds(lambda: partition[0].heal()),
        }

    return change


def _way(sim: Simulator) -> dict[str, Any]:
    env = sim.env()
    return {
        "host": env[run_env.REDIS_HOST],
        "port": int(env[run_env.REDIS_PORT]),
        "password": env[run_env.REDIS_PASSWORD],
        "ssl": True,
        "ssl_ca_certs": env[run_env.CA_FILE],
    }


@contextlib.contextmanager
def _fake_server() -> Iterator[dict[str, Any]]:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"host": "127.0.0.1", "port": server.server_address[1]}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _client(options: Mapping[str, Any]) -> Iterator[Side]:
    """Start a client process that measures each time it is called."""
    context = multiprocessing.get_context("spawn")
    asked: Queue[bool] = context.Queue()
    told: Queue[dict[str, float]] = context.Queue()
    process = context.Process(target=_serve, args=(dict(options), asked, told), daemon=True)
    process.start()

    def measure() -> Mapping[str, float]:
        asked.put(True)
        return told.get(timeout=60)

    try:
        yield measure
    finally:
        asked.put(False)
        process.join(10)
        process.kill()


def _serve(
    options: Mapping[str, Any], asked: "Queue[bool]", told: "Queue[dict[str, float]]"
) -> None:
    from redis import Redis

    client = Redis(**options, protocol=2, socket_timeout=10.0)
    value = "x" * 100

    def write() -> None:
        for number in range(_SINGLE):
            client.set(f"k:{number}", value)

    def read() -> None:
        for number in range(_SINGLE):
            client.get(f"k:{number}")

    def batches() -> None:
        for _ in range(_BATCHES):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(_PIPELINE):
                    pipeline.set(f"k:{number}", value)
                pipeline.execute()

    while asked.get():
        told.put(
            {
                "SET": seconds(write) / _SINGLE,
                "GET": seconds(read) / _SINGLE,
                "SET in a pipeline": seconds(batches) / (_BATCHES * _PIPELINE),
            }
        )
    client.close()
