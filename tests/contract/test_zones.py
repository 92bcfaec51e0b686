"""Zones as clients see them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pymemcache.exceptions import MemcacheError
from redis.backoff import NoBackoff
from redis.retry import Retry

from cachesim import Simulator
from tests.contract.helpers import glide_client, node_client

ZONES = {"a": "az-a", "b": "az-b", "c": "az-c"}


@pytest.fixture(params=["docker", "embedded"])
def valkey(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A topology of Valkey."""
    if request.param == "docker":
        request.getfixturevalue("require_docker")
    with Simulator(backend=request.param, engine="valkey", speed=30, seed=7) as sim:
        yield sim


def test_client_in_a_zone(sim: Simulator) -> None:
    """Under each partition a client in each zone reaches exactly the nodes that it should."""
    with ExitStack() as stack, ThreadPoolExecutor(6 * len(ZONES)) as pool:
        ids = name_nodes(sim)
        clients = {
            zone: (
                stack.enter_context(redis_in(sim, zone)),
                stack.enter_context(cache_in(sim, zone)),
            )
            for zone in ZONES
        }
        for pair in ("ab", "bc", "ac"):
            with sim.faults.partition(pair[0], pair[1]):
                asked = {
                    zone: [pool.submit(ask) for ask in (*of_shard(one, ids), *of_caches(other))]
                    for zone, (one, other) in clients.items()
                }
                reached = {zone: {it.result() for it in some} for zone, some in asked.items()}
            for zone in ZONES:
                wanted = {it for it in ZONES if {it, zone} != set(pair)}
                nodes = {f"{service}-{it}" for service in ("redis", "memcached") for it in wanted}
                assert reached[zone] - {None} == nodes, (pair, zone)


def name_nodes(sim: Simulator) -> dict[str, str]:
    """Return the name of each Redis node by its id, and give each Memcached node its own."""
    ids = {}
    for zone in ZONES:
        with node_client(sim, sim.redis[zone].endpoint) as client:
            ids[str(client.execute_command("CLUSTER MYID"))] = f"redis-{zone}"
    with closing(sim.memcached_client()) as caches:
        for zone in ZONES:
            cache = caches.clients[str(sim.memcached[zone].endpoint)]
            assert cache.set("name", f"memcached-{zone}")
    return ids


def redis_in(sim: Simulator, zone: str) -> "closing[Any]":
    """Return a client in a zone, which has found the nodes."""
    client = sim.redis_cluster(
        zone=zone, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    assert client.set(f"in:{zone}", "v")
    return closing(client)


def cache_in(sim: Simulator, zone: str) -> "closing[Any]":
    """Return a client in a zone."""
    return closing(sim.memcached_client(zone=zone, timeout=1, connect_timeout=1, ignore_exc=False))


def of_shard(client: Any, ids: dict[str, str]) -> list[Callable[[], str | None]]:
    """Return what asks each Redis node for its name, over a client's connections."""

    def ask(node: Any) -> str | None:
        try:
            return ids[str(client.get_redis_connection(node).execute_command("CLUSTER MYID"))]
        except redis.RedisError:
            return None

    return [partial(ask, node) for node in client.get_nodes()]


def of_caches(client: Any) -> list[Callable[[], str | None]]:
    """Return what asks each Memcached node for its name, over a client's connections."""

    def ask(node: Any) -> str | None:
        try:
            return str(node.get("name").decode())
        except (OSError, MemcacheError):
            return None

    return [partial(ask, node) for node in client.clients.values()]


def test_node_at_a_new_address(sim: Simulator) -> None:
    """From a zone too, the old address leads nowhere, and the new one to the new node."""
    with closing(sim.memcached_client(zone="b")) as client:
        before = client.clients
        sim.memcached["a"].replace(new_address=True)
        with closing(sim.memcached_client(zone="b")) as other:
            (old,) = before.keys() - other.clients.keys()
            (new,) = other.clients.keys() - before.keys()
            assert other.clients[new].set("k", "v")
            with pytest.raises((OSError, MemcacheError)):
                before[old].set("k", "v")
        with closing(sim.memcached_client()) as outside:
            assert outside.clients[str(sim.memcached["a"].endpoint)].get("k") == b"v"


@pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces")
def test_program_in_a_zone(sim: Simulator, tmp_path: Path) -> None:
    """A program in a zone finds what it should: in a namespace, or where it maps addresses."""
    ids = name_nodes(sim)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ways = {"namespace": [], "by address": ["--by-address"]}
    with ExitStack() as stack:
        programs = {
            way: stack.enter_context(in_zone(sim, "b", options, program))
            for way, options in ways.items()
        }
        for way, process in programs.items():
            if process.stdout.readline() != "ready\n":  # type: ignore[union-attr]
                _, why = process.communicate()
                assert "does not allow a network namespace" in why, (way, why)
        stack.enter_context(sim.faults.partition("a", "b"))
        for way, process in programs.items():
            if process.returncode is None:
                out, err = process.communicate("go\n", timeout=60)
                found = {ids.get(it, it) for it in json.loads(out)}
                assert found == {"redis-b", "redis-c", "memcached-b", "memcached-c"}, (way, err)


PROGRAM = """
import json, os, sys
from pathlib import Path
from cachesim.servers import clients
from cachesim.servers.certificates import client_context
from cachesim.topology import Endpoint

env = os.environ
to = json.loads(env.get("CACHESIM_REDIS_ADDRESS_MAP", "{}"))

def remap(address):
    announced = f"{address[0]}:{address[1]}"
    seen = Endpoint.parse(to.get(announced, announced))
    return seen.host, seen.port

shard = clients.redis_cluster(
    [Endpoint(env["CACHESIM_REDIS_HOST"], int(env["CACHESIM_REDIS_PORT"]))],
    env["CACHESIM_REDIS_PASSWORD"], Path(env["CACHESIM_CA_FILE"]), address_remap=remap,
    socket_timeout=1, socket_connect_timeout=1,
)
caches = clients.memcached_client(
    [Endpoint.parse(it) for it in env["CACHESIM_MEMCACHED_NODES"].split(",")],
    client_context(Path(env["CACHESIM_CA_FILE"]).read_bytes()), timeout=1, ignore_exc=False,
)
asks = [
    lambda node=node: str(shard.get_redis_connection(node).execute_command("CLUSTER MYID"))
    for node in shard.get_nodes()
]
asks += [lambda node=node: node.get("name").decode() for node in caches.clients.values()]
print("ready", flush=True)
sys.stdin.readline()
found = []
for ask in asks:
    try:
        found.append(ask())
    except Exception as error:
        print(error, file=sys.stderr)
print(json.dumps(found))
"""


@contextmanager
def in_zone(
    sim: Simulator, zone: str, options: list[str], program: Path
) -> "Iterator[subprocess.Popen[str]]":
    """A program that runs in a zone."""
    command = ["exec", "--name", sim.name, "--zone", zone, *options, "--", sys.executable]
    with subprocess.Popen(
        [sys.executable, "-m", "cachesim", *command, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.terminate()


def test_nodes_tell_their_zones(valkey: Simulator) -> None:
    """In INFO and HELLO; a client that reads by zone reads from its own, and only there."""
    for zone, told in ZONES.items():
        with node_client(valkey, valkey.redis[zone].endpoint) as client:
            assert client.info("server")["availability_zone"] == told
            said = client.execute_command("HELLO", "2")
            assert dict(zip(said[::2], said[1::2], strict=True))["availability_zone"] == told
    pytest.importorskip("glide")
    asyncio.run(_read_from(valkey, "b"))


async def _read_from(sim: Simulator, zone: str) -> None:
    """Read with valkey-glide from the zone of a replica, and look who has served it."""
    import glide

    client = await glide_client(
        sim, request_timeout=5000, read_from=glide.ReadFrom.AZ_AFFINITY, client_az=ZONES[zone]
    )
    try:
        await client.set("k", "v")
        before = _gets(sim)
        for _ in range(30):
            await client.get("k")
        risen = {name: count - before[name] for name, count in _gets(sim).items()}
        assert risen == {"a": 0, "b": 0, "c": 0, zone: 30}
    finally:
        await client.close()


def _gets(sim: Simulator) -> dict[str, int]:
    """Return how many GETs each node has served."""
    counts = {}
    for zone in ZONES:
        with node_client(sim, sim.redis[zone].endpoint) as client:
            commands = client.info("commandstats")
            counts[zone] = commands.get("cmdstat_get", {"calls": 0})["calls"]
    return counts
