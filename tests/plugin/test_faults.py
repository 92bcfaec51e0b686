"""The marker and the fixture that put tests under faults."""

from collections.abc import Callable

import pytest

from tests.plugin.fake_simulator import FakeSimulator

RunPytest = Callable[..., pytest.RunResult]
Fake = type[FakeSimulator]


@pytest.fixture(autouse=True)
def _strict(pytester: pytest.Pytester) -> None:
    """An error for every marker that nobody has registered."""
    pytester.makeini("[pytest]\naddopts = --strict-markers")


def test_markers(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """The faults of all markers are there in the body alone, the outermost first."""
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.cachesim_fault("kill", nodes="memcached-a")

        @pytest.mark.cachesim_fault("latency", links="client-to-redis-a", ms=200)
        def test_it(cachesim, redis_cluster):
            cachesim.calls.append("body")
            assert 0
        """
    )
    run_pytest("--cachesim").assert_outcomes(failed=1)
    assert fake.calls[3:] == [
        "apply kill on memcached-a",
        "apply latency of 200 ms on client-to-redis-a",
        "body",
        "end latency of 200 ms",
        "end kill",
        "close redis",
        "heal",
        "stop",
    ]


@pytest.mark.parametrize("how", ["", ", indirect=True"])
def test_parametrized(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, how: str
) -> None:
    """One line runs every test of a module under each of several faults."""
    pytester.makepyfile(
        f"""
        import pytest
        from cachesim.faults.catalogue import Isolate

        FAULTS = [None, {{"fault": "kill", "nodes": "redis-a"}}, Isolate("a")]
        pytestmark = pytest.mark.parametrize("cachesim_fault", FAULTS{how})

        def test_it(redis_cluster): pass
        """
    )
    result = run_pytest("--cachesim", "-v")
    result.assert_outcomes(passed=3)
    found = [call for call in fake.calls if call.startswith(("apply", "end"))]
    assert found == ["apply kill on redis-a", "end kill", "apply isolate on az-a", "end isolate"]
    result.stdout.fnmatch_lines(["*::test_it[[]None] *", "*::test_it[[]kill] *", "*[[]isolate] *"])


def test_own_fixture(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """The fault of a fixture that overrides `cachesim_fault` is applied too, and is checked."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def cachesim_fault(name): return {"fault": name, "nodes": "redis-a"}

        @pytest.mark.parametrize("name", ["kill", "kil"])
        def test_it(cachesim, name): pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(passed=1, failed=1)
    assert "apply kill on redis-a" in fake.calls
    result.stdout.fnmatch_lines(["cachesim: *test_it[[]kil]: cachesim_fault: no fault 'kil': *"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ('cachesim_fault("latancy", links="client-to-*", ms=2)', "*'latancy'*latency*"),
        ('cachesim_fault("latency", link="client-to-*", ms=2)', "*latency*link*"),
        ('cachesim_fault("latency", links="client-to-redis-z", ms=2)', "*client-to-redis-z*"),
        ("cachesim_fault()", "*takes a fault's name*"),
        ('parametrize("cachesim_fault", [{"fault": "kil"}])', "*'kil'*kill*"),
    ],
)
def test_mistakes(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, mark: str, message: str
) -> None:
    """A mistake is an error at collection, in one message."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.{mark}
        def test_it(cachesim): pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"cachesim: test_mistakes.py::test_it*: {message}"])
    result.stdout.no_fnmatch_line("*_faults.py*")
    assert not fake.made


@pytest.mark.usefixtures("fake")
def test_without_a_topology(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A fault of a test without a topology is an error, never ignored."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim_fault("kill", nodes="redis-a")
        def test_it(): pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*works on the fixture `cachesim`*"])


def test_on_a_topology(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A client feels the fault, and the next test does not."""
    pytester.makepyfile(
        """
        import time
        import pytest

        def seconds(client):
            client.get("k")
            began = time.monotonic()
            client.get("k")
            return time.monotonic() - began

        @pytest.mark.cachesim_fault("latency", links="client-to-*", ms=200)
        def test_slow(redis_cluster):
            assert seconds(redis_cluster) >= 0.2

        def test_quick(cachesim, redis_cluster):
            assert not cachesim.faults.active
            assert min(seconds(redis_cluster) for _ in range(20)) < 0.2
        """
    )
    result = run_pytest("--cachesim", "--cachesim-backend=embedded", subprocess=True)
    result.assert_outcomes(passed=2)
