"""What is refused, on every link."""

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
import redis.exceptions

from cachesim import Simulator
from cachesim.elasticache import FORBIDDEN_COMMANDS
from cachesim.topology import CLIENT, ENDPOINTS, Endpoint, Service
from tests.contract.helpers import node_client, seen_from

pytestmark = pytest.mark.core

REFUSED = r"(?i)no permission|unknown (sub)?command|has no permissions|DEBUG command not allowed"


@contextlib.contextmanager
def every_link(sim: Simulator, service: Service) -> Iterator[dict[str, Endpoint]]:
    """An address for each link of a service, by the link's name."""
    with contextlib.ExitStack() as stack:
        addresses = {}
        for handle in sim.links.values():
            link = handle.link
            if link.service is not service:
                continue
            if link.target_zone == ENDPOINTS:
                addresses[link.name] = handle.listen
                continue
            endpoint = sim.nodes[link.target].endpoint
            if link.source != CLIENT:
                endpoint = stack.enter_context(seen_from(sim, link.source, endpoint.port))
            addresses[link.name] = endpoint
        assert len(addresses) == 9 + 1
        yield addresses


def handshake(endpoint: Endpoint, context: ssl.SSLContext) -> str | None:
    """Make a TLS connection; the version that was agreed on."""
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout=2) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.version()


@pytest.mark.filterwarnings("ignore:.*TLSv1_1:DeprecationWarning")
@pytest.mark.parametrize("service", [Service.REDIS, Service.MEMCACHED])
def test_tls(sim: Simulator, service: Service) -> None:
    """TLS 1.2 and 1.3 with the run's CA; not 1.1, no other CA, no plain text."""
    good = ssl.create_default_context(cafile=sim.env()["CACHESIM_CA_FILE"])
    v12 = ssl.create_default_context(cafile=sim.env()["CACHESIM_CA_FILE"])
    v12.maximum_version = ssl.TLSVersion.TLSv1_2
    v11 = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    v11.check_hostname, v11.verify_mode = False, ssl.CERT_NONE
    v11.set_ciphers("ALL:@SECLEVEL=0")  # or this side would refuse it
    v11.minimum_version = v11.maximum_version = ssl.TLSVersion.TLSv1_1
    stranger = ssl.create_default_context()
    with every_link(sim, service) as addresses:
        for endpoint in addresses.values():
            assert handshake(endpoint, good) == "TLSv1.3"
            assert handshake(endpoint, v12) == "TLSv1.2"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                handshake(endpoint, v11)
            with pytest.raises(ssl.SSLCertVerificationError):
                handshake(endpoint, stranger)
            with socket.create_connection((endpoint.host, endpoint.port), timeout=2) as plain:
                plain.sendall(b"PING\r\nversion\r\n")
                answer = b""
                with contextlib.suppress(ConnectionError):
                    answer = plain.recv(100)
                assert b"PONG" not in answer
                assert b"VERSION" not in answer
                assert b"NOAUTH" not in answer


def test_token(sim: Simulator) -> None:
    """Without the token, or with another, nothing is answered."""
    with every_link(sim, Service.REDIS) as addresses:
        for endpoint in addresses.values():
            without = node_client(sim, endpoint, password=None, ssl_check_hostname=False)
            with pytest.raises(redis.exceptions.AuthenticationError, match=r"NOAUTH|required"):
                without.ping()
            wrong = node_client(sim, endpoint, password="x" * 32, ssl_check_hostname=False)
            with pytest.raises(redis.exceptions.AuthenticationError, match=r"WRONGPASS|invalid"):
                wrong.ping()


def test_forbidden_commands(sim: Simulator) -> None:
    """What ElastiCache forbids is refused; a real server says NOPERM instead of unknown command."""
    # Valid ones: Redis looks at their number before it looks at permissions.
    arguments = {
        "config": "GET *",
        "debug": "SLEEP 0",
        "migrate": "h 1 k 0 1",
        "psync": "? -1",
        "replicaof": "NO ONE",
        "slaveof": "NO ONE",
        "acl|deluser": "x",
        "acl|setuser": "x",
        "cluster|addslots": "1",
        "cluster|addslotsrange": "1 2",
        "cluster|delslots": "1",
        "cluster|delslotsrange": "1 2",
        "cluster|forget": "x" * 40,
        "cluster|meet": "h 1",
        "cluster|replicate": "x" * 40,
        "cluster|setslot": "1 STABLE",
    }
    with every_link(sim, Service.REDIS) as addresses:
        for endpoint in addresses.values():
            client = node_client(sim, endpoint, ssl_check_hostname=False)
            for command in FORBIDDEN_COMMANDS:
                words = [*command.split("|"), *arguments.get(command, "").split()]
                with pytest.raises(redis.exceptions.ResponseError, match=REFUSED):
                    client.execute_command(*words)
            assert client.ping()
            client.close()
