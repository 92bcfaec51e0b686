"""Files about failing tests: `--cachesim-artifacts DIR`."""

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_cachesim import chosen

if TYPE_CHECKING:
    from cachesim.events import Event

_LONGEST = 150  # characters of a folder's name: file systems allow 255 bytes
_PLAIN = re.compile(r"[\w./:]+(\[\w[\w.]*(-[\w.]+)*\])?")  # tests that differ in their words too


class Artifacts:
    """A folder with a folder for each failing test.

    Attributes:
        told: lines for the end of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.told: list[str] = []

    @classmethod
    def of(cls, config: pytest.Config) -> "Artifacts | None":
        """Return those that the options ask for; None: none."""
        folder = str(chosen(config, "cachesim_artifacts") or "")
        return cls(config.invocation_params.dir / folder) if folder else None

    def keep(
        self,
        report: pytest.TestReport,
        events: "Iterable[Event]",
        logs: Iterable[tuple[str, str]],
        observed: Iterable[str],
    ) -> None:
        """Write the files of a test, and tell at the end where they are.

        Args:
            logs: nodes, with what each has logged.
            observed: the timelines of what the test has observed.
        """
        files = {
            f"{report.when}.txt": report.longreprtext,
            "events.jsonl": "\n".join(json.dumps(it.as_dict()) for it in events),
            "events.txt": "\n".join(map(str, events)),
            "observed.txt": "\n\n".join(observed),
            **{f"{node}.log": text for node, text in logs},
        }
        folder = self._folder / _name(report.nodeid)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                if text:
                    (folder / name).write_text(
                        f"{text}\n", encoding="utf-8", errors="backslashreplace"
                    )
        except OSError as error:
            self.told.append(f"--cachesim-artifacts: {error}")
        else:
            self.told.append(f"Artifacts of failing tests: {self._folder}")


def _name(test: str) -> str:
    """Return the name of a test's folder, the same in all processes. No other test has it."""
    name = re.sub(r"[^\w.]+", "-", test).strip("-")
    if len(name) <= _LONGEST and _PLAIN.fullmatch(test):
        return name
    return f"{name[:_LONGEST]}~{zlib.crc32(test.encode()):08x}"
