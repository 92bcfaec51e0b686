"""Fixtures that run pytest inside a test."""

import os
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest

from cachesim.backends import selection

# Before any run within a test: a run drops from memory what was imported since it began.
from cachesim.simulator import launching, simulator
from tests.plugin.fake_simulator import FakeProcess, FakeSimulator


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own."""
    for variable in [v for v in os.environ if re.match("CACHESIM(_|$)", v)]:
        monkeypatch.delenv(variable)


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine answers, for runs in this process."""
    monkeypatch.setattr(selection, "choose", lambda _settings: ("docker", "an engine answers"))


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    """The process that the plugin starts, in this one."""
    process = FakeProcess.new_class()
    monkeypatch.setattr(launching, "DaemonProcess", process)
    return process


@pytest.fixture
def fake(process: type[FakeProcess], monkeypatch: pytest.MonkeyPatch) -> type[FakeSimulator]:
    """The topology that the plugin starts, in this process."""
    assert process  # none is started
    fake = FakeSimulator.new_class()
    monkeypatch.setattr(simulator, "Simulator", fake)
    return fake


@pytest.fixture
def plugins() -> list[str]:
    """The options that give a run the plugin, whether it is installed or not, and few others."""
    installed = any(it.value == "pytest_cachesim" for it in entry_points(group="pytest11"))
    options = [] if installed else ["-p", "pytest_cachesim"]
    # hypothesis takes longer than the rest of a run, to import what the run has no use for.
    return [*options, "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, plugins: list[str]) -> Callable[..., pytest.RunResult]:
    """Run pytest with the plugin."""

    def run(
        *arguments: str, subprocess: bool = False, with_asyncio: bool = False
    ) -> pytest.RunResult:
        how: Any = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        # It warns of an option that is not set, and some runs take warnings for errors.
        others = [] if with_asyncio else ["-p", "no:asyncio"]
        result: pytest.RunResult = how(*plugins, *others, *arguments)
        return result

    return run
