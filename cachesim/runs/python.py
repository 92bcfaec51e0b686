"""Other Python processes of ours: what they are started with, whatever the owner's own are."""

import contextlib
import os
import sys
from pathlib import Path

_NOT_FOR_IT = (
    *("COV_CORE_", "COVERAGE_", "PYDEVD_", "DEBUGPY_", "PYCHARM_", "PYTHONBREAKPOINT"),
    *("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC"),
    *("PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME", "PYTHONVERBOSE", "PYTHONMALLOCSTATS"),
)
"""The beginnings of the variables that would make coverage or a debugger follow it, or that are
for the owner's own code: they would make it slow, or end it because of a warning."""


def command(file: Path) -> list[str]:
    """Return the command that runs a file of ours with this interpreter, by its absolute path.

    The file's folder is not imported from: it sets `sys.path` to the owner's `import_path`.
    """
    return [os.path.abspath(sys.executable), "-P", str(file)]  # noqa: PTH100  # no link resolved


def environment() -> dict[str, str]:
    """Return the variables of this process, without those that are for the owner's own code."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_IT)}


def import_path() -> list[str]:
    """Return where this process imports from, as absolute paths; "" is the current folder."""
    path = []
    for entry in sys.path:
        with contextlib.suppress(FileNotFoundError):  # the current folder was removed
            path += [os.path.abspath(entry)] if isinstance(entry, str) else []  # noqa: PTH100
    return path
