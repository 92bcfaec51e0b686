"""Runs a shipped scenario on the topology of the page, and tells how its verdict grows.

The run is a `cachesim run` of its own, which has the lease meanwhile.
"""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from cachesim.errors import CachesimError
from cachesim.runs import python

_LINES = 60  # the latest ones of what a run says
_SEEDS = 1_000_000
_EVERY = 3.0  # seconds from one judgement of a run that goes on to the next


def shipped() -> list[Mapping[str, str]]:
    """Return the shipped scenarios, each with its name and its title.

    Raises:
        CachesimError: the extra `scenarios` is missing.
    """
    from cachesim.scenarios.files import library, read_file

    return [
        {"name": name, "title": (read_file(name).description or "").partition("\n")[0]}
        for name in library()
    ]


class Runs:
    """Runs one scenario at a time. Thread-safe.

    Args:
        topology: the name of the topology.
    """

    def __init__(self, topology: str) -> None:
        self._topology = topology
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._state: dict[str, Any] = {}
        self._folder = Path()

    @property
    def state(self) -> Mapping[str, Any]:
        """The present or last run; empty: there was none.

        It has `scenario`, `folder`, `is_over`, `lines`, `verdicts`, and at the end `result` and
        `reason`.
        """
        with self._lock:
            return {**self._state, "lines": list(self._lines)} if self._state else {}

    def start(self, scenario: str) -> None:
        """Begin a run.

        Raises:
            CachesimError: there is no such scenario, or a run goes on.
        """
        from cachesim.scenarios.runner import folder_of

        names = [it["name"] for it in shipped()]
        if scenario not in names:
            raise CachesimError(f"no scenario {scenario!r}: there are {', '.join(names)}")
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise CachesimError(f"{self._state['scenario']} is running: wait, or end it")
            seed = random.SystemRandom().randrange(_SEEDS)
            self._folder = folder_of(scenario, seed)
            self._lines.clear()
            self._state = {
                "scenario": scenario,
                "folder": str(self._folder),
                "is_over": False,
                "result": None,
                "reason": "",
                "verdicts": [],
            }
            command = [
                sys.executable, "-m", "cachesim", "run", scenario, "--name", self._topology,
                "--seed", str(seed), "--record", str(self._folder), "--json",
            ]  # fmt: skip
            self._process = subprocess.Popen(  # noqa: S603  # ours, with a name of the list
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, env=python.environment(),
            )  # fmt: skip
            has_ended = threading.Event()
            read = partial(self._read, self._process, has_ended)
            for target in (read, partial(self._judge, self._folder, has_ended)):
                threading.Thread(target=target, name="cachesim-run", daemon=True).start()

    @property
    def report(self) -> Path | None:
        """The HTML report of the last run; None: there is none yet."""
        with self._lock:
            path = self._folder / "report.html"
            return path if self._state.get("is_over") and path.exists() else None

    def end(self) -> None:
        """Let the run end in order, if one goes on."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)

    def _read(self, process: "subprocess.Popen[str]", has_ended: threading.Event) -> None:
        lines: IO[str] = process.stderr  # type: ignore[assignment]
        with lines:
            for line in lines:
                with self._lock:
                    self._lines.append(line.rstrip())
        process.wait()
        has_ended.set()

    def _judge(self, folder: Path, has_ended: threading.Event) -> None:
        while not has_ended.wait(_EVERY):
            self._note(folder, **self._so_far(folder))
        record = folder / "record.json"
        if record.exists():
            found = json.loads(record.read_text(encoding="utf-8"))
            run, verdicts = found["run"], found["verdicts"]
            result, reason = run["result"], run["reason"]
            self._note(folder, is_over=True, result=result, reason=reason, verdicts=verdicts)
        else:
            self._note(folder, is_over=True, result=None)

    def _so_far(self, folder: Path) -> dict[str, Any]:
        """Return what can be said of the history as it is now."""
        from cachesim.history.reader import History
        from cachesim.scenarios.judging import judgement_of
        from cachesim.scenarios.runner import HISTORY

        try:
            with History(folder / HISTORY) as history:
                found = judgement_of(history)
        except (sqlite3.Error, LookupError, ValueError, ArithmeticError):
            return {}  # too early
        return {"verdicts": [it.as_dict() for it in found.verdicts]}

    def _note(self, folder: Path, **values: Any) -> None:
        with self._lock:
            if folder == self._folder:  # else the next run has begun meanwhile
                self._state |= values
