"""Memcached nodes in containers that answer `config get cluster`, and what clients notice of it."""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymemcache.client.base import Client

from cachesim import Simulator
from cachesim.runs.registry import find_run
from cachesim.servers.certificates import client_context
from cachesim.topology import Endpoint
from tests.contract.helpers import raw_tls, until
from tests.contract.test_discovery import FAILURES, addresses, discovered, follow

A = "client-to-memcached-a"
WITH_IT = pytest.mark.parametrize("shared", ["nodes"], indirect=True)


@pytest.fixture(scope="module", params=["nodes", "endpoint"])
def shared(request: pytest.FixtureRequest, require_docker: None) -> Iterator[Simulator]:  # noqa: ARG001
    """A topology with the setting, and one without it."""
    with Simulator(backend="docker", speed=30, seed=7, discovery=request.param) as sim:
        yield sim


@pytest.fixture(autouse=True)
def _no_stale_answers(sim: Simulator) -> None:
    """The endpoint leads nowhere else than to healthy nodes."""
    sim.control_plane.timing = replace(sim.control_plane.timing, dns_ttl=(0.0, 0.0))
    sim.faults.stale().heal()


def plain(sim: Simulator, address: Endpoint | None = None, timeout: float = 1.0) -> "closing[Any]":
    """Return a plain client of a node, by default of memcached-a."""
    tls = client_context(Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes())
    address = address or sim.nodes["memcached-a"].endpoint
    return closing(
        Client(
            (address.host, address.port),
            tls_context=tls,
            timeout=timeout,
            connect_timeout=timeout,
            default_noreply=False,
        )
    )


@WITH_IT
def test_every_change_is_told(sim: Simulator) -> None:
    """Each node tells what the endpoint tells, wherever it is, to clients in a zone too."""

    def told() -> tuple[int, list[str]]:
        found = discovered(sim)
        for node in sim.memcached.values():
            assert discovered(sim, node.endpoint) == found
        assert found[1] == addresses(sim) == sim.env()["CACHESIM_MEMCACHED_NODES"].split(",")
        with closing(sim.memcached_client(zone="b")) as placed:
            for address in placed.clients:
                assert discovered(sim, Endpoint.parse(address)) == found
        return found

    first, nodes = told()
    sim.control_plane.scale(memcached=4)
    second, _ = told()
    assert second > first
    one, other, added = (sim.memcached[name].endpoint for name in ("a", "b", "a2"))
    sim.memcached["a"].replace(new_address=True)
    sim.memcached["b"].replace(new_address=True, old="hang")
    third, moved = told()
    assert third > second
    assert not {str(one), str(other)} & set(moved)
    with pytest.raises(ConnectionRefusedError):
        raw_tls(sim, one)
    with pytest.raises(TimeoutError):
        raw_tls(sim, other)
    sim.control_plane.scale(memcached=3)
    told()
    with pytest.raises(ConnectionRefusedError):
        raw_tls(sim, added)
    sim.reset()
    assert told()[1] == nodes


@WITH_IT
def test_answers_are_in_order(sim: Simulator) -> None:
    """A client that does not wait for answers gets each for its own request."""
    with raw_tls(sim, sim.memcached["a"].endpoint) as client, client.makefile("rb") as answers:
        for _ in range(20):
            client.sendall(b"set k 0 0 2\r\nhi\r\nget k\r\nconfig get cluster\r\nversion\r\n")
            assert answers.readline() == b"STORED\r\n"
            assert [answers.readline() for _ in range(3)] == [
                b"VALUE k 0 2\r\n",
                b"hi\r\n",
                b"END\r\n",
            ]
            assert answers.readline().startswith(b"CONFIG cluster 0 ")
            while answers.readline() != b"END\r\n":
                pass
            assert answers.readline().startswith(b"VERSION 1.")


@WITH_IT
def test_passes_all_else(sim: Simulator) -> None:
    """Values of any size, and many of them, arrive as they are."""
    large = b"config get cluster\r\nVERSION 1\r\n" * 30_000
    many = {f"k{number}": b"END\r\nVERSION 1\r\n" * (number % 9) for number in range(1000)}
    with plain(sim, timeout=10) as client:
        assert client.set("large", large)
        for key, value in many.items():
            assert client.set(key, value)
        assert client.get_many(["large", *many]) == {"large": large, **many}
        assert client.version().startswith(b"1.")
        assert b"curr_connections" in client.stats()


def outcome(client: Any) -> str:
    """Return what becomes of a request."""
    begun = time.monotonic()
    try:
        client.get("k")
    except TimeoutError:
        return "hangs"
    except FAILURES:
        assert time.monotonic() - begun < 0.5
        return "ends"
    return "answers"


@pytest.mark.parametrize(
    ("fault", "node", "wanted"),
    [
        ("refuse", A, "ends"),
        ("reset", A, "ends"),
        ("kill", "memcached-a", "ends"),
        ("blackhole", A, "hangs"),
        ("pause", "memcached-a", "hangs"),
        ("isolate", "a", "hangs"),
        ("az_power", "a", "hangs"),
    ],
)
def test_faults_are_felt(sim: Simulator, fault: str, node: str, wanted: str) -> None:
    """With the setting as without it: by who is connected, and by who connects."""
    with plain(sim) as there, plain(sim) as new, plain(sim) as later:
        assert there.set("k", "v")
        # A node that hangs is replaced after a second.
        with sim.control_plane.suspended(), getattr(sim.faults, fault)(node):
            assert (outcome(there), outcome(new)) == (wanted, wanted)
        until(lambda: outcome(later) == "answers", 20)


def test_latency(sim: Simulator) -> None:
    """The first request waits for nothing, and a latency is added once, as without the setting."""
    first = []
    for _ in range(10):
        with plain(sim) as client:
            client._connect()
            begun = time.monotonic()
            client.get("k")
            first.append(time.monotonic() - begun)
    assert min(first) < 0.02
    with plain(sim) as client:
        client.get("k")
        with sim.faults.latency(A, 200):
            begun = time.monotonic()
            client.get("k")
            assert 0.2 <= time.monotonic() - begun < 0.39


def test_bad_certificate(sim: Simulator) -> None:
    """Nodes and endpoint show it to whoever connects."""
    names = [node.name for node in sim.memcached.values()]
    all_of_them = [sim.control_plane.endpoints["memcached"], *map(Endpoint.parse, addresses(sim))]
    with plain(sim) as there:
        there.get("k")
        for problem, told in {"expired": "expired", "wrong-host": "mismatch"}.items():
            with sim.faults.bad_certificate(*names, problem=problem):
                for address in all_of_them:
                    with pytest.raises(ssl.SSLCertVerificationError, match=told):
                        raw_tls(sim, address)
                there.get("k")
            for address in all_of_them:
                raw_tls(sim, address).close()


def test_nothing_is_left_of_clients(sim: Simulator) -> None:
    """Neither of those that have left, nor of those that gave up while a link hung."""
    run, at = find_run(sim.name), sim.memcached["a"].endpoint
    process = psutil.Process(run.owner.pid)
    with plain(sim) as client:

        def connections() -> tuple[int, int]:
            return int(client.stats()[b"curr_connections"]), process.num_fds()

        before = connections()
        for _ in range(20):
            with plain(sim) as other:
                other.get("k")
            with raw_tls(sim, at) as half, suppress(OSError):
                half.sendall(b"set k 0 0 100\r\nhalf")
            socket.create_connection((at.host, at.port)).close()
        with sim.faults.blackhole(A):
            for _ in range(20):
                with plain(sim, timeout=0.05) as other:
                    assert outcome(other) == "hangs"
            if sim.settings.discovery == "nodes":
                until(lambda: process.num_fds() <= before[1] + 5)
        until(lambda: all(now <= then for now, then in zip(connections(), before, strict=True)))


@WITH_IT
@pytest.mark.filterwarnings(
    "ignore:ssl.PROTOCOL_TLS", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_emcache(sim: Simulator) -> None:
    """A client that polls a node uses a new one, and does without one that is removed."""
    pytest.importorskip("emcache")
    asyncio.run(follow(sim, sim.memcached["c"].endpoint))
    gc.collect()  # it leaves sockets to removed nodes, which are not the next test's
