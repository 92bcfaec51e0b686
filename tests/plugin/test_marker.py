"""The marker that gives single tests other settings."""

from collections.abc import Callable
from textwrap import dedent

import pytest

from tests.plugin.fake_simulator import FakeSimulator

RunPytest = Callable[..., pytest.RunResult]
Fake = type[FakeSimulator]


@pytest.fixture(autouse=True)
def _seed(pytester: pytest.Pytester) -> None:
    """A seed that the tests know, and an error for every marker that nobody has registered."""
    pytester.makeini("[pytest]\ncachesim_seed = 3\naddopts = --strict-markers")


def test_registered(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The marker is registered, also while the plugin is off."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(speed=60)
        def test_it(): pass
        """
    )
    run_pytest().assert_outcomes(passed=1)
    run_pytest("--markers").stdout.fnmatch_lines(["@pytest.mark.cachesim(*settings): *"])


def test_speed_and_seed(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """Settings of the control plane are changed on the running topology, for one test."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(speed=60)
        def test_a(cachesim): pass
        @pytest.mark.cachesim(speed=60, seed=0)
        def test_b(cachesim): pass
        @pytest.mark.cachesim(promotion_seconds=[1, 2])
        def test_c(cachesim): pass
        def test_d(cachesim): pass
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=4)
    assert fake.resets == [(60, 3), (60, 0), (30, 3), (30, 3)]
    assert fake.calls.count("start") == 1


def test_closest_wins(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """Of several markers the closest to the test counts most, setting by setting."""
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.cachesim(speed=2, seed=20)

        @pytest.mark.cachesim(speed=1)
        class TestIt:
            def test_a(self, cachesim): pass
            @pytest.mark.cachesim(seed=10)
            def test_b(self, cachesim): pass
            @pytest.mark.parametrize("n", [pytest.param(0, marks=pytest.mark.cachesim(speed=9))])
            def test_c(self, cachesim, n): pass
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=3)
    assert fake.resets == [(1, 20), (1, 10), (9, 20)]


def test_none_is_that_of_the_run(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest
) -> None:
    """One test of a module goes back to the run's settings, and not to the defaults."""
    (pytester.path / "cachesim.toml").write_text("ports = 17000")
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.cachesim(speed=2, ports=18000)

        @pytest.mark.cachesim(speed=None, ports=None)
        def test_it(cachesim): pass
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert fake.resets == [(30, 3)]
    assert [it.ports for it in fake.made] == [None]


def test_needs_the_fixture(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """What only `cachesim` sets is refused for a test that uses the topology without it."""
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.cachesim(speed=60, seed=7)

        def test_a(cachesim_session): print("the body")
        def test_b(cachesim_env): print("the body")
        def test_c(cachesim, cachesim_session): pass
        def test_d(): pass
        """
    )
    found = run_pytest("--cachesim")
    found.assert_outcomes(failed=2, passed=2)
    assert "the body" not in found.outlines
    found.stdout.fnmatch_lines(
        ["cachesim: the fixture `cachesim` sets the marker's seed and speed: make it, *"] * 2
    )
    assert fake.resets == [(60, 7)]


OWN = """
    import pytest

    valkey = pytest.mark.cachesim(engine="valkey", speed=60)

    def test_a(cachesim, cachesim_env):
        assert cachesim.settings.engine == "redis"
        assert cachesim_env["CACHESIM_NAME"] == cachesim.settings.name

    @valkey
    def test_b(cachesim, cachesim_env):
        assert cachesim.settings.engine == "valkey"
        assert cachesim_env["CACHESIM_NAME"] == cachesim.settings.name

    def test_c(cachesim, cachesim_env):
        assert cachesim_env["CACHESIM_NAME"] == cachesim.settings.name

    @pytest.mark.cachesim(engine="valkey", speed=90)
    def test_d(redis_cluster): pass

    @pytest.mark.cachesim(memory_scale=0.5)
    def test_e(cachesim_session):
        assert cachesim_session.settings.memory_scale == 0.5

    @pytest.mark.cachesim(engine="redis")
    def test_f(cachesim): pass
"""


def test_topology_of_their_own(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tests that need another topology share one of their own, while the run's stays up."""
    monkeypatch.setenv("CACHESIM_NAME", "mine")
    pytester.makepyfile(OWN)
    run_pytest("--cachesim").assert_outcomes(passed=6)
    assert [(it.engine, it.memory_scale) for it in fake.made] == [
        ("redis", 0.01), ("valkey", 0.01), ("redis", 0.5),
    ]  # fmt: skip
    assert len({it.name for it in fake.made}) == 3
    assert sorted(fake.resets) == [(30, 3)] * 3 + [(60, 3), (90, 3)]
    assert fake.calls.count("start") == fake.calls.count("stop") == 3
    assert fake.calls[-1] == "stop"


@pytest.mark.skipif(not hasattr(pytest, "HIDDEN_PARAM"), reason="pytest 8.4 is the first with it")
def test_ids_stay(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The ids of tests are the same with and without the option."""
    pytester.makepyfile(OWN)

    def ids(*options: str) -> list[str]:
        lines = run_pytest("--collect-only", "-q", *options).outlines
        return sorted(line for line in lines if "::" in line)

    assert len(ids()) == 6
    assert ids("--cachesim") == ids()


@pytest.mark.usefixtures("fake")
def test_fixtures_on_top(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Session fixtures on the topology are made anew for another topology."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def service(cachesim_env):
            yield cachesim_env["CACHESIM_NAME"]

        def test_a(cachesim, service):
            assert service == cachesim.settings.name

        @pytest.mark.cachesim(engine="valkey")
        def test_b(cachesim, service):
            assert service == cachesim.settings.name
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("sped=60", "sped (marker cachesim): unknown key; did you mean speed?"),
        ("speed='fast'", "speed = 'fast' (marker cachesim): should be a valid number*"),
        ("name='mine'", "name (marker cachesim): it is random for each topology*"),
        ("60", "the marker cachesim takes settings by name, such as speed=60"),
    ],
)
def test_wrong_marker(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, marker: str, message: str
) -> None:
    """The error comes when tests are collected, before anything is started."""
    pytester.makepyfile(
        f"""
        import pytest

        def test_before(cachesim): pass
        @pytest.mark.cachesim({marker})
        def test_it(cachesim): pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting*", f"cachesim: *::test_it: {message}"])
    result.stdout.no_fnmatch_line("*_run.py*")
    assert fake.made == []


OF_ONE_PARAMETER = """
@pytest.mark.parametrize("n", [pytest.param(0, marks=valkey)])
def test_it({fixture}, n): pass
"""
UNITTEST = """
import unittest

class TestIt(unittest.TestCase):
    @valkey
    @pytest.mark.usefixtures("{fixture}")
    def test_it(self): pass
"""


@pytest.mark.parametrize(
    "test",
    [
        """
        @valkey
        def test_it(request): request.getfixturevalue("cachesim")
        """,
        *(
            text.format(fixture=it)
            for text, it in (
                (OF_ONE_PARAMETER, "cachesim"),
                (UNITTEST, "cachesim"),
                (OF_ONE_PARAMETER, "cachesim_env"),
                (UNITTEST, "cachesim_session"),
            )
        ),
    ],
    ids=[
        *("at run time", "of one parameter", "unittest"),
        *("of one parameter, as it is", "unittest, as it is"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_topology_cannot_be_had(
    pytester: pytest.Pytester, run_pytest: RunPytest, test: str
) -> None:
    """A test never runs on another topology than its marker asks for."""
    head = 'import pytest\nvalkey = pytest.mark.cachesim(engine="valkey")\n'
    pytester.makepyfile(head + dedent(test))
    result = run_pytest("--cachesim")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    message = "*cachesim: the marker of this test needs another topology*unittest.TestCase can't*"
    result.stdout.fnmatch_lines([message])


@pytest.mark.usefixtures("fake")
def test_events_of_another_topology(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """If the topology of a test does not start, its report has no events of the one before."""
    pytester.makepyfile(
        """
        import pytest
        from cachesim.errors import StartError

        def test_it(cachesim):
            type(cachesim).errors["start"] = StartError("no room")

        @pytest.mark.cachesim(engine="valkey")
        def test_other(cachesim):
            pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["cachesim: the topology did not start: no room"])
    result.stdout.no_fnmatch_line("*cachesim events*")


@pytest.mark.usefixtures("on_backend")
def test_on_an_engine(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The settings of a marker are those that its test has, and no other."""
    pytester.makepyfile(
        """
        import pytest

        def detection(sim):
            mark = sim.events.mark()
            sim.redis.primary.kill()
            sim.redis.wait_for_failover()
            (detecting,) = sim.events.of("detecting", mark)
            return detecting.data["detection"]

        def server(client):
            return client.info("server", target_nodes="primaries")

        def test_before(cachesim, redis_cluster):
            assert 0.1 <= detection(cachesim) <= 0.2
            assert "valkey_version" not in server(redis_cluster)

        @pytest.mark.cachesim(detection_seconds=[50, 50])
        def test_slow(cachesim):
            assert detection(cachesim) == 0.5

        @pytest.mark.cachesim(engine="valkey", speed=50)
        def test_valkey(cachesim, redis_cluster):
            assert 0.2 <= detection(cachesim) <= 0.4
            assert "valkey_version" in server(redis_cluster)

        def test_after(cachesim, redis_cluster):
            assert 0.1 <= detection(cachesim) <= 0.2
            assert "valkey_version" not in server(redis_cluster)
        """
    )
    result = run_pytest("--cachesim", "--cachesim-speed=100", subprocess=True)
    result.assert_outcomes(passed=4)


def test_settings_of_the_simulator(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The simulator tells the settings of the test's marker, and those of the run after it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(speed=60, promotion_seconds=[7, 8], seed=4)
        def test_a(cachesim):
            it = cachesim.settings
            assert (it.speed, it.promotion_seconds, it.seed) == (60, (7, 8), 4)

        def test_b(cachesim):
            it = cachesim.settings
            assert (it.speed, it.promotion_seconds, it.seed) == (30, (5, 10), 3)
        """
    )
    result = run_pytest("--cachesim", "--cachesim-backend=embedded", subprocess=True)
    result.assert_outcomes(passed=2)
