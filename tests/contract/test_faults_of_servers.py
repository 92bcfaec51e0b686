"""Faults of what servers answer and hold, each by its effect on a real client."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions
from pymemcache.client.base import Client as Memcached
from pymemcache.exceptions import (
    MemcacheError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
)

from cachesim import Simulator
from cachesim.errors import FaultError
from cachesim.servers.certificates import client_context
from tests.contract.helpers import raw_tls, through_link, until


def memcached(sim: Simulator, node: str = "memcached-a") -> Memcached:
    """A plain client of a Memcached node, over the link that clients use."""
    endpoint = sim.nodes[node].endpoint
    tls = client_context(Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes())
    return Memcached(
        (endpoint.host, endpoint.port),
        tls_context=tls,
        connect_timeout=10,  # of the handshake too, which `timeout` is not for
        timeout=2,
        default_noreply=False,
    )


def is_embedded(sim: Simulator) -> bool:
    """Whether its nodes are emulated."""
    return sim.backend == "embedded"


def test_answer(sim: Simulator) -> None:
    """Some commands are answered with an error, so many times, and others are not."""
    if not is_embedded(sim):
        with pytest.raises(FaultError, match=r"real server.*--backend embedded"):
            sim.faults.answer("redis-a", error="LOADING")
        assert not sim.faults.active
        return
    with (
        closing(through_link(sim, "redis-a", single_connection_client=True)) as client,
        sim.faults.answer("redis-a", error="LOADING", commands=["get"], times=2),
    ):
        for _ in range(2):
            with pytest.raises(redis.exceptions.BusyLoadingError):
                client.get("k")
        client.get("k")
        assert client.set("k", 1)
    with (
        closing(through_link(sim, "redis-a", single_connection_client=True)) as client,
        sim.faults.answer("redis-a", error="MOVED", to="redis-b"),
    ):
        moved = f"7629 {sim.nodes['redis-b'].endpoint}"
        with pytest.raises(redis.exceptions.ResponseError, match=moved):
            client.get("k")
        assert client.ping()
    with closing(through_link(sim, "redis-a")) as client:
        assert client.get("k") == "1"


def test_answer_of_memcached(sim: Simulator) -> None:
    """A reply is an error, is cut off, or is that of another request."""
    if not is_embedded(sim):
        return
    with closing(memcached(sim)) as client:
        client.set("k", "v" * 100)
        client.set("other", "o")
        with (
            sim.faults.answer("memcached-a", error="SERVER_ERROR", commands=["set"]),
            pytest.raises(MemcacheServerError, match="out of memory storing object"),
        ):
            client.set("k", "v")
        with (
            sim.faults.answer("memcached-a", error="CUT-OFF", commands=["get"]),
            pytest.raises(MemcacheUnexpectedCloseError),
        ):
            client.get("k")
        with sim.faults.answer("memcached-a", error="OTHER-REPLY", times=1, commands=["gets"]):
            assert client.get("other") == b"o"
            assert client.get("k") == b"v" * 100
            with pytest.raises((ValueError, KeyError)):
                client.gets("other")
            client.close()
        assert client.get("k") == b"v" * 100


def test_delay(sim: Simulator) -> None:
    """Some commands are late, others on other connections are not."""
    if not is_embedded(sim):
        with pytest.raises(FaultError, match="real server"):
            sim.faults.delay("memcached-a", ms=100)
        return
    with (
        closing(through_link(sim, "redis-a", single_connection_client=True)) as client,
        closing(memcached(sim)) as other,
    ):
        for get in (client.get, other.get):
            get("k")
            with sim.faults.delay("redis-a", "memcached-a", ms=150, commands=["get"]):
                began = time.monotonic()
                get("k")
                assert 0.15 <= time.monotonic() - began < 0.3
                began = time.monotonic()
                assert client.set("k", 1)
                assert time.monotonic() - began < 0.15


def new_tls(sim: Simulator, node: str) -> None:
    """Connect to a node as a client does, with TLS."""
    raw_tls(sim, sim.nodes[node].endpoint).close()


def test_slow(sim: Simulator) -> None:
    """A node with next to no processor serves few requests a second."""

    def took(client: redis.Redis) -> float:
        began = time.monotonic()
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(1500):
                pipeline.set("k", "x" * 1000)
            pipeline.execute()
        return time.monotonic() - began

    slow = through_link(sim, "redis-a", single_connection_client=True, socket_timeout=20)
    with closing(slow) as client:
        before = min(took(client) for _ in range(3))
        with sim.faults.slow("redis-a", cpu=1):
            assert took(client) > before + 0.3
        assert min(took(client) for _ in range(3)) < before + 0.3


def test_auth_rotate(sim: Simulator) -> None:
    """First both tokens are valid, then the new one; what is open stays; then the old one again."""
    old, file = (
        sim.env()["CACHESIM_REDIS_PASSWORD"],
        Path(sim.env()["CACHESIM_REDIS_PASSWORD_FILE"]),
    )

    def logs_in(password: str) -> bool:
        with closing(through_link(sim, "redis-b", password=password)) as client:
            try:
                return bool(client.ping())
            except redis.exceptions.AuthenticationError:
                return False

    with closing(through_link(sim, "redis-b", single_connection_client=True)) as client:
        client.ping()
        with sim.faults.auth_rotate(strategy="rotate"):
            new = file.read_text()
            assert new != old
            assert logs_in(old)
            assert logs_in(new)
            with sim.faults.auth_rotate():
                assert not logs_in(old)
                assert logs_in(new)
                assert client.ping()
            assert logs_in(old)
        assert (logs_in(old), logs_in(new)) == (True, False)
        assert file.read_text() == old


def test_auth_rotate_outlives_the_process(sim: Simulator) -> None:
    """A node that starts again takes the new token alone; one that was down, too."""
    file = Path(sim.env()["CACHESIM_REDIS_PASSWORD_FILE"])
    old = file.read_text()

    def valid() -> list[str]:
        found = []
        for password in (old, new):
            client = through_link(sim, "redis-b", password=password)
            with closing(client), suppress(redis.exceptions.AuthenticationError):
                found.append(password if client.ping() else "")
        return found

    with sim.faults.auth_rotate():
        new = file.read_text()
        sim.redis["b"].restart()
        assert until(lambda: answered(valid)) == [new]
    assert valid() == [old]
    with sim.redis["b"].kill():
        fault = sim.faults.auth_rotate("redis-b")
        new = file.read_text()
    assert until(lambda: answered(valid)) == [new]
    with sim.redis["b"].kill():
        fault.heal()
    assert until(lambda: answered(valid)) == [old]


def answered(ask: Callable[[], Any]) -> Any:
    """What a node answers; None while it does not, as it has just been started."""
    try:
        return ask()
    except (redis.exceptions.RedisError, MemcacheError, OSError):
        return None


@pytest.mark.parametrize("node", ["redis-b", "memcached-b"])
def test_bad_certificate(sim: Simulator, node: str) -> None:
    """New connections refuse the certificate, what is open stays."""
    if sim.backend == "compose":
        with pytest.raises(FaultError, match="the CA's key is not kept"):
            sim.faults.bad_certificate(node)
        return
    client: Any = (
        memcached(sim, node)
        if node.startswith("m")
        else through_link(sim, node, single_connection_client=True)
    )
    with closing(client):
        client.get("k") if node.startswith("m") else client.ping()
        for problem, told in {"expired": "expired", "wrong-host": "mismatch"}.items():
            with sim.faults.bad_certificate(node, problem=problem):
                with pytest.raises(ssl.SSLCertVerificationError, match=told):
                    new_tls(sim, node)
                client.get("k") if node.startswith("m") else client.ping()
            new_tls(sim, node)


@pytest.mark.parametrize("node", ["redis-b", "memcached-b"])
def test_bad_certificate_outlives_the_process(sim: Simulator, node: str) -> None:
    """A node that starts again has it still, and no more after the heal."""
    if sim.backend == "compose":
        return

    def is_good() -> str:
        try:
            new_tls(sim, node)
        except ssl.SSLCertVerificationError as error:
            return str(error)
        return "good"

    with sim.faults.bad_certificate(node):
        sim.nodes[node].restart()
        assert "expired" in until(lambda: answered(is_good))
    assert is_good() == "good"
    sim.nodes[node].restart()
    assert until(lambda: answered(is_good)) == "good"


def test_expire(sim: Simulator) -> None:
    """A share of the keys is gone; replicas expire nothing of their own."""
    with closing(through_link(sim, "redis-a", single_connection_client=True)) as client:
        client.mset({f"{{s}}:{number}": 1 for number in range(200)})
        client.set("other", 1)
        with sim.faults.expire("redis-a", pattern="{s}:*", share=0.5):
            left = until(lambda: 60 < len(client.keys("{s}:*")) < 140)
            assert left
        assert client.get("other")
    with pytest.raises(FaultError, match="no key of redis-a is like none"):
        sim.faults.expire("redis-a", pattern="none*")
    until(lambda: sim.servers.stored("redis-b", ["other"]) == ["1"])
    with pytest.raises(FaultError, match="can't expire keys of redis-b: it is a replica"):
        sim.faults.expire("redis-b", pattern="other")


def test_expire_of_memcached(sim: Simulator) -> None:
    """A share of the keys is gone, and counted as expired."""
    with closing(memcached(sim)) as client:
        keys = [f"s:{number}" for number in range(300)]
        client.set_many(dict.fromkeys([*keys, "per%cent", b"\xff"], "v"), noreply=False)
        client.set("other", "v")
        before = int(client.stats()[b"get_expired"])
        with sim.faults.expire("memcached-a", pattern="s:*", share=0.5):
            left = len(client.get_many(keys))
        assert 100 < left < 200
        assert client.get("other") == b"v"
        assert int(client.stats()[b"get_expired"]) - before == 300 - left
        with pytest.raises(FaultError, match="no key of memcached-a is like none"):
            sim.faults.expire("memcached-a", pattern="none*")


def test_flush(sim: Simulator) -> None:
    """All keys are gone, on the replicas too."""
    with (
        closing(through_link(sim, "redis-a", single_connection_client=True)) as client,
        closing(memcached(sim)) as other,
    ):
        for it in (client, other):
            it.set("k", "v")
        with sim.faults.flush("redis-a", "memcached-a"):
            assert client.get("k") is None
            assert other.get("k") is None
    with pytest.raises(FaultError, match="can't flush redis-b"):
        sim.faults.flush("redis-b")


@pytest.mark.parametrize("node", ["redis-a", "memcached-b"])
def test_hot_key(sim: Simulator, node: str) -> None:
    """A node is asked for keys all the time, after its restart too, until all is healed."""
    client: Any = (
        memcached(sim, node)
        if node.startswith("m")
        else through_link(sim, node, single_connection_client=True)
    )

    def reads() -> int:
        if node.startswith("m"):
            return int(client.stats()[b"cmd_get"])
        return int(client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])

    def rate() -> float:
        began, before = time.monotonic(), reads()
        time.sleep(0.5)
        return (reads() - before) / (time.monotonic() - began)

    with closing(client):
        assert rate() == 0
        with (
            sim.faults.hot_key(node, key="k", rate=500),
            sim.faults.hot_key(node, key="l", rate=100),
        ):
            until(lambda: 400 < rate() < 800)
            client.close()
            sim.nodes[node].restart()
            until(lambda: (answered(rate) or 0) > 400)
        client.close()
        until(lambda: rate() == 0)


def is_taken(sim: Simulator, node: str) -> bool:
    """Whether a node takes a connection at once. pymemcache would not close one that waits."""
    endpoint = sim.nodes[node].endpoint
    context = client_context(Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes())
    with socket.create_connection((endpoint.host, endpoint.port), timeout=0.7) as plain:
        try:
            context.wrap_socket(plain, server_hostname=endpoint.host).close()
        except TimeoutError:
            return False
    return True


def test_connection_limit_of_memcached(sim: Simulator) -> None:
    """A connection beyond the limit waits until another one is closed, or the limit is gone."""
    first, second, third = clients = [memcached(sim) for _ in range(3)]

    def opened() -> int:
        return int(first.stats()[b"curr_connections"])

    first.set("k", "v")
    assert is_taken(sim, "memcached-a")
    with sim.faults.connection_limit("memcached-a", most=3):
        assert [it.get("k") for it in clients] == [b"v"] * 3
        assert not is_taken(sim, "memcached-a")
        assert first.get("k") == b"v"
        assert int(first.stats()[b"listen_disabled_num"]) >= 1
        most = opened()
        second.close()
        assert until(lambda: is_taken(sim, "memcached-a"))
        # While it closes a connection, Memcached can miss that it may accept the next one.
        until(lambda: opened() < most)
        assert second.get("k") == b"v"
        assert not is_taken(sim, "memcached-a")
        assert third.get("k") == b"v"
    assert until(lambda: is_taken(sim, "memcached-a"))
    for it in clients:
        it.close()


def test_connection_limit_of_a_new_process(sim: Simulator) -> None:
    """A limit that ended with a process does not keep the next one from having another."""
    sim.faults.connection_limit("memcached-a", most=1)
    sim.nodes["memcached-a"].restart()
    with sim.faults.connection_limit("memcached-a", most=2):
        clients = [memcached(sim) for _ in range(2)]
        for client in clients:
            client.set("k", "v", noreply=False)
        assert not is_taken(sim, "memcached-a")
    for client in clients:
        client.close()


def test_connection_limit_of_memcached_ends_at_once(sim: Simulator) -> None:
    """Who waits is served after the heal, although nobody has closed a connection."""
    with closing(memcached(sim)) as first, closing(memcached(sim)) as second:
        first.set("k", "v")
        fault = sim.faults.connection_limit("memcached-a", most=1)
        waits = threading.Thread(target=second.get, args=["k"])
        second.timeout = second.connect_timeout = 10
        waits.start()
        until(lambda: int(first.stats()[b"listen_disabled_num"]) >= 1)
        fault.heal()
        waits.join(10)
        assert not waits.is_alive()
        assert second.get("k") == b"v"
