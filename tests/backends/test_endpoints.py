"""The listeners of the configuration endpoints."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from cachesim.backends.discovery import Discovery
from cachesim.backends.endpoints import ConfigurationEndpoints
from cachesim.errors import PortTaken
from cachesim.servers.bad_certificates import EXPIRED, WRONG_HOST
from cachesim.servers.certificates import (
    Certificate,
    CertificateAuthority,
    admin_context,
    client_context,
    server_context,
)
from cachesim.settings import Settings
from cachesim.topology import Endpoint, Service, production
from cachesim.toxiproxy.toxics import Latency, Stream


@pytest.fixture
def endpoints() -> Iterator[ConfigurationEndpoints]:
    """Those of a topology whose other parts are not there."""
    with closing(ConfigurationEndpoints("t", production(), Settings(), 7)) as it:
        yield it


@pytest.fixture
def nodes() -> Iterator[list[socket.socket]]:
    """Two servers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        for it in (one, two):
            it.settimeout(5)
        yield [one, two]


def connect(endpoints: ConfigurationEndpoints, service: Service = Service.REDIS) -> socket.socket:
    """Connect to an endpoint."""
    it = endpoints.address(service)
    return socket.create_connection((it.host, it.port), timeout=5)


def address(node: socket.socket) -> Endpoint:
    """Return where a server listens."""
    return Endpoint(*node.getsockname())


def test_leads_where_it_is_told(
    endpoints: ConfigurationEndpoints, nodes: list[socket.socket]
) -> None:
    """A connection goes where the endpoint leads when it is made, and stays there."""
    leads_to = address(nodes[0])
    endpoints.lead(Service.REDIS, lambda: leads_to)
    with connect(endpoints) as first, nodes[0].accept()[0] as accepted:
        leads_to = address(nodes[1])
        first.sendall(b"to the first")
        assert accepted.recv(100) == b"to the first"
        with connect(endpoints) as second, nodes[1].accept()[0] as other:
            other.sendall(b"from the second")
            assert second.recv(100) == b"from the second"
            accepted.sendall(b"still here")
            assert first.recv(100) == b"still here"


def test_in_a_zone(endpoints: ConfigurationEndpoints, nodes: list[socket.socket]) -> None:
    """A zone has addresses of its own. They lead to the same node, on the way from there."""
    here, there = map(address, nodes)
    endpoints.lead(Service.REDIS, lambda: here)
    placed = endpoints.in_zone("b", lambda node: there if node == here else node)
    assert endpoints.in_zone("b", lambda node: there if node == here else node) == placed
    assert placed.keys() == {"endpoint-redis", "endpoint-memcached"}
    assert endpoints.address(Service.REDIS) not in placed.values()
    at = placed["endpoint-redis"]
    with (
        socket.create_connection((at.host, at.port), timeout=5) as client,
        nodes[1].accept()[0] as accepted,
    ):
        client.sendall(b"from b")
        assert accepted.recv(100) == b"from b"
    with connect(endpoints) as client, nodes[0].accept()[0] as accepted:
        client.sendall(b"from no zone")
        assert accepted.recv(100) == b"from no zone"


def test_leads_nowhere(endpoints: ConfigurationEndpoints, nodes: list[socket.socket]) -> None:
    """A connection is closed while the endpoint leads nowhere, or to a dead node."""
    with connect(endpoints) as client:
        assert client.recv(1) == b""
    dead = address(nodes[0])
    nodes[0].close()
    endpoints.lead(Service.REDIS, lambda: dead)
    with connect(endpoints) as client:
        assert client.recv(1) == b""


def test_each_service_has_its_own(
    endpoints: ConfigurationEndpoints, nodes: list[socket.socket]
) -> None:
    """Redis and Memcached have an endpoint each."""
    endpoints.lead(Service.REDIS, lambda: address(nodes[0]))
    endpoints.lead(Service.MEMCACHED, lambda: address(nodes[1]))
    with connect(endpoints, Service.MEMCACHED), nodes[1].accept()[0]:
        pass
    assert endpoints.ports == {
        "endpoint-redis": endpoints.address(Service.REDIS).port,
        "endpoint-memcached": endpoints.address(Service.MEMCACHED).port,
    }


def test_faults_of_links(endpoints: ConfigurationEndpoints, nodes: list[socket.socket]) -> None:
    """Each is a link: it can be refused and get toxics."""
    endpoints.lead(Service.REDIS, lambda: address(nodes[0]))
    server, link = endpoints.toxiproxy_client(), "client-to-endpoint-redis"
    server.set_enabled(link, False)
    with pytest.raises(ConnectionRefusedError):
        connect(endpoints)
    server.set_enabled(link, True)
    server.add_toxic(link, "stall", Latency(10**9), Stream.DOWNSTREAM)
    it = endpoints.address(Service.REDIS)
    with pytest.raises(TimeoutError):
        socket.create_connection((it.host, it.port), timeout=0.2)
    server.remove_toxic(link, "stall")
    with connect(endpoints), nodes[0].accept()[0]:
        pass


def test_fixed_ports(nodes: list[socket.socket]) -> None:
    """The setting fixes their ports; one that is taken is told."""
    taken = address(nodes[0]).port
    with pytest.raises(PortTaken, match=f"{taken} \\(endpoint-redis\\)"):
        ConfigurationEndpoints("t", production(), Settings(), 7, {"endpoint-redis": taken})
    nodes[0].close()
    fixed = {"endpoint-redis": taken}
    with closing(ConfigurationEndpoints("t", production(), Settings(), 7, fixed)) as it:
        assert it.address(Service.REDIS) == Endpoint("127.0.0.1", taken)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", taken), timeout=5)


@contextmanager
def memcached(certificate: Certificate, folder: Path) -> Iterator[Endpoint]:
    """Yield the address of a server for one client, which knows one command."""
    tls = server_context(certificate, folder)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            plain, _ = listener.accept()
            plain.settimeout(5)
            with suppress(OSError), tls.wrap_socket(plain, server_side=True) as accepted:
                while accepted.recv(100):
                    accepted.sendall(b"VERSION 1.6.40\r\n")

        served = pool.submit(serve)
        yield address(listener)
        served.result(3)  # the connection ends with the client's


@pytest.mark.parametrize(
    ("problem", "told"), [(None, None), (EXPIRED, "has expired"), (WRONG_HOST, "mismatch")]
)
def test_answers_for_a_node(
    endpoints: ConfigurationEndpoints, tmp_path: Path, problem: str | None, told: str | None
) -> None:
    """That of Memcached answers `config get cluster`, with a certificate like the node's."""
    ca = CertificateAuthority()

    def server_tls(node: str, problem: str | None) -> ssl.SSLContext:
        return server_context(ca.issue(node, problem), tmp_path)

    endpoints.end_tls(Discovery(server_tls, admin_context(ca.pem)))
    endpoints.tell_cluster(b"the nodes")
    with memcached(ca.issue("memcached-a", problem), tmp_path) as node:
        endpoints.lead(Service.MEMCACHED, lambda: node)
        with connect(endpoints, Service.MEMCACHED) as plain:
            refused = pytest.raises(ssl.SSLCertVerificationError, match=told)
            with refused if told else nullcontext():
                client = client_context(ca.pem).wrap_socket(plain, server_hostname="localhost")
                client.sendall(b"config get cluster\r\n")
                assert client.recv(100) == b"the nodes"
                client.close()
