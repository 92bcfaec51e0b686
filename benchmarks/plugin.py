"""pytest with the plugin: what it costs while it is off, and how soon an attached test begins.

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
from cachesim.daemon import launch

_TEST = """
import time
from pathlib import Path
from statistics import median

def test_it({}):
    Path("began").write_text(str(time.monotonic()))
"""
_WITHOUT = "without the plugin"
_FIGURES = {
    "off": "first test, plugin off",
    "attached": "first test, attached",
}


def run(runs: int) -> str:
    """Measure; see the module.

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
        launch({"name": name}, lambda _line: None)
        try:
            attach = ["test_asking.py", "--cachesim", f"--cachesim-attach={name}"]
            times = in_turns(
                runs,
                {
                    "off": _side(folder, "test_plain.py"),
                    "without": _side(folder, "test_plain.py", "-p", "no:cachesim"),
                    "attached": _side(folder, *attach),
                },
            )
        finally:
            _call(folder, "-m", "cachesim", "down", "--name", name)
    without = times["without"]["start"]
    rows = [Row(what, times[it]["start"], _WITHOUT, without) for it, what in _FIGURES.items()]
    later = table(
        ("later than without, in the same turn", "median", "max"),
        ([row.figure, duration(median(_later(row))), duration(max(_later(row)))] for row in rows),
    )
    return f"{comparison(rows)}\n\n{later}"


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
