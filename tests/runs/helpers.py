"""Helpers that change the files of a run."""

from cachesim.runs.directory import ADDRESS, write_private
from cachesim.runs.files import RunFiles


def answer(run: RunFiles) -> RunFiles:
    """Make a run look as if its process answered calls, as `cachesim up` does."""
    write_private(run.folder / ADDRESS, b"{}")
    return run


def end(run: RunFiles) -> None:
    """Make a run look as if its process had ended."""
    host, pid, started = (run.folder / "owner").read_text().rsplit(" ", 2)
    (run.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")
