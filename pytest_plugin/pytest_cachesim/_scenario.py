"""A scenario that runs beside a test, and its verdict."""

import contextlib
import io
import re
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cachesim.scenarios.timeline import Timeline
    from cachesim.simulator.simulator import Simulator

SCENARIO = "scenario"
"""What a marker has besides settings."""
_WIDTH = 100  # of what the report of a test shows


class Beside:
    """A scenario beside a test.

    Args:
        sim: the test's topology.
        timeline: of the scenario.
        folder: for the record of the run.
        again: the command that runs it again.
    """

    def __init__(self, sim: "Simulator", timeline: "Timeline", folder: Path, again: str) -> None:
        self._sim = sim
        self._again = again
        self._timeline = timeline
        self._folder = folder

    @classmethod
    def of(cls, name: str, item: pytest.Item, sim: "Simulator", seed: int) -> "Beside":
        """Return the scenario of a test.

        Args:
            name: a shipped one's, or a file's, from the test's folder or pytest's root folder.
            seed: of what it draws.

        The test fails if there is none, or if it has mistakes.
        """
        from cachesim.errors import CachesimError
        from cachesim.scenarios.files import read_file
        from cachesim.scenarios.runner import folder_of
        from cachesim.scenarios.timeline import plan

        folders = (item.path.parent, item.config.rootpath)
        files = (folder / name for folder in folders)
        try:
            scenario = read_file(next(filter(Path.is_file, files), name))
        except CachesimError as error:
            fail(f"{item.nodeid}: {error}")
        # Workers of xdist may begin tests of the same name at the same second.
        worker = getattr(item.config, "workerinput", {}).get("workerid", "")
        test = re.sub(r"\W+", "-", f"{item.name}-{worker}").strip("-")
        again = f"pytest --cachesim --cachesim-seed {seed} {shlex.quote(item.nodeid)}"
        return cls(sim, plan(scenario, seed), item.config.rootpath / folder_of(test, seed), again)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the scenario beside the body, which begins with its workload.

        If the body raises, the scenario is cut short. Else its end is waited for. The test fails if
        the verdict is not `pass`, or if the scenario can't be run.
        """
        from cachesim.scenarios.runner import run
        from cachesim.scenarios.workloads import pods_of

        has_begun, is_cut_short = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1, "cachesim-scenario") as pool:
            running = pool.submit(
                run,
                self._sim,
                self._timeline,
                self._folder,
                workload=pods_of,
                begun=has_begun.set,
                is_interrupted=is_cut_short.is_set,
                facts={"again": self._again},
                quiet_cut=self._sim.control_plane.timing.speed == 1,
            )
            running.add_done_callback(lambda _: has_begun.set())
            try:
                has_begun.wait()
                if running.done():
                    self._history_of(running)
                yield
                self._judge(self._history_of(running))
            except BaseException:
                is_cut_short.set()
                raise

    def _history_of(self, running: "Future[Path]") -> Path:
        from cachesim.errors import CachesimError

        try:
            return running.result()
        except CachesimError as error:
            fail(f"the scenario {self._timeline.scenario.name} could not be run: {error}")
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            fail(
                f"the scenario {self._timeline.scenario.name} could not be recorded: {error}. Make "
                f"{self._folder.parent} a folder that can be written to, or give pytest another "
                "root folder with --rootdir."
            )

    def _judge(self, path: Path) -> None:
        from cachesim.history.reader import History
        from cachesim.scenarios import judging, report
        from cachesim.scenarios.verdict import Result

        with History(path) as history:
            judgement = judging.judgement_of(history)
            record = report.write(self._folder, history, judgement, self._timeline.as_dict())
        shown = _text(report.terminal(record))
        if judgement.run.result is not Result.PASS:
            name, result = self._timeline.scenario.name, judgement.run.result
            place = self._folder / "report.html"
            fail(f"the verdict on the scenario {name} is {result}\n{shown}The report is {place}")


def scenario_of(item: pytest.Item) -> str | None:
    """Return the scenario of a test: that of its closest marker that has one. None: none runs."""
    marks = (mark.kwargs for mark in item.iter_markers("cachesim"))
    found = next((it[SCENARIO] for it in marks if SCENARIO in it), None)
    return None if found is None else str(found)


def fail(message: str) -> NoReturn:
    """Let the test fail with a message alone: no traceback, and no error that it is made from."""
    raise pytest.fail.Exception(f"cachesim: {message}", pytrace=False) from None


def _text(shown: "RenderableType") -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDTH, markup=False)
    with console.capture() as captured:
        console.print(shown, crop=False)
    return captured.get()
