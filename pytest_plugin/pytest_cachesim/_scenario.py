"""A scenario that runs beside a test, and its verdict."""

import contextlib
import io
import re
import shlex
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cachesim.scenarios.timeline import Timeline
    from cachesim.simulator.simulator import Simulator

_RUNS = "cachesim-runs"  # as for `cachesim run`
_WIDTH = 100  # of what the report of a test shows


class Beside:
    """A scenario beside a test.

    Args:
        sim: the test's topology.
        timeline: of the scenario.
        folder: for the record of the run.
        again: the command that runs it again.

    Attributes:
        problem: why the test does not pass with it; None: it passes.
    """

    def __init__(self, sim: "Simulator", timeline: "Timeline", folder: Path, again: str) -> None:
        self._sim = sim
        self._again = again
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
        again = f"pytest --cachesim --cachesim-seed {seed} {shlex.quote(item.nodeid)}"
        return cls(sim, plan(scenario, seed), item.config.rootpath / _RUNS / folder, again)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the scenario beside the body, which begins with its workload.

        If the body raises, the scenario is cut short. Else its end is waited for, and judged.
        """
        from cachesim.scenarios.runner import run
        from cachesim.scenarios.workloads import plan_of, pods_of, profiles_of

        workload = plan_of(self._timeline.scenario.workload)
        facts = {
            "again": self._again,
            "clients": profiles_of(workload),
            "pods": len(workload.names),
        }
        has_begun, is_cut_short = threading.Event(), threading.Event()
        with ThreadPoolExecutor(1, "cachesim-scenario") as pool:
            running = pool.submit(
                run,
                self._sim,
                self._timeline,
                self._folder,
                workload=pods_of(workload),
                begun=has_begun.set,
                is_interrupted=is_cut_short.is_set,
                facts=facts,
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
        from cachesim.scenarios import judging, report
        from cachesim.scenarios.verdict import Result

        name = self._timeline.scenario.name
        try:
            path = running.result()
        except CachesimError as error:
            return f"the scenario {name} could not be run: {error}"
        with History(path) as history:
            judgement = judging.judgement_of(history)
            report.write(self._folder, history, judgement, self._timeline.as_dict())
            if judgement.run.result is Result.PASS:
                return None
            shown = _text(report.terminal(judgement, history))
        return (
            f"the verdict on the scenario {name} is {judgement.run.result}\n{shown}"
            f"The report is {self._folder / 'report.html'}"
        )


def _text(shown: "RenderableType") -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDTH)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()
