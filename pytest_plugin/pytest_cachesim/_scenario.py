"""A scenario that runs beside a test, and its verdict."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cachesim.scenarios.checkers import Judgement
    from cachesim.scenarios.timeline import Timeline
    from cachesim.scenarios.verdict import Verdict
    from cachesim.simulator.simulator import Simulator

_RUNS = "cachesim-runs"


class Beside:
    """A scenario beside a test.

    Args:
        sim: the test's topology.
        timeline: of the scenario.
        folder: for the record of the run.

    Attributes:
        problem: why the test does not pass with it; None: it passes.
    """

    def __init__(self, sim: "Simulator", timeline: "Timeline", folder: Path) -> None:
        self._sim = sim
        self._timeline = timeline
        self._folder = folder
        self.problem: str | None = None

    @classmethod
    def of(cls, name: str, item: pytest.Item, sim: "Simulator", seed: int) -> "Beside":
        """Return the scenario of a test.

        Args:
            name: a shipped one's, or a file's, from the test's folder or pytest's root folder.
            seed: of what it draws.

        Raises:
            InvalidScenario: the file has mistakes, or there is none.
        """
        from cachesim.scenarios.files import read_file
        from cachesim.scenarios.timeline import plan

        folders = (item.path.parent, item.config.rootpath)
        files = (folder / name for folder in folders)
        scenario = read_file(next(filter(Path.is_file, files), name))
        test = re.sub(r"\W+", "-", item.name).strip("-")
        folder = f"{test}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        return cls(sim, plan(scenario, seed), item.config.rootpath / _RUNS / folder)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the scenario beside the body, which begins with its workload.

        If the body raises, the scenario is cut short. Else its end is waited for, and judged.
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
                quiet_cut=self._sim.control_plane.timing.speed == 1,
            )
            running.add_done_callback(lambda _: has_begun.set())
            try:
                has_begun.wait()
                yield
                self.problem = self._judge(running)
            except BaseException:
                is_cut_short.set()
                raise

    def _judge(self, running: "Future[Path]") -> str | None:
        from cachesim.errors import CachesimError
        from cachesim.history.reader import History
        from cachesim.scenarios.judging import judgement_of
        from cachesim.scenarios.verdict import Result

        name = self._timeline.scenario.name
        try:
            path = running.result()
        except CachesimError as error:
            return f"the scenario {name} could not be run: {error}"
        with History(path) as history:
            judgement = judgement_of(history)
        if judgement.run.result is Result.PASS:
            return None
        lines = [f"the verdict on the scenario {name} is {judgement.run.result}", *_told(judgement)]
        return "\n".join([*lines, f"The record is in {self._folder}."])


def _told(judgement: "Judgement") -> Iterator[str]:
    for it in (*judgement.gates, *judgement.verdicts):
        yield f"{it.result:<8} {it.name}: {_figure(it)}{it.reason}"


def _figure(it: "Verdict") -> str:
    if it.low is None or it.high is None:
        return ""
    limit = "" if it.threshold is None else f" of {it.threshold:g}"
    return f"{it.low:.3g} to {it.high:.3g}{limit} {it.unit}: "
