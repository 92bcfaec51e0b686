"""What tests do to runs."""

from cachesim.runs.files import RunFiles


def end(run: RunFiles) -> None:
    """Let it seem that the process of a run has ended."""
    host, pid, started = (run.folder / "owner").read_text().rsplit(" ", 2)
    (run.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")
