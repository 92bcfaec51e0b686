"""An engine that was there and is no more, without one."""

import re
from typing import Any
from unittest.mock import MagicMock

import pytest
import requests
from click.testing import CliRunner
from docker.errors import APIError

from cachesim.backends.containers import engine
from cachesim.backends.containers.docker import DockerBackend
from cachesim.backends.selection import choose
from cachesim.cli.app import main
from cachesim.daemon import leftovers
from cachesim.errors import BackendUnavailable, SettingsError
from cachesim.servers.certificates import CertificateAuthority
from cachesim.servers.credentials import Credentials
from cachesim.settings import Settings
from cachesim.topology import production

GONE = requests.ConnectionError("connection refused")


class Engine:
    """A Docker engine that answers until it is lost.

    Attributes:
        client: the SDK's client.
    """

    def __init__(self) -> None:
        self.client = MagicMock()
        self.client.api.networks.return_value = []
        self.client.api.containers.return_value = []
        self.client.api.volumes.return_value = {"Volumes": []}

    def host(self) -> str:
        """Return its host."""
        return "127.0.0.1"

    def lose(self) -> None:
        """Answer no more."""
        for verb in ("networks", "containers", "volumes"):
            getattr(self.client.api, verb).side_effect = GONE
        self.client.images.get.side_effect = GONE
        for part in (self.client.networks, self.client.volumes):
            part.create.side_effect = GONE

    def create(self, *_arguments: object, **_options: object) -> Any:
        """Create a container."""
        raise GONE


@pytest.mark.parametrize("step", ["checking images", "starting nine containers in three zones"])
def test_lost_during_a_start(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The error says so, and what to do about what may be left."""
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    lost = Engine()

    def progress(line: str) -> None:
        if line == step:
            lost.lose()

    client: Any = lost
    backend = DockerBackend(
        "t", production(), Settings(), Credentials(), CertificateAuthority(), client
    )
    with pytest.raises(BackendUnavailable, match=r"not answer any more.*refused.*`cachesim gc`"):
        backend.start(progress)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:port", "tcp://127.0.0.1:99999", "tcp://["])
def test_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A DOCKER_HOST that is no address is told as such, and `auto` goes without an engine."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(BackendUnavailable, match=re.escape(f"answers at {address}: ")):
        engine.connect()
    assert choose(Settings())[0] == "embedded"


def test_ports_of_servers() -> None:
    """A link can't have the port of a server in its pod: the start fails at once, and says so."""
    client: Any = Engine()
    settings: Any = {"ports": {"redis-b": 6379}}
    backend = DockerBackend(
        "t", production(), Settings(**settings), Credentials(), CertificateAuthority(), client
    )
    with pytest.raises(SettingsError, match=r"^ports: 6379 \(redis-b\): the servers in containers"):
        backend.start(lambda _line: None)


def test_lost_but_for_the_removal() -> None:
    """One that is back when it is to remove what there is was lost nevertheless."""
    back: Any = Engine()
    back.client.images.get.side_effect = GONE
    backend = DockerBackend(
        "t", production(), Settings(), Credentials(), CertificateAuthority(), back
    )
    with pytest.raises(BackendUnavailable, match="does not answer any more"):
        backend.start(lambda _line: None)


def test_an_engine_that_refuses_is_not_lost() -> None:
    """It answers."""
    refused = APIError("500 Server Error", explanation="no room")
    assert isinstance(refused, requests.RequestException)
    with pytest.raises(APIError), engine.answering():
        raise refused


@pytest.mark.usefixtures("alone")
def test_gc_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it does not know of containers, and that there are no files; it is no error."""
    lost = Engine()
    lost.lose()
    monkeypatch.setattr(leftovers, "no_engine_configured", lambda: None)
    monkeypatch.setattr(engine, "connect", lambda: lost)
    result = CliRunner().invoke(main, ["gc"])
    assert (result.exit_code, result.stdout) == (0, "No files were left behind.\n")
    assert result.stderr.startswith("Containers could not be listed: the Docker engine does not ")
