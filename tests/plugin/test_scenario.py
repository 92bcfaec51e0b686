"""The marker's scenario: it runs beside the test, and its verdict is part of the test's result."""

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cachesim.errors import CachesimError
from cachesim.history.recorder import Recorder

# Before any run within a test: a run drops from memory what was imported since it began.
from cachesim.scenarios import judging, report, runner
from cachesim.scenarios import workloads as _workloads  # noqa: F401
from cachesim.scenarios.checkers import Judgement
from cachesim.scenarios.timeline import Timeline
from cachesim.scenarios.verdict import Result, Verdict
from tests.plugin.fake_simulator import FakeSimulator

RunPytest = Callable[..., pytest.RunResult]


@dataclass
class FakeRunner:
    """Runs nothing, and says what it was told.

    Attributes:
        timelines: those that it was to run.
        options: of the last run.
        was_cut_short: whether that was interrupted.
        error: what it raises.
        result: its verdict.
    """

    timelines: list[Timeline] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)
    was_cut_short: bool = False
    error: Exception | None = None
    result: Result = Result.PASS

    def run(self, _sim: object, timeline: Timeline, folder: Path, **options: Any) -> Path:
        """As the real one. It ends when the test's body has written a file, or when it is told."""
        self.timelines.append(timeline)
        self.options = options
        if self.error is not None:
            raise self.error
        folder.mkdir(parents=True)
        Path("begun").touch()
        options["begun"]()
        while not (Path("done").exists() or self.was_cut_short):
            self.was_cut_short = options["is_interrupted"]()
        with Recorder(folder / runner.HISTORY) as recorder:
            recorder.set("end_at", 1.0)
        return folder / runner.HISTORY

    def judge(self, _history: object) -> Judgement:
        """As the real one."""
        return Judgement(Verdict("run", self.result), (), ())

    def write(self, folder: Path, *_args: object) -> None:
        """As the real one writes its files."""
        (folder / "report.html").touch()


@pytest.fixture
def scenarios(fake: type[FakeSimulator], monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    """What runs scenarios."""
    assert fake.made == []
    it = FakeRunner()
    monkeypatch.setattr(runner, "run", it.run)
    monkeypatch.setattr(judging, "judgement_of", it.judge)
    monkeypatch.setattr(report, "write", it.write)
    monkeypatch.setattr(report, "terminal", lambda _record: "what a person reads")
    return it


TEST = """
import pathlib, pytest

@pytest.mark.cachesim(scenario={scenario!r}, speed={speed})
def test_it(cachesim):
    assert pathlib.Path("begun").exists()
    pathlib.Path("done").touch()
"""


@pytest.mark.parametrize("speed", [1, 60])
def test_beside_the_test(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest, speed: float
) -> None:
    """The body begins with the workload; at production's speed idle times are cut."""
    pytester.makepyfile(TEST.format(scenario="az-outage", speed=speed))
    run_pytest("--cachesim", "--cachesim-seed=7").assert_outcomes(passed=1)
    (timeline,) = scenarios.timelines
    assert (timeline.scenario.name, timeline.seed) == ("az-outage", 7)
    assert not scenarios.was_cut_short
    assert scenarios.options["quiet_cut"] is (speed == 1)
    again = "pytest --cachesim --cachesim-seed 7 test_beside_the_test.py::test_it"
    assert scenarios.options["facts"] == {"again": again}
    assert len(list(Path("cachesim-runs").glob("test_it-7-*/report.html"))) == 1


@pytest.mark.usefixtures("scenarios")
def test_folder_of_a_worker(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Each worker of xdist has its own: two may begin tests of one name at the same second."""
    pytester.makeconftest("def pytest_configure(config): config.workerinput = {'workerid': 'gw1'}")
    pytester.makepyfile(TEST.format(scenario="az-outage", speed=30))
    run_pytest("--cachesim", "--cachesim-seed=7").assert_outcomes(passed=1)
    assert len(list(Path("cachesim-runs").glob("test_it-gw1-7-*/report.html"))) == 1


@pytest.mark.parametrize("result", [Result.FAIL, Result.UNKNOWN])
def test_verdict(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest, result: Result
) -> None:
    """What does not pass fails the test, and what is unknown does too; the report says why."""
    scenarios.result = result
    pytester.makepyfile(TEST.format(scenario="az-outage", speed=30))
    found = run_pytest("--cachesim")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        [
            f"cachesim: the verdict on the scenario az-outage is {result}",
            "what a person reads",
            "The report is *cachesim-runs/test_it-*/report.html",
        ]
    )


def test_body_that_fails(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest
) -> None:
    """Its own error is reported, and the scenario is cut short."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(scenario="az-outage")
        def test_it(cachesim):
            raise ZeroDivisionError("of the test")
        """
    )
    found = run_pytest("--cachesim")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["E*ZeroDivisionError: of the test"])
    assert "verdict" not in found.stdout.str()
    assert scenarios.was_cut_short


def test_scenario_that_can_not_be_run(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest
) -> None:
    """The test fails with its error, without its body."""
    scenarios.error = CachesimError("no pods")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(scenario="az-outage")
        def test_it(cachesim): print("the body")
        """
    )
    found = run_pytest("--cachesim")
    found.assert_outcomes(failed=1)
    assert "the body" not in found.outlines
    found.stdout.fnmatch_lines(["cachesim: the scenario az-outage could not be run: no pods"])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_folder_that_can_not_be_written_to(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest, number: int
) -> None:
    """The test fails with what to do, and without a traceback."""
    why = os.strerror(number)
    scenarios.error = OSError(number, why, "cachesim-runs")
    pytester.makepyfile(TEST.format(scenario="az-outage", speed=30))
    found = run_pytest("--cachesim")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines([f"cachesim: *could not be recorded: *{why}*--rootdir."])
    found.stdout.no_fnmatch_line(f"*Error: *{why}*")


def test_file_beside_the_test(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest
) -> None:
    """A scenario file is looked for beside the test's."""
    steps = [{"at": "1m", "fault": "kill", "target": {"node": "redis-a"}}]
    text = {"version": 1, "name": "mine", "timeline": steps, "expect": {"lost_writes": {"max": 0}}}
    folder = pytester.mkdir("deeper")
    (folder / "mine.yaml").write_text(json.dumps(text))
    (folder / "test_it.py").write_text(TEST.format(scenario="mine.yaml", speed=30))
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert [it.scenario.name for it in scenarios.timelines] == ["mine"]


@pytest.mark.parametrize(
    ("marker", "argument", "message"),
    [
        ("scenario='az-outrage'", "cachesim", "*no such file; *Did you mean az-outage?"),
        ("scenario=''", "cachesim", "cachesim: test_wrong_marker.py::test_it: *can't be read*"),
        ("scenaro='az-outage'", "cachesim", "*scenaro (marker cachesim)*did you mean scenario?"),
        ("scenario='az-outage'", "", "cachesim: a scenario runs on the fixture `cachesim`: *"),
    ],
)
def test_wrong_marker(
    pytester: pytest.Pytester,
    scenarios: FakeRunner,
    run_pytest: RunPytest,
    marker: str,
    argument: str,
    message: str,
) -> None:
    """No test passes because its scenario was not there."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.cachesim({marker})
        def test_it({argument}): pass
        """
    )
    found = run_pytest("--cachesim")
    assert found.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    found.stdout.fnmatch_lines([message])
    assert scenarios.timelines == []


def test_closest_marker(
    pytester: pytest.Pytester, scenarios: FakeRunner, run_pytest: RunPytest
) -> None:
    """One test of a module runs without the module's scenario."""
    pytester.makepyfile(
        """
        import pathlib, pytest

        pytestmark = pytest.mark.cachesim(scenario="az-outage")

        @pytest.mark.cachesim(scenario=None)
        def test_it(cachesim): pathlib.Path("done").touch()
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert scenarios.timelines == []
