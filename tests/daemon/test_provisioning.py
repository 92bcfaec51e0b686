"""Starting servers and taking over those of others, without servers."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cachesim.backends import embedded
from cachesim.backends.base import Progress
from cachesim.daemon import provisioning
from cachesim.errors import SettingsError, StartError
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import Run, find_run, living_runs
from cachesim.servers.certificates import CertificateAuthority
from cachesim.settings import Settings
from cachesim.topology import production
from tests.fakes import FakeBackend


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:  # noqa: ARG001  # it is entered
    """No other topologies than a test's own."""
    Servers.stopped.clear()


def silent(_line: str) -> None:
    """Show no progress."""


# --- servers of our own ---------------------------------------------------------------------


class Servers(FakeBackend):
    """Servers in memory, in place of the embedded ones.

    Attributes:
        stopped: how often any of them was stopped.
    """

    stopped: ClassVar[list[bool]] = []

    def __init__(self, *_arguments: object) -> None:
        super().__init__(production(), [])

    def stop(self) -> None:
        """Note it."""
        self.stopped.append(True)


class BrokenServers(Servers):
    """Servers that do not start."""

    def start(self, progress: Progress) -> None:
        """Fail in the middle."""
        progress("starting")
        raise StartError("no room")


def test_servers_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run until the stack is closed, and have a folder with the CA and the token."""
    monkeypatch.setattr(embedded, "EmbeddedBackend", Servers)
    settings = Settings(backend="embedded")
    with contextlib.ExitStack() as life:
        provision = provisioning.start("mine", settings, 7, silent, life)
        assert (provision.name, provision.seed, provision.settings) == ("mine", 7, settings)
        assert provision.reason == "as the settings say"
        assert provision.token_file.read_text() == provision.credentials.token
        assert [run.name for run in living_runs()] == ["mine"]
        assert Servers.stopped == []
    assert Servers.stopped == [True]
    assert living_runs() == []


def test_servers_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that failed to start are stopped, and no files are left."""
    monkeypatch.setattr(embedded, "EmbeddedBackend", BrokenServers)
    with pytest.raises(StartError, match="no room"), contextlib.ExitStack() as life:
        provisioning.start("mine", Settings(backend="embedded"), 7, silent, life)
    assert Servers.stopped == [True]
    assert living_runs() == []


# --- those of another process ---------------------------------------------------------------


class LeasedServers(FakeBackend):
    """Another process's servers, as its answer to the lease describes them."""

    settings: Mapping[str, Any]

    def __init__(self, run: Run) -> None:
        super().__init__(production(), [])
        self.loan = {
            "settings": self.settings,
            "ca_file": str(run.folder / "ca.pem"),
            "token_file": str(run.folder / "token"),
            "admin_password": "secret",
        }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A topology that another process owns, with Redis, at speed 2, without a seed."""
    files = RunFiles("theirs", CertificateAuthority().pem, "to-ken")
    files.save_env({})
    theirs = Settings(name="theirs", backend="embedded", engine="redis", speed=2)
    monkeypatch.setattr(LeasedServers, "settings", theirs.model_dump(mode="json"), raising=False)
    monkeypatch.setattr(provisioning, "RemoteBackend", LeasedServers)
    return find_run("theirs")


def lease(run: Run, **asked: object) -> provisioning.Provision:
    """Lease it."""
    with contextlib.ExitStack() as life:
        return provisioning.lease(run, asked, 7, silent, life)


def test_lease(run: Run) -> None:
    """The settings, CA and secrets are the owner's; the seed is ours if the owner has none."""
    provision = lease(run)
    assert (provision.name, provision.settings.speed, provision.seed) == ("theirs", 2, 7)
    assert (provision.files, provision.folder) == (None, None)
    assert provision.credentials.token == "to-ken"  # noqa: S105  # a test's own
    assert provision.credentials.admin_password == "secret"  # noqa: S105  # a test's own


def test_lease_with_settings(run: Run) -> None:
    """Settings of the control plane can be chosen; others may be named if they are the owner's."""
    provision = lease(run, speed=30, seed=8, engine="redis", backend="auto")
    assert (provision.settings.speed, provision.seed) == (30, 8)
    assert provision.settings.backend == "embedded"


def test_lease_with_another_engine(run: Run) -> None:
    """Settings that are fixed at the start can't be changed; the error says what to do."""
    expected = r"engine = 'valkey': the topology 'theirs' runs with 'redis'. Leave it out, or start"
    with pytest.raises(SettingsError, match=expected):
        lease(run, engine="valkey")
