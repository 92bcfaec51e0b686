"""Topologies that live longer than a pytest run: `--cachesim-keep` and `--cachesim-attach`."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cachesim import Simulator
from cachesim.errors import CachesimError, FaultError
from cachesim.runs.registry import living_runs
from tests.plugin.fake_simulator import FakeSimulator
from tests.processes import call, left_behind

RunPytest = Callable[..., pytest.RunResult]
Fake = type[FakeSimulator]


# --- attach ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ini", "variable", "option", "name"),
    [
        ("", "", "--cachesim-attach", "None"),
        ("", "", "--cachesim-attach=demo", "demo"),
        ("", "demo", "", "demo"),
        ("", "1", "", "None"),
        ("demo", "", "", "demo"),
        ("true", "", "", "None"),
        ("a", "b", "", "b"),
        ("a", "b", "--cachesim-attach=c", "c"),
        ("a", "b", "--cachesim-attach", "None"),
    ],
)
def test_attaches(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    ini: str,
    variable: str,
    option: str,
    name: str,
) -> None:
    """The named topology is attached to, or the only one, and is reset at the end."""
    pytester.makeini(f"[pytest]\ncachesim_attach = {ini}")
    monkeypatch.setenv("CACHESIM_ATTACH", variable)
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim", "--cachesim-seed=5", *([option] if option else []))
    result.assert_outcomes(passed=1)
    assert fake.calls == [
        f"attach {name}", "start", "reset test_attaches.py::test_it", "heal", "reset", "stop",
    ]  # fmt: skip
    whom = "the topology that is up" if name == "None" else name
    assert f"cachesim: attached to {whom}, speed 30, seed 5" in result.outlines


@pytest.mark.parametrize("word", ["0", "no"])
def test_attach_not(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, word: str
) -> None:
    """A word for no turns off what the ini option turns on."""
    pytester.makeini("[pytest]\ncachesim_attach = true")
    pytester.makepyfile("def test_it(cachesim): pass")
    run_pytest("--cachesim", f"--cachesim-attach={word}").assert_outcomes(passed=1)
    assert not fake.attached


@pytest.mark.parametrize(("word", "outcome"), [("demo", "passed"), ("0", "skipped")])
def test_attach_alone(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, word: str, outcome: str
) -> None:
    """The option turns the plugin on, unless it says no."""
    pytester.makepyfile("def test_it(cachesim): pass")
    run_pytest(f"--cachesim-attach={word}").assert_outcomes(**{outcome: 1})
    assert bool(fake.attached) == (outcome == "passed")


def test_attached_settings(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """The control plane is the tests' own, and only what was asked for is asked of the owner."""
    pytester.makefile(".toml", cachesim="engine = 'redis'\ndetection_seconds = 1")
    pytester.makepyfile("def test_it(cachesim): pass")
    options = ["--cachesim", "--cachesim-attach", "--cachesim-seed=5"]
    run_pytest(*options)
    run_pytest(*options, "--cachesim-engine=valkey")
    first, second = fake.attached
    assert first == {
        "speed": 30,
        "seed": 5,
        "detection_seconds": (1, 1),
        "promotion_seconds": (5, 10),
        "replacement_seconds": (30, 60),
        "dns_ttl_seconds": (5, 60),
    }
    assert second == {**first, "engine": "valkey"}


def test_marker_of_an_attached_topology(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest
) -> None:
    """A marker that the attached topology contradicts is an error, never ignored."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(speed=60)
        def test_a(cachesim): pass
        @pytest.mark.cachesim(engine="redis")
        def test_b(cachesim): pass
        @pytest.mark.cachesim(memory_scale=0.5)
        def test_c(cachesim): assert cachesim.settings.memory_scale == 0.5
        """
    )
    result = run_pytest("--cachesim", "--cachesim-attach=demo")
    result.assert_outcomes(passed=2, errors=1)
    expected = (
        "cachesim: this test needs engine = 'redis', but the attached topology has 'valkey'. "
        "Run it without --cachesim-attach."
    )
    assert expected in result.outlines
    assert len(fake.attached) == 1


def test_nothing_to_attach_to(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without such a topology tests fail, and say what to do; those without fixtures don't."""

    def attach(_name: str | None, **_arguments: object) -> None:
        raise CachesimError("no topology is up. Start one with `cachesim up`.")

    monkeypatch.setattr(fake, "attach", attach)
    pytester.makepyfile("def test_a(cachesim): pass\ndef test_b(): pass")
    result = run_pytest("--cachesim", "--cachesim-attach")
    result.assert_outcomes(errors=1, passed=1)
    assert (
        "cachesim: the topology did not start: no topology is up. Start one with `cachesim up`."
    ) in result.outlines


@pytest.mark.parametrize("path", ["test_it.py", "test_it.py::test_it", "."])
def test_path_for_a_name(pytester: pytest.Pytester, run_pytest: RunPytest, path: str) -> None:
    """A test's path that stands where the name could be is told."""
    pytester.makepyfile(test_it="def test_it(cachesim): pass")
    result = run_pytest("--cachesim", "--cachesim-attach", path)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --cachesim-attach took '{path}' for the name*"])


def test_trouble_at_the_end(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topology that can't be reset at the end is an error, and is returned nevertheless."""

    def reset(_self: FakeSimulator, draws: str = "", **_arguments: object) -> None:
        if not draws:
            raise FaultError("redis-b is stuck")

    monkeypatch.setattr(fake, "reset", reset)
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim", "--cachesim-attach")
    result.assert_outcomes(passed=1, errors=1)
    said = "the attached topology could not be reset at the end: FaultError('redis-b is stuck')"
    assert f"cachesim: {said}" in result.outlines
    assert fake.calls[-1] == "stop"


def test_attach_with_workers(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Several workers of xdist can't share a topology; one can have it."""
    pytester.makepyfile("def test_it(): pass")
    options = ["--cachesim", "--cachesim-attach=demo"]
    result = run_pytest(*options, "-n2", subprocess=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --cachesim-attach: *2 workers. Run with -n0, or *"])
    run_pytest(*options, "-n1", subprocess=True).assert_outcomes(passed=1)


# --- keep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["option", "environment", "ini"])
def test_keep(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """The run's own topology is detached in the end, and the end says how to reach it."""
    pytester.makeini("[pytest]\ncachesim_engine = valkey\n" + "cachesim_keep = 1" * (how == "ini"))
    if how == "environment":
        monkeypatch.setenv("CACHESIM_KEEP", "1")
    pytester.makepyfile(
        """
        import pytest

        def test_a(cachesim): pass
        @pytest.mark.cachesim(engine="redis")
        def test_b(cachesim): pass
        def test_c(cachesim): assert 0
        """
    )
    options = ["--cachesim-keep"] if how == "option" else []
    result = run_pytest("--cachesim", "--cachesim-seed=5", "-q", *options)
    result.assert_outcomes(passed=2, failed=1)
    kept, own = fake.made
    assert re.fullmatch(r"pytest-\w+", str(kept.name))
    assert (kept.engine, kept.seed, own.engine) == ("valkey", 5, "redis")
    ends = [call for call in fake.calls if call in ("stop", "detach")]
    assert ends == ["stop", "detach"]
    assert fake.calls[-2:] == ["heal", "detach"]
    name = kept.name
    assert "\n".join(
        [
            f"The topology {name} is kept as the last test has left it:",
            f"    cachesim status --name {name}",
            f"    pytest --cachesim --cachesim-attach {name}",
            f"    cachesim down --name {name}",
        ]
    ) in "\n".join(result.outlines)


def test_keep_in_a_worker_that_ends_early(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest
) -> None:
    """It is detached when the session finishes then, and xdist's controller is told too."""
    pytester.makeconftest(
        """
        import pathlib, pytest

        def pytest_configure(config):
            config.workeroutput = {}  # as in a worker

        @pytest.hookimpl(wrapper=True)
        def pytest_sessionfinish(session):
            yield  # then a worker sends it
            pathlib.Path("sent").write_text(str(session.config.workeroutput))
        """
    )
    pytester.makepyfile("import pytest\ndef test_it(cachesim): pytest.exit('enough')")
    run_pytest("--cachesim", "--cachesim-keep")
    assert fake.calls[-1] == "detach"
    assert f"cachesim down --name {fake.made[0].name}" in (pytester.path / "sent").read_text()


def test_header_of_keep(run_pytest: RunPytest) -> None:
    """The header tells."""
    lines = run_pytest("--cachesim", "--cachesim-keep", "--cachesim-seed=5").outlines
    assert (
        "cachesim: backend docker (an engine answers), engine redis, speed 30, seed 5, kept"
        in lines
    )


def test_keep_with_attach(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
) -> None:
    """An attached topology is kept anyway, and nothing else is started."""
    pytester.makepyfile("def test_it(cachesim): pass")
    run_pytest("--cachesim", "--cachesim-keep", "--cachesim-attach").assert_outcomes(passed=1)
    assert len(fake.made) == len(fake.attached) == 1
    assert fake.calls[-2:] == ["reset", "stop"]


# --- on an engine ---------------------------------------------------------------------------


@pytest.fixture
def up(on_backend: str, alone: Path) -> Iterator[str]:
    """The name of a detached topology, which is gone after the test."""
    settings = ["--name", "shared", "--speed", "100", "--backend", on_backend]
    started = call(alone, "-m", "cachesim", "up", "-d", *settings)
    assert started.returncode == 0, started.stderr
    yield "shared"
    call(alone, "-m", "cachesim", "down", "--name", "shared")
    assert left_behind("shared", alone) == []


def test_attach_for_real(
    up: str, alone: Path, pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    """Tests break an attached topology as their own, and it is as it was afterwards, and runs.

    Each run has the same draws, as the seed is the same.
    """
    call(alone, "-m", "cachesim", "failover", "--to", "b")
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_failover(cachesim, redis_cluster):
            redis_cluster.set("k", "v")
            cachesim.redis.primary.kill()
            assert cachesim.redis.wait_for_failover().name != "redis-a"
            assert redis_cluster.get("k") == "v"
            (detecting,) = cachesim.events.of("detecting")
            with Path("drawn").open("a") as file:
                print(detecting.data["detection"], detecting.data["promotion"], file=file)

        def test_as_new(cachesim, redis_cluster, memcached):
            assert cachesim.redis.primary.name == "redis-a"
            redis_cluster.set("k", "v")
            assert memcached.set("k", "v", noreply=False)
            cachesim.redis.primary.pause()
            cachesim.memcached["b"].kill()
        """
    )
    for options in (["--cachesim-attach"], ["--cachesim-attach", up]):
        options += ["--cachesim-speed=100", "--cachesim-seed=5"]
        run_pytest("--cachesim", *options, subprocess=True).assert_outcomes(passed=2)
    first, second = (pytester.path / "drawn").read_text().splitlines()
    assert first == second
    with Simulator.attach(up) as sim, closing(sim.redis_cluster()) as redis:
        assert sim.redis.primary.name == "redis-a"
        assert redis.get("k") is None
        assert sim.settings.speed == 100
        with closing(sim.memcached_client()) as memcached:
            assert memcached.get("k") is None
        late = run_pytest("--cachesim", "--cachesim-attach", subprocess=True)
        late.assert_outcomes(errors=2)
        late.stdout.fnmatch_lines(["cachesim: *'shared' is leased by process *"])


@pytest.mark.usefixtures("on_backend")
def test_keep_for_real(alone: Path, pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The printed commands show a kept topology and take it down."""
    pytester.makepyfile(
        """
        def test_it(cachesim, redis_cluster):
            redis_cluster.set("k", "v")
            assert 0
        """
    )
    result = run_pytest("--cachesim", "--cachesim-keep", subprocess=True)
    result.assert_outcomes(failed=1)
    (name,) = (run.name for run in living_runs())
    try:
        with Simulator.attach(name) as sim, closing(sim.redis_cluster()) as redis:
            assert redis.get("k") == "v"
        assert call(alone, "-m", "cachesim", "reset").returncode == 0  # it is nobody's
        commands = [line[4:] for line in result.outlines if line.startswith("    cachesim ")]
        assert [command.split()[1] for command in commands] == ["status", "down"]
        assert call(alone, "-m", *commands[0].split()).returncode == 0
    finally:
        assert call(alone, "-m", "cachesim", "down", "--name", name).returncode == 0
    assert left_behind(name, alone) == []
