"""What holds from the first moment on, with production's client code."""

import os
import ssl
import threading
from contextlib import closing, suppress

import psutil
import pytest
from pymemcache.client.hash import HashClient
from redis import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from cachesim import Simulator
from cachesim.runs.directory import LOG
from cachesim.runs.registry import find_run
from cachesim.servers.redis_config import AnnouncedPorts, redis_settings
from cachesim.topology import Service
from tests.contract.helpers import config_of, node_client, raw_tls, through_link, until
from tests.hosted import Hosted

pytestmark = pytest.mark.core


def test_redis_snippet(sim: Simulator) -> None:
    """Production's RedisCluster works unchanged, except for host, port, TLS and password."""
    env = sim.env()
    redis = RedisCluster(
        host=env["CACHESIM_REDIS_HOST"],
        port=int(env["CACHESIM_REDIS_PORT"]),
        decode_responses=True,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        ssl=True,
        ssl_ca_certs=env["CACHESIM_CA_FILE"],
        password=env["CACHESIM_REDIS_PASSWORD"],
    )
    redis.set("session:abc123def456", '{"user_id": "user-789"}', ex=604800)
    assert redis.get("session:abc123def456") == '{"user_id": "user-789"}'
    assert 604790 <= redis.ttl("session:abc123def456") <= 604800
    redis.close()


def test_redis_url(sim: Simulator) -> None:
    """The URL of `env` is all that a client needs, but for the CA."""
    env = sim.env()
    client = RedisCluster.from_url(
        env["CACHESIM_REDIS_URL"], ssl_ca_certs=env["CACHESIM_CA_FILE"], decode_responses=True
    )
    assert client.set("k", "v")
    assert client.get("k") == "v"
    client.close()


@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
def test_replica_reads_find_both_replicas(sim: Simulator) -> None:
    """A client that reads from replicas finds the primary and both replicas at once."""
    client = sim.redis_cluster(read_from_replicas=True)
    nodes = {(node.port, node.server_type) for node in client.get_nodes()}
    assert nodes == {
        (node.endpoint.port, "primary" if node.role == "primary" else "replica")
        for node in sim.redis
    }
    client.set("k", "v")
    for node in sim.redis.replicas:
        direct = ClusterNode(node.endpoint.host, node.endpoint.port)
        assert client.get_node(direct.host, direct.port) is not None
    client.close()


def test_every_node_tells_one_shard(sim: Simulator) -> None:
    """Every node tells a client of one shard with all slots and all nodes, and of nobody else."""
    expected = {
        (node.endpoint.port, "master" if node.role == "primary" else "replica")
        for node in sim.redis
    }
    for node in sim.redis:
        client = through_link(sim, node.name)
        (shard,) = client.execute_command("CLUSTER SHARDS")
        assert shard[:2] == ["slots", [0, 16383]]
        members = [dict(zip(m[::2], m[1::2], strict=True)) for m in shard[3]]
        assert {(m["tls-port"], m["role"]) for m in members} == expected
        assert len(client.execute_command("CLUSTER NODES")) == len(expected)


def test_memcached_snippet(sim: Simulator) -> None:
    """Production's HashClient works unchanged, except for addresses and TLS."""
    env = sim.env()
    nodes = [address.split(":") for address in env["CACHESIM_MEMCACHED_NODES"].split(",")]
    memcached = HashClient(
        [(host, int(port)) for host, port in nodes],
        connect_timeout=0.5,
        timeout=0.5,
        use_pooling=True,
        max_pool_size=10,
        tls_context=ssl.create_default_context(cafile=env["CACHESIM_CA_FILE"]),
    )
    for number in range(30):
        assert memcached.set(f"api:products:list:{number}", b"[]", expire=300)
        assert memcached.get(f"api:products:list:{number}") == b"[]"
    memcached.close()


def test_configuration_is_productions(sim: Simulator) -> None:
    """The nodes are configured as in production, on a scale of 1/100."""
    for node in sim.redis:
        said = through_link(sim, node.name).info()
        assert said["aof_enabled"] == 1
        assert said["maxmemory_policy"] == "noeviction"
        assert said["maxmemory"] == 10 * 2**30 // 100
        assert said["cluster_enabled"] == 1
    client = sim.memcached_client()
    for stats in (c.stats() for c in client.clients.values()):
        assert int(stats[b"limit_maxbytes"]) == 12 * 2**30 // 100 // 2**20 * 2**20
    client.close()


def test_settings_are_those_of_the_configuration(inside: Hosted) -> None:
    """Every node says of every setting what a redis.conf of production has."""
    sim = inside.sim
    for node in sim.redis:
        source = next(z.name for z in sim.topology.zones if z.name != node.zone)
        bus = sim.links[source, node.name, Service.BUS].listen
        given = redis_settings(
            sim.topology.node(node.name),
            AnnouncedPorts(node.endpoint.port, bus.port),
            hostname=None,
            node_timeout_ms=15000,
        )
        said = config_of(inside.operations.admin.redis(node.name), given)
        # A container has no more than the engine's limit of open files allows.
        assert int(said.pop("maxclients")) <= int(given.pop("maxclients"))
        assert said == given | {"repl-backlog-size": str(16 * 2**20)}


def test_a_full_node_refuses_writes(sim: Simulator) -> None:
    """Sessions are not evicted: a write over the limit gets the OOM error."""
    client = sim.redis_cluster()

    def fill() -> None:
        for number in range(200):
            client.set(f"big:{number}", b"x" * 2**20)

    with pytest.raises(OutOfMemoryError):
        fill()
    client.close()


def test_functions(sim: Simulator) -> None:
    """A library of functions works, and is gone with the next reset."""
    client = sim.redis_cluster()
    code = "#!lua name=lib\nredis.register_function('put', function(keys, args) "
    code += "return redis.call('SET', keys[1], args[1]) end)"
    client.function_load(code)
    client.fcall("put", 1, "k", "v")
    assert client.get("k") == "v"
    sim.reset()
    assert client.function_list() == []
    client.close()


def test_scripts(sim: Simulator) -> None:
    """No node knows a script after a reset, as none does that has just been started."""
    for node in sim.topology.redis:
        with closing(node_client(sim, sim.nodes[node.name].endpoint)) as client:
            sha = client.script_load("return 1")
            assert client.evalsha(sha, 0) == 1
            sim.reset()
            with pytest.raises(NoScriptError):
                client.evalsha(sha, 0)


@pytest.mark.parametrize("command", ["cache_memlimit 8", "lru mode flat", "lru_crawler disable"])
def test_settings_of_memcached(sim: Simulator, command: str) -> None:
    """A reset undoes what a client has set, by a new process; other nodes keep theirs."""
    node = sim.memcached["b"]
    before = _memcached_settings(sim)
    with closing(raw_tls(sim, node.endpoint)) as client:
        client.sendall(command.encode() + b"\r\n")
        assert client.recv(100) == b"OK\r\n"
    assert _memcached_settings(sim) != before
    known = len(sim.events)
    sim.reset()
    assert _memcached_settings(sim) == before
    assert [it.source for it in list(sim.events)[known:] if it.kind == "replaced"] == [node.name]


def _memcached_settings(sim: Simulator) -> list[dict[bytes, bytes]]:
    settings: list[dict[bytes, bytes]] = []
    for node in sim.memcached.values():
        with closing(raw_tls(sim, node.endpoint)) as client, client.makefile("rwb") as stream:
            stream.write(b"stats settings\r\n")
            stream.flush()
            told = iter(stream.readline, b"END\r\n")
            pairs = dict(line.split()[1:3] for line in told)
        settings.append({name: pairs[name] for name in pairs if name != b"oldest"})
    return settings


@pytest.mark.parametrize(
    "script", ["while true do end", "redis.call('SET', KEYS[1], 1) while true do end"]
)
def test_reset_with_a_script_that_does_not_end(inside: Hosted, script: str) -> None:
    """It is ended, with its node if it has written something."""
    sim, clients = inside.sim, inside.operations.admin
    node = sim.redis.primary.name
    admin = clients.redis(node)
    admin.config_set("busy-reply-threshold", 100)
    client = node_client(sim, sim.redis.primary.endpoint, socket_timeout=60)
    caller = threading.Thread(target=_evaluate, args=(client, script))
    caller.start()
    until(lambda: "BUSY" in _refusal(admin))
    sim.reset()
    caller.join()
    client.close()
    restored = clients.redis(node)
    restored.config_set("busy-reply-threshold", 5000)
    assert restored.get("k") is None


def _evaluate(client: Redis, script: str) -> None:
    with suppress(RedisError):
        client.eval(script, 1, "k")


def _refusal(client: Redis) -> str:
    try:
        client.ping()
    except RedisError as error:
        return str(error)
    return ""


def test_its_process_shows_no_secret(sim: Simulator) -> None:
    """Neither arguments, variables nor log of the topology's process have the token or a key."""
    run = find_run(sim.name)
    process = psutil.Process(run.owner.pid)
    assert process.pid != os.getpid()
    shown = [*process.cmdline(), *process.environ().values(), (run.folder / LOG).read_text()]
    for text in shown:
        assert sim.env()["CACHESIM_REDIS_PASSWORD"] not in text
        assert "PRIVATE KEY" not in text


def test_engine_is_what_was_asked_for(sim: Simulator) -> None:
    """A Valkey says that it is one."""
    said = through_link(sim, "redis-a").info("server")
    assert ("valkey_version" in said) == (sim.settings.engine == "valkey")
