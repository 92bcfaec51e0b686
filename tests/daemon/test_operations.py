"""Operations are set up and closed together."""

import threading
from collections.abc import Iterable
from typing import cast

import pytest

from cachesim.backends.endpoints import ConfigurationEndpoints
from cachesim.daemon.operations import Operations
from cachesim.daemon.provisioning import Provision
from cachesim.events import EventLog
from cachesim.runs.files import RunFiles
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.credentials import Credentials
from cachesim.servers.redis_cluster import Cluster
from cachesim.settings import Settings
from cachesim.topology import Endpoint, production
from cachesim.toxiproxy.client import ToxiproxyClient
from tests.fakes import FakeBackend, FakeConfiguration, FakeFiles, toxiproxies


class Unreachable(FakeBackend):
    """Servers that refuse all connections."""

    def admin(self, node: str) -> Endpoint:  # noqa: ARG002  # all alike
        """Nobody listens on port 1."""
        return Endpoint("127.0.0.1", 1)

    def toxiproxy(self, zone: str) -> str:  # noqa: ARG002  # all alike
        """Nobody listens on port 1."""
        return "http://127.0.0.1:1"

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """One in memory."""
        return toxiproxies(production(), [])[zone]


@pytest.fixture
def provision() -> Provision:
    """Servers that refuse all connections."""
    ca = CertificateAuthority().pem
    return Provision(
        "t",
        production(),
        Settings(),
        7,
        Unreachable(production(), []),
        Credentials(),
        client_context(ca),
        cast(RunFiles, FakeFiles()),
        cast(ConfigurationEndpoints, FakeConfiguration(production())),
    )


def ours(others: Iterable[threading.Thread]) -> set[str]:
    """The names of the threads that watch, but for those of other topologies."""
    threads = set(threading.enumerate()).difference(others)
    return {it.name for it in threads if it.name.startswith("cachesim")}


def test_closed_together(provision: Provision, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prober and control plane run until the end; closing again does nothing."""
    monkeypatch.setattr(Cluster, "find_primary", lambda _self: "redis-b")
    others = threading.enumerate()
    operations = Operations(provision, EventLog())
    try:
        assert "cachesim-control-plane" in ours(others)
        assert operations.control_plane.shard().primary == "redis-b"
    finally:
        operations.close()
    operations.close()
    assert ours(others) == set()


def test_failure_half_way(provision: Provision, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the shard can't be asked for its primary, what was started before is closed."""

    def fail(_self: Cluster) -> str:
        raise ConnectionError("no answer")

    monkeypatch.setattr(Cluster, "find_primary", fail)
    others = threading.enumerate()
    with pytest.raises(ConnectionError, match="no answer"):
        Operations(provision, EventLog())
    assert ours(others) == set()
