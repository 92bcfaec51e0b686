"""Fixed ports, and who has one that is taken."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cachesim import Simulator
from cachesim.backends import ports
from cachesim.backends.address_plan import check_for_pods
from cachesim.backends.ports import check_free, fixed_ports
from cachesim.errors import PortTaken, SettingsError
from cachesim.runs.owner import Owner
from cachesim.runs.registry import Run
from cachesim.topology import production


def free_first_port() -> int:
    """Return the first of thirty ports that are free, below those that Linux gives away."""
    for first in range(20000, 32000, 100):
        try:
            check_free({str(port): port for port in range(first, first + 30)})
        except PortTaken:
            continue
        return first
    raise AssertionError("no thirty ports are free")


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that this process has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_first_port() -> None:
    """A first port fixes all, in the order of a composed topology."""
    found = fixed_ports("17000", production())
    assert {name: port for name, port in found.items() if port < 17010} == {
        "redis-a": 17000,
        "memcached-a": 17001,
        "toxiproxy-a": 17002,
        "redis-a admin": 17003,
        "memcached-a admin": 17004,
        "bus-a": 17005,
        "endpoint-redis": 17006,
        "endpoint-memcached": 17007,
    }
    assert (found["redis-c"], len(set(found.values()))) == (17020, 20)


def test_ports_by_name() -> None:
    """Ports by name fix those alone; without the setting none is fixed."""
    assert fixed_ports("redis-a=7000,toxiproxy-b=7001", production()) == {
        "redis-a": 7000,
        "toxiproxy-b": 7001,
    }
    assert fixed_ports(None, production()) == {}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("redis-b=6379", r"6379 \(redis-b\)"),
        ("memcached-a=11212,redis-a=7000", r"11212 \(memcached-a\)"),
        ("endpoint-redis=6379", r"6379 \(endpoint-redis\)"),
        ("16374", r"16379 \(bus-a\)"),
    ],
)
def test_ports_of_servers(setting: str, told: str) -> None:
    """In a pod, a link can't have the port of a server."""
    with pytest.raises(SettingsError, match=rf"^ports: {told}: the servers in containers have the"):
        check_for_pods(fixed_ports(setting, production()))


@pytest.mark.parametrize("setting", ["toxiproxy-a=8474,endpoint-memcached=11211", "6376", None])
def test_ports_beside_those_of_servers(setting: str | None) -> None:
    """What listens in no pod can have them: APIs, admin addresses, and Memcached's endpoint."""
    check_for_pods(fixed_ports(setting, production()))


def test_taken_by_a_process(listener: int) -> None:
    """The error names the process."""
    me = f"{psutil.Process().name()}, process {os.getpid()}"
    with pytest.raises(PortTaken, match=rf"taken: {listener} \(redis-a\): {me}\. Stop who has"):
        check_free({"redis-a": listener})


def test_taken_by_somebody(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system does not tell who has a port, the error says so."""

    def refused(_kind: str) -> list[object]:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refused)
    with pytest.raises(PortTaken, match=r"\(redis-a\): a process that can't be seen from here"):
        check_free({"redis-a": listener})


def test_taken_by_a_topology(
    listener: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the topology, whatever process of it has the port, and how to end it."""
    variables = {"CACHESIM_REDIS_NODES": f"127.0.0.1:1,127.0.0.1:{listener}"}
    (tmp_path / "env.json").write_text(json.dumps(variables))
    monkeypatch.setattr(ports, "living_runs", lambda: [Run("other", tmp_path, Owner.current())])
    with pytest.raises(
        PortTaken, match=rf"the topology 'other' of process {os.getpid()} .*down --"
    ):
        check_free({"redis-a": listener})


def test_same_addresses_from_run_to_run() -> None:
    """A topology comes up at its ports, again at once, and not while another one has them."""
    first = free_first_port()
    for _ in range(2):
        with Simulator(backend="embedded", speed=100, ports=first, name="fixed") as sim:
            at = {name: node.endpoint.port - first for name, node in sim.nodes.items()}
            assert at == {
                "redis-a": 0,
                "memcached-a": 1,
                "redis-b": 10,
                "memcached-b": 11,
                "redis-c": 20,
                "memcached-c": 21,
            }
            assert sim.env()["CACHESIM_TOXIPROXY_B"].endswith(f":{first + 12}")
            assert sim.redis_cluster().ping()
            other = Simulator(backend="embedded", ports={"memcached-b": first}, name="other")
            with pytest.raises(PortTaken, match=rf"{first} \(memcached-b\): the topology 'fixed'"):
                other.start()
