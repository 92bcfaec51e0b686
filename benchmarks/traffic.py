"""Redis through a client link, compared with the node without Toxiproxy and a Redis without TLS.

One redis-py client, one command at a time, values of 2 KB, as sessions have. The
admin address is the same server over TLS, without its Toxiproxy. The plain container is of the same
image, with an append-only file but without TLS, AUTH, cluster and replicas, as is common in tests.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import docker
from redis import Redis
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from benchmarks.measure import Row, Side, comparison, in_turns, seconds
from cachesim import Simulator
from cachesim.backends.address_plan import pod_name
from cachesim.runs import env as run_env
from cachesim.servers.redis_config import REDIS_PORT

_COMMANDS = 500
_VALUE = "x" * 2048
_LINK = "client link"
_ADMIN = "admin address: TLS, no Toxiproxy"
_PLAIN = "plain container: no TLS, no Toxiproxy"


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with Simulator(backend="docker") as sim, ExitStack() as life:
        env, primary = sim.env(), sim.redis.primary
        tls = {
            "ssl": True,
            "ssl_ca_certs": env[run_env.CA_FILE],
            "password": env[run_env.REDIS_PASSWORD],
        }
        image, engine = sim.settings.server_image, sim.settings.engine
        plain = DockerContainer(image).with_command(f"{engine}-server --appendonly yes")
        plain.with_exposed_ports(REDIS_PORT)
        plain.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
        life.enter_context(plain)
        host = primary.endpoint.host

        def client(port: int, **options: Any) -> Side:
            redis = Redis(host=host, port=port, socket_timeout=5.0, **options)
            life.callback(redis.close)
            return lambda: _measure(redis)

        sides = {
            _LINK: client(primary.endpoint.port, **tls),
            _ADMIN: client(_admin_port(sim, primary.zone), **tls),
            _PLAIN: client(plain.get_exposed_port(REDIS_PORT)),
        }
        times = in_turns(runs, sides)
        return comparison(
            Row(command, times[_LINK][command], peer, times[peer][command])
            for command in ("SET", "GET")
            for peer in (_ADMIN, _PLAIN)
        )


def _measure(redis: "Redis") -> Mapping[str, float]:
    """Seconds for one command of either kind."""

    def repeat(command: Callable[[str], object]) -> Callable[[], None]:
        def all_of_them() -> None:
            for number in range(_COMMANDS):
                command(f"session:{number}")

        return all_of_them

    return {
        "SET": seconds(repeat(lambda key: redis.set(key, _VALUE))) / _COMMANDS,
        "GET": seconds(repeat(redis.get)) / _COMMANDS,
    }


def _admin_port(sim: Simulator, zone: str) -> int:
    """The published port of a zone's Redis server itself."""
    engine = docker.from_env()
    try:
        pod = engine.containers.get(f"cachesim-{sim.name}-{pod_name(zone)}")
        published = pod.ports[f"{REDIS_PORT}/tcp"]
        if not published:
            raise RuntimeError(f"the admin port of az-{zone} is not published")
        return int(published[0]["HostPort"])
    finally:
        engine.close()
