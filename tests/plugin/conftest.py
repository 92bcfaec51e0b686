"""pytest runs within the tests."""

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest

# Before any run within a test: a run drops from memory what was imported since it began.
from cachesim import simulator
from tests.plugin.fake_simulator import FakeSimulator


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own."""
    for variable in [v for v in os.environ if v.startswith("CACHESIM_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSimulator]:
    """The topology that the plugin starts, in this process."""
    fake = FakeSimulator.new_class()
    monkeypatch.setattr(simulator, "Simulator", fake)
    return fake


@pytest.fixture
def run_pytest(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run pytest with the plugin, whether it is installed or not."""
    installed = any(it.value == "pytest_cachesim" for it in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "pytest_cachesim"]

    def run(*arguments: str, subprocess: bool = False) -> pytest.RunResult:
        how: Any = pytester.runpytest_subprocess if subprocess else pytester.runpytest_inprocess
        result: pytest.RunResult = how(*plugin, "-p", "no:cacheprovider", *arguments)
        return result

    return run
