"""Files and JUnit properties of failing tests."""

import json
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest

RunPytest = Callable[..., pytest.RunResult]

TESTS = """
    import pytest

    @pytest.fixture(autouse=True)
    def teardown(cachesim):
        yield
        if cachesim.is_bad_end:
            cachesim.events.record("heal", "redis-a", "kill")
            assert 0, "teardown"

    def break_it(cachesim, is_bad_end=False):
        cachesim.is_bad_end = is_bad_end
        cachesim.events.record("fault", "redis-a", "kill")
        cachesim.nodes["redis-a"].log("killed")
        cachesim.nodes["memcached-a"].log("without a date")

    def test_passes(cachesim):
        break_it(cachesim)

    @pytest.mark.parametrize("path", ["a/b", "a-b"])
    def test_fails(cachesim, observe, path):
        break_it(cachesim)
        with observe(lambda: None, every=0.02) as seen:
            pass
        assert seen.outage > 5

    def test_fails_twice(cachesim):
        break_it(cachesim, is_bad_end=True)
        assert 0, "body"
"""


@pytest.mark.usefixtures("fake")
def test_artifacts(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Each failing test has a folder of its own, with all of its own time."""
    pytester.makepyfile(test_it=TESTS)
    result = run_pytest("--cachesim", "--cachesim-artifacts=kept/here")
    folder = pytester.path / "kept" / "here"
    (line,) = (it for it in result.outlines if it.startswith("Artifacts"))
    assert line == f"Artifacts of failing tests: {folder}"
    found = {it.name: {file.name for file in it.iterdir()} for it in folder.iterdir()}
    files = {"events.txt", "events.jsonl", "redis-a.log", "memcached-a.log"}
    assert found == {
        "test_it.py-test_fails-a-b": {*files, "call.txt", "observed.txt"},
        "test_it.py-test_fails-a-b~9e29c8c9": {*files, "call.txt", "observed.txt"},
        "test_it.py-test_fails_twice": {*files, "call.txt", "teardown.txt"},
    }
    twice = folder / "test_it.py-test_fails_twice"
    assert "AssertionError: body" in (twice / "call.txt").read_text()
    events = [json.loads(line) for line in (twice / "events.jsonl").read_text().splitlines()]
    assert [it["kind"] for it in events] == ["reset", "fault", "heal"]
    assert (twice / "memcached-a.log").read_text() == "without a date\n" * 4
    assert (twice / "redis-a.log").read_text().count("killed") == 1
    assert (
        "the observation ends"
        in (folder / "test_it.py-test_fails-a-b" / "observed.txt").read_text()
    )


@pytest.mark.usefixtures("fake")
def test_artifacts_of_several_processes(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Those of tests with nearly the same name are not mixed, as if workers of xdist ran them."""
    pytester.makepyfile(test_it=TESTS)
    for test in ("a/b", "a-b"):
        run_pytest("--cachesim", "--cachesim-artifacts=kept", f"test_it.py::test_fails[{test}]")
    assert len(list((pytester.path / "kept").iterdir())) == 2


@pytest.mark.usefixtures("fake")
def test_artifacts_with_bytes_that_are_no_text(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """An error that has them is written as the terminal shows it."""
    pytester.makepyfile(r"def test_it(cachesim): raise ValueError('bad \udcff')")
    run_pytest("--cachesim", "--cachesim-artifacts=kept").assert_outcomes(failed=1)
    (text,) = (pytester.path / "kept").glob("*/call.txt")
    assert r"ValueError: bad \udcff" in text.read_text()


@pytest.mark.usefixtures("fake")
def test_artifacts_that_cannot_be_written(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The end of the run says why, and the reports are as without."""
    pytester.makepyfile(test_it=TESTS)
    (pytester.path / "file").write_text("")
    result = run_pytest("--cachesim", "--cachesim-artifacts=file")
    result.assert_outcomes(passed=1, failed=3, errors=1)
    assert [it for it in result.outlines if it.startswith("--cachesim-artifacts: ")]


@pytest.mark.usefixtures("fake")
def test_junit(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A failing test's events are properties in JUnit's file, once."""
    pytester.makepyfile(test_it=TESTS)
    run_pytest("--cachesim", "--junit-xml=junit.xml")
    found = {
        case.get("name"): [
            str(it.get("value")).split()[1]
            for it in case.iter("property")
            if it.get("name") == "cachesim event"
        ]
        for case in ET.parse(pytester.path / "junit.xml").iter("testcase")  # noqa: S314  # ours
    }
    assert found["test_passes"] == []
    assert found["test_fails[a-b]"] == ["reset", "fault"]
    assert found["test_fails_twice"] == ["reset", "fault", "heal"]


@pytest.mark.usefixtures("fake")
def test_junit_of_a_test_that_is_run_again(
    pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """If it passes then, as with pytest-rerunfailures, it has no events of the time it failed."""
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=nextitem, log=False)
            for report in runtestprotocol(item, nextitem=nextitem, log=False):
                item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    pytester.makepyfile(
        """
        tries = []

        def test_it(cachesim):
            tries.append(1)
            assert len(tries) == 2
        """
    )
    run_pytest("--cachesim", "--junit-xml=junit.xml").assert_outcomes(passed=1)
    assert "cachesim event" not in (pytester.path / "junit.xml").read_text()
