"""The command line: how long a person waits for it. Each command is a process of its own.

The peer of `up -d` is a `Simulator` in a process that has imported everything already.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks.measure import Row, comparison, in_turns, seconds
from cachesim import Simulator

_ASKED = {"--help": 0.15, "status": 0.3}
_OVER_START = 0.5


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        commands = _Commands(folder)
        times = in_turns(runs, {"commands": commands.run, "start": _start})
    ours, start = times["commands"], times["start"]["start"]
    over = [one - other for one, other in zip(ours["up -d"], start, strict=True)]
    rows = [Row(f"cachesim {it}", ours[it], "asked", [limit]) for it, limit in _ASKED.items()]
    rows.append(Row("cachesim up -d", ours["up -d"], "Simulator().start()", start))
    rows.append(Row("up -d over Simulator().start()", over, "asked", [_OVER_START]))
    return comparison(rows)


class _Commands:
    """Runs commands whose state is in a folder of its own."""

    def __init__(self, folder: str) -> None:
        self._environment = {**os.environ, "XDG_STATE_HOME": folder, "TMPDIR": folder}

    def run(self) -> Mapping[str, float]:
        """Run each command once."""
        up = self._seconds("up", "-d")
        try:
            return {"up -d": up, "status": self._seconds("status"), "--help": self._seconds("-h")}
        finally:
            self._seconds("down")

    def _seconds(self, *arguments: str) -> float:
        command = [sys.executable, "-m", "cachesim", *arguments]
        return seconds(
            lambda: subprocess.run(  # noqa: S603  # our own command
                command, env=self._environment, check=True, capture_output=True
            )
        )


def _start() -> Mapping[str, float]:
    with ExitStack() as life:

        def start() -> None:
            life.callback(Simulator(backend="docker").start().stop)

        return {"start": seconds(start)}
