"""Faults of what servers answer and hold, each by its effect on a real client."""

import time
from contextlib import closing
from pathlib import Path

import pytest
import redis.exceptions
from pymemcache.client.base import Client as Memcached
from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError

from cachesim import Simulator
from cachesim.errors import FaultError
from cachesim.servers.certificates import client_context
from tests.contract.helpers import through_link


def memcached(sim: Simulator, node: str = "memcached-a") -> Memcached:
    """A plain client of a Memcached node, over the link that clients use."""
    endpoint = sim.nodes[node].endpoint
    tls = client_context(Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes())
    return Memcached(
        (endpoint.host, endpoint.port), tls_context=tls, timeout=2, default_noreply=False
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
