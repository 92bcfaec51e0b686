"""Starting servers, without servers."""

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import pytest

from cachesim.backends import embedded
from cachesim.backends.base import Progress
from cachesim.daemon import provisioning
from cachesim.errors import SettingsError, StartError
from cachesim.runs.registry import living_runs
from cachesim.settings import Settings
from cachesim.topology import production
from tests.fakes import FakeBackend
from tests.processes import call

if TYPE_CHECKING:
    from cachesim.backends.compose.backend import ComposeBackend


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:  # noqa: ARG001  # it is entered
    """No other topologies than a test's own."""
    Servers.stopped.clear()


def silent(_line: str) -> None:
    """Show no progress."""


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
        assert provision.files.token.read_text() == provision.credentials.token
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


@pytest.mark.parametrize(
    ("backend", "is_without", "expected"),
    [
        ("embedded", False, "embedded"),
        ("docker", True, "containers.docker"),
        ("auto", True, "embedded"),
        ("auto", False, "containers.docker"),
    ],
)
def test_preload(
    monkeypatch: pytest.MonkeyPatch,
    backend: Literal["auto", "docker", "embedded"],
    is_without: bool,
    expected: str,
) -> None:
    """What the start will need is imported beforehand: the backend that is probably chosen."""
    names: list[str] = []
    monkeypatch.setattr(provisioning, "no_engine_configured", lambda: is_without)
    monkeypatch.setattr(importlib, "import_module", names.append)
    provisioning.preload(Settings(backend=backend))
    assert "cachesim.daemon.service" in names
    backends = [name for name in names if name.startswith("cachesim.backends.")]
    assert backends == [f"cachesim.backends.{expected}"]


PRELOADED = """
import sys
from cachesim.daemon.provisioning import preload
from cachesim.settings import Settings
preload(Settings(backend=sys.argv[1]))
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("backend", "expected"),
    [("embedded", "embedded"), ("docker", "containers.docker")],
)
def test_preloaded(alone: Path, backend: str, expected: str) -> None:
    """All that it names is there to import."""
    done = call(alone, "-c", PRELOADED, backend)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert {"cachesim.daemon.service", f"cachesim.backends.{expected}"} <= set(modules)


def test_composed_nodes_do_not_answer() -> None:
    """What can't be had with docker compose is an error that says where it can."""
    settings, life = Settings(discovery="nodes"), contextlib.ExitStack()
    composed = cast("ComposeBackend", None)  # nothing of it is used
    with pytest.raises(SettingsError, match=r"--backend docker.*CACHESIM_DISCOVERY=endpoint"):
        provisioning.take_over_composed(composed, "t", settings, 7, silent, life)
