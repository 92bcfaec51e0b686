"""A helper that changes the files of a run."""

from cachesim.runs.files import RunFiles


def end(run: RunFiles) -> None:
    """Make a run look as if its process had ended."""
    host, pid, started = (run.folder / "owner").read_text().rsplit(" ", 2)
    (run.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")
