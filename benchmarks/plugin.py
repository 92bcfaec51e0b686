"""pytest with the plugin: its cost while it is off, and how soon an attached test begins.

Each run is a pytest process of its own with one test, which notes when it begins. The peer is the
same run with `-p no:cachesim`: pytest's own start-up, with the same other plugins. The test that
attaches asks for the fixture `cachesim`; that of the peer does not.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from statistics import median

from benchmarks.measure import Row, Side, comparison, duration, in_turns, table

_TEST = """
import time
from pathlib import Path
from statistics import median

def test_it({}):
    Path("began").write_text(str(time.monotonic()))
"""
_WITHOUT = "without the plugin"


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown.

    Raises:
        RuntimeError: the plugin is not installed.
    """
    if "cachesim" not in entry_points(group="pytest11").names:
        raise RuntimeError("the plugin is not installed here: pip install -e .")
    name = f"bench-{secrets.token_hex(3)}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "test_plain.py").write_text(_TEST.format(""))
        (folder / "test_asking.py").write_text(_TEST.format("cachesim"))
        without = _side(folder, "test_plain.py", "-p", "no:cachesim")
        off = _side(folder, "test_plain.py")
        rows = [_row("first test, plugin off", off, without, runs)]
        _call(folder, "-m", "cachesim", "up", "-d", "--name", name)
        try:
            attach = f"--cachesim-attach={name}"
            attached = _side(folder, "test_asking.py", "--cachesim", attach)
            rows.append(_row("first test, attached", attached, without, runs))
        finally:
            _call(folder, "-m", "cachesim", "down", "--name", name)
    later = table(
        ("later than without, in the same turn", "median", "max"),
        ([row.figure, duration(median(_later(row))), duration(max(_later(row)))] for row in rows),
    )
    return f"{comparison(rows)}\n\n{later}"


def _row(figure: str, ours: Side, without: Side, runs: int) -> Row:
    # In turns of their own: a topology that was returned keeps its owner busy for a moment.
    times = in_turns(runs, {"ours": ours, "without": without})
    return Row(figure, times["ours"]["start"], _WITHOUT, times["without"]["start"])


def _later(row: Row) -> list[float]:
    return [ours - theirs for ours, theirs in zip(row.ours, row.theirs, strict=True)]


def _side(folder: Path, *arguments: str) -> Side:
    def side() -> Mapping[str, float]:
        began = folder / "began"
        began.unlink(missing_ok=True)
        start = time.monotonic()  # of all processes of a machine
        others = ["-p", "no:cacheprovider", "-p", "no:asyncio"]  # which warns of what is not set
        _call(folder, "-m", "pytest", "-q", *others, *arguments)
        return {"start": float(began.read_text()) - start}

    return side


def _call(folder: Path, *arguments: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CACHESIM")}
    subprocess.run(  # noqa: S603  # our own command
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
