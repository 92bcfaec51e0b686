"""Runs of the page: what is told of each."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachesim.dashboard import runs
from cachesim.dashboard.runs import Runs

LIMIT = 10.0  # seconds


class Process:
    """A run that says nothing, and ends when it is told to."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        self.stderr = self
        self.ended = threading.Event()

    def __enter__(self) -> None:
        """See `IO`."""

    def __exit__(self, *_arguments: object) -> None:
        """See `IO`."""

    def __iter__(self) -> Iterator[str]:
        assert self.ended.wait(LIMIT)
        return iter(())

    def poll(self) -> int | None:
        """See `Popen`."""
        return 0 if self.ended.is_set() else None

    def wait(self) -> int:
        """See `Popen`."""
        return 0


def test_a_run_that_follows_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still judged of the run before is not told of the next one."""
    begun, free, told = threading.Event(), threading.Event(), threading.Event()

    class Slow(Runs):
        def _so_far(self, *_folder: Path) -> dict[str, Any]:
            if begun.is_set():
                return {}
            begun.set()
            assert free.wait(LIMIT)
            return {"verdicts": ["of the first one"]}

        def _note(self, *folder: Path, **values: Any) -> None:
            super()._note(*folder, **values)
            told.set()

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(runs, "_EVERY", 0.01)
    it = Slow("demo")
    it.start("az-outage")
    assert begun.wait(LIMIT)
    first: Any = it._process
    first.ended.set()
    it.start("lag-then-crash")
    free.set()
    assert told.wait(LIMIT)
    assert (it.state["scenario"], it.state["verdicts"]) == ("lag-then-crash", [])
    second: Any = it._process
    second.ended.set()
