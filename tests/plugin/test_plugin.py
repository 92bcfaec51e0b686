"""The pytest plugin: its options, its fixtures, and the report of a failing test."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cachesim.errors import (
    BackendUnavailable,
    CachesimError,
    FaultError,
    ImageMissing,
    NotReady,
    NotRunning,
    StartError,
)
from cachesim.runs import env
from cachesim.simulator import launching
from tests.plugin import fake_simulator
from tests.plugin.fake_simulator import FakeProcess, FakeSimulator
from tests.processes import containers_of

RunPytest = Callable[..., pytest.RunResult]
Fake = type[FakeSimulator]

FIXTURES = [
    *("cachesim", "cachesim_session", "redis_cluster", "async_redis_cluster", "memcached"),
    *("observe", "cachesim_env"),
]


# --- off ------------------------------------------------------------------------------------


def test_off_skips(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """Without the option every test that asks for a fixture skips, and says why."""
    pytester.makepyfile("\n".join(f"def test_{name}({name}): pass" for name in FIXTURES))
    result = run_pytest("-rs")
    result.assert_outcomes(skipped=len(FIXTURES))
    reasons = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert len(reasons) == len(FIXTURES)
    assert all(
        line.endswith(": needs a cache topology: run pytest with --cachesim") for line in reasons
    )
    assert fake.made == []


def test_off_imports_nothing(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Without the option nothing of cachesim is imported, and no hook runs for a test."""
    pytester.makepyfile(
        """
        import sys

        def test_costs(pytestconfig):
            assert "cachesim" not in {name.partition(".")[0] for name in sys.modules}
            assert not pytestconfig.pluginmanager.has_plugin("cachesim-run")
        """
    )
    run_pytest(subprocess=True).assert_outcomes(passed=1)


def test_off_has_no_header(run_pytest: RunPytest) -> None:
    """Without the option the header does not speak of it."""
    assert not [line for line in run_pytest().outlines if line.startswith("cachesim:")]


def test_lazy(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """With the option, too, nothing is started for tests that don't ask for it."""
    pytester.makepyfile("def test_other(): pass")
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert fake.made == []


# --- options --------------------------------------------------------------------------------


def header(result: pytest.RunResult) -> str:
    """The plugin's line of the header."""
    return next(line for line in result.outlines if line.startswith("cachesim:"))


def test_header(run_pytest: RunPytest) -> None:
    """The header shows what the tests run on."""
    result = run_pytest("--cachesim", "--cachesim-backend=docker", "--cachesim-seed=1234")
    assert header(result) == "cachesim: backend docker, engine redis, speed 30, seed 1234"


def test_help(run_pytest: RunPytest) -> None:
    """Every option has an ini option of its name."""
    text = run_pytest("--help").stdout.str()
    options = re.findall(r"^  --(cachesim\S*?)(?:=\S+)?(?: .*)?$", text, re.M)
    inis = re.findall(r"^  (cachesim\w*) \(", text, re.M)
    assert [name.replace("-", "_") for name in options] == inis
    assert len(inis) == 9


@pytest.mark.parametrize(
    ("ini", "variable", "option", "is_on"),
    [
        ("", "", False, False),
        ("", "", True, True),
        ("true", "", False, True),
        ("", "1", False, True),
        ("", "yes", False, True),
        ("", "0", True, True),
        ("true", "0", False, False),
        ("true", "False", False, False),
        ("true", " ", False, True),
        ("false", "on", False, True),
    ],
)
def test_switch(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    ini: str,
    variable: str,
    option: bool,
    is_on: bool,
) -> None:
    """The option turns it on, else the environment, else the ini option."""
    pytester.makeini("[pytest]\n" + (f"cachesim = {ini}" if ini else ""))
    monkeypatch.setenv("CACHESIM", variable)
    result = run_pytest(*(["--cachesim"] if option else []), "--cachesim-seed=5")
    found = [line for line in result.outlines if line.startswith("cachesim:")]
    assert (
        found
        == ["cachesim: backend docker (an engine answers), engine redis, speed 30, seed 5"] * is_on
    )


@pytest.mark.parametrize("variable", ["CACHESIM", "CACHESIM_KEEP", "CACHESIM_REQUIRE_DOCKER"])
def test_wrong_switch(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A variable that says neither yes nor no is a usage error."""
    monkeypatch.setenv("CACHESIM", "1")
    monkeypatch.setenv(variable, "perhaps")
    result = run_pytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: environment {variable} = 'perhaps': should be 1 or 0"])


@pytest.mark.parametrize("option", ["cachesim", "cachesim_keep"])
def test_wrong_ini_switch(pytester: pytest.Pytester, run_pytest: RunPytest, option: str) -> None:
    """An ini option that says neither yes nor no is a usage error, which names it."""
    pytester.makeini(f"[pytest]\n{option} = perhaps")
    result = run_pytest(*(["--cachesim"] if option == "cachesim_keep" else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: ini option {option}: *'perhaps'; should be true or false"]
    )


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("CACHESIM_REQUIRE_DOCKR", "CACHESIM_REQUIRE_DOCKER"),
        ("CACHESIM_ARTIFACT", "CACHESIM_ARTIFACTS"),
        ("CACHESIM_KEEPS", "CACHESIM_KEEP"),
    ],
)
def test_misspelt_switch(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch, variable: str, near: str
) -> None:
    """Nobody tests against emulated servers because of a letter."""
    monkeypatch.setenv(variable, "1")
    result = run_pytest("--cachesim")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"ERROR: environment {variable}: unknown; did you mean {near}?"
    assert expected in result.errlines


def test_other_variables(run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `cachesim env` prints is no mistake, nor is what others own."""
    for variable in (env.SERVICE.keys() | {env.REDIS_ADDRESS_MAP}) - env.settings().keys():
        monkeypatch.setenv(variable, "x")
    for variable in ("CACHESIM_REQUIRE_CLIENTS", "CACHESIM_CI_KEEP", "CACHESIM_HOME"):
        monkeypatch.setenv(variable, "1")
    assert run_pytest("--cachesim").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize(
    ("sources", "speed"),
    [("", "30"), ("file", "2"), ("file ini", "3"), ("file ini environment", "4"),
     ("file ini environment option", "5")],
)  # fmt: skip
def test_precedence(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    sources: str,
    speed: str,
) -> None:
    """Option beats environment beats ini option beats file beats the plugin's default."""
    if "file" in sources:
        pytester.makefile(".toml", cachesim="speed = 2")
    pytester.makeini("[pytest]\n" + ("cachesim_speed = 3" if "ini" in sources else ""))
    if "environment" in sources:
        monkeypatch.setenv("CACHESIM_SPEED", "4")
    options = ["--cachesim-speed=5"] if "option" in sources else []
    assert f"speed {speed}," in header(run_pytest("--cachesim", *options))


def test_zero_is_given(
    pytester: pytest.Pytester, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit 0 is not taken for nothing, wherever it is."""
    pytester.makeini("[pytest]\ncachesim_seed = 0")
    assert header(run_pytest("--cachesim")).endswith("seed 0")
    monkeypatch.setenv("CACHESIM_SEED", "7")
    assert header(run_pytest("--cachesim")).endswith("seed 7")
    assert header(run_pytest("--cachesim", "--cachesim-seed=0")).endswith("seed 0")


def test_seed_is_drawn(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """A seed that nobody gave is drawn early, so that the header can show it."""
    pytester.makepyfile("def test_it(cachesim): pass")
    lines = {header(run_pytest("--cachesim")) for _ in range(2)}
    assert len(lines) == 2
    assert {f"seed {settings.seed}" for settings in fake.made} == {
        line.rpartition(", ")[2] for line in lines
    }


@pytest.mark.usefixtures("fake")
def test_seed_is_told_at_the_end(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The summary says what the tests ran on, and how to repeat the draws."""
    pytester.makepyfile("def test_it(cachesim): pass")
    lines = run_pytest("--cachesim", "--cachesim-seed=9").outlines
    assert re.fullmatch("=+ cachesim =+", lines[-3])
    assert lines[-2] == "Ran on fake, engine redis. --cachesim-seed=9 repeats the random draws."


def test_settings_reach_the_topology(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest
) -> None:
    """The topology has the settings of the header, and those that are in the file alone."""
    pytester.makefile(".toml", cachesim="node_timeout_seconds = 3")
    pytester.makepyfile("def test_it(cachesim): pass")
    options = ["--cachesim-engine=valkey", "--cachesim-speed=7", "--cachesim-seed=8"]
    run_pytest("--cachesim", *options).assert_outcomes(passed=1)
    (settings,) = fake.made
    assert (settings.engine, settings.speed, settings.seed) == ("valkey", 7, 8)
    assert settings.node_timeout_seconds == 3


def test_name_is_drawn(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell's `eval "$(cachesim env)"` does not give the tests the name of what it runs."""
    monkeypatch.setenv("CACHESIM_NAME", "mine")
    pytester.makepyfile("def test_it(cachesim): pass")
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert re.fullmatch(r"pytest-\w+", str(fake.made[0].name))


@pytest.mark.parametrize(
    ("options", "ini", "origin"),
    [
        (["--cachesim-speed=fast"], "", "--cachesim-speed"),
        ([], "cachesim_speed = fast", "ini option cachesim_speed"),
    ],
)
def test_wrong_setting(
    pytester: pytest.Pytester, run_pytest: RunPytest, options: list[str], ini: str, origin: str
) -> None:
    """A wrong setting is a usage error that names where it is."""
    pytester.makeini(f"[pytest]\n{ini}")
    result = run_pytest("--cachesim", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: speed = 'fast' ({origin}): should be a valid number*"])


# --- fixtures -------------------------------------------------------------------------------


def test_as_new_and_healed(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """One topology for all; each test has it reset before, with draws of its own, and healed."""
    pytester.makepyfile("def test_a(cachesim): pass\ndef test_b(cachesim): assert 0")
    run_pytest("--cachesim").assert_outcomes(passed=1, failed=1)
    file = "test_as_new_and_healed.py"
    assert fake.calls == [
        "start",
        "lease",
        f"reset {file}::test_a",
        "heal",
        f"reset {file}::test_b",
        "heal",
        "stop",
    ]


def test_session_is_left_alone(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest
) -> None:
    """The session's fixtures neither reset nor heal, and can be used by other sessions' ones."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def service(cachesim_env):
            return cachesim_env["CACHESIM_NAME"]

        def test_it(service, cachesim_session):
            assert service == cachesim_session.settings.name
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert fake.calls == ["start", "lease", "stop"]


def test_clients_are_closed(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """The clients are those of the topology, and are closed before it is healed."""
    pytester.makepyfile("def test_it(redis_cluster, memcached): pass")
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert fake.calls[-4:] == ["close memcached", "close redis", "heal", "stop"]


def test_client_that_cannot_be_closed(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end pymemcache may find that it has removed a dead node already: no test fails."""

    def close(_client: object) -> None:
        raise ValueError("No such node 127.0.0.1:1 to remove")

    monkeypatch.setattr(fake_simulator.FakeClient, "close", close)
    pytester.makepyfile("def test_it(memcached): pass")
    run_pytest("--cachesim").assert_outcomes(passed=1)
    assert "heal" in fake.calls


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("reset", "cachesim: the topology could not be reset before the test: redis-b is stuck"),
        ("heal", "cachesim: the topology could not be healed after the test: redis-b is stuck"),
        (
            "stop",
            (
                "cachesim: the topology could not be taken down: FaultError('redis-b is stuck'). "
                "`cachesim gc`, or the next start of a topology, removes what is left."
            ),
        ),
    ],
    ids=["reset", "heal", "stop"],
)
def test_trouble_around_a_test(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, method: str, expected: str
) -> None:
    """An error in setup or teardown says what happened, without a traceback of ours."""
    fake.errors[method] = FaultError("redis-b is stuck")
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim")
    result.assert_outcomes(passed=0 if method == "reset" else 1, errors=1)
    assert expected in result.outlines
    result.stdout.no_fnmatch_line("*_run.py*")


@pytest.mark.parametrize("error", [BackendUnavailable, ImageMissing])
def test_skips_without_an_engine(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, error: type[Exception]
) -> None:
    """Without an engine the tests skip with the reason; it is tried once."""
    fake.errors["start"] = error("nothing here. Start Docker.")
    pytester.makepyfile("def test_a(cachesim): pass\ndef test_b(redis_cluster): pass")
    result = run_pytest("--cachesim", "-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*: cachesim: nothing here. Start Docker."])
    assert fake.calls == ["start", "stop"]


@pytest.mark.parametrize(
    ("value", "outcome"),
    [("1", "errors"), ("true", "errors"), ("0", "skipped"), ("false", "skipped"), ("", "skipped")],
)
def test_required_engine(
    pytester: pytest.Pytester,
    fake: Fake,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    outcome: str,
) -> None:
    """If an engine is required, its absence is a failure."""
    monkeypatch.setenv("CACHESIM_REQUIRE_DOCKER", value)
    fake.errors["start"] = BackendUnavailable("nothing here. Start Docker.")
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim")
    result.assert_outcomes(**{outcome: 1})
    if outcome == "errors":
        expected = "CACHESIM_REQUIRE_DOCKER is set, but nothing here. Start Docker."
        assert expected in result.outlines


def test_start_that_fails(pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest) -> None:
    """A topology that does not come up is an error, never a skip."""
    fake.errors["start"] = NotReady("redis-c is not ready", "redis-c")
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim")
    result.assert_outcomes(errors=1)
    assert "cachesim: the topology did not start: redis-c is not ready" in result.outlines


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("Use `--backend embedded`.", "Use `--cachesim-backend embedded`."),
        ("Choose one with --name, or not.", "Choose one with --cachesim-attach=NAME, or not."),
        ("See `cachesim down --name x`.", "See `cachesim down --name x`."),
    ],
)
def test_hints(
    pytester: pytest.Pytester, fake: Fake, run_pytest: RunPytest, hint: str, shown: str
) -> None:
    """Hints name pytest's options, and leave the shell's commands as they are. They come once."""
    fake.errors["start"] = CachesimError(hint)
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim")
    assert f"cachesim: the topology did not start: {shown}" in result.outlines
    result.stdout.no_fnmatch_line("*During handling of the above exception*")


@pytest.mark.usefixtures("fake")
def test_topology_that_a_test_has_stopped(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Its own failure is reported, and the run goes on."""
    pytester.makepyfile(
        """
        from cachesim.errors import NotRunning

        def over(_): raise NotRunning("it was stopped")

        def test_it(cachesim):
            type(cachesim).backend = property(over)
            assert 1 == 2
        def test_other(): pass
        """
    )
    result = run_pytest("--cachesim", "--cachesim-artifacts=artifacts")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E*assert 1 == 2"])


# --- the process ----------------------------------------------------------------------------

USERS = {
    "test": "def test_it(cachesim): pass",
    "env": "def test_it(cachesim_env): pass",
    "fixture": """
        import pytest

        @pytest.fixture
        def service(memcached): pass

        @pytest.mark.usefixtures("service")
        def test_it(): pass
        """,
    "marker": """
        import pytest

        @pytest.mark.cachesim(speed=60)
        def test_it(cachesim): pass
        def test_other(cachesim): pass
        """,
}


@pytest.mark.parametrize("source", USERS.values(), ids=USERS)
def test_process_of_users(
    pytester: pytest.Pytester,
    fake: Fake,
    process: type[FakeProcess],
    run_pytest: RunPytest,
    source: str,
) -> None:
    """One process gets ready during the collection, and the topology starts in it."""
    pytester.makepyfile(source)
    run_pytest("--cachesim", "--cachesim-seed=5")
    (it,) = process.made
    assert fake.processes == [it]
    assert it.ordered == fake.made[0].model_dump(mode="json")


def test_process_of_a_marker(
    pytester: pytest.Pytester, fake: Fake, process: type[FakeProcess], run_pytest: RunPytest
) -> None:
    """A topology of a test's own has its own process."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.cachesim(engine="valkey")
        def test_a(cachesim): pass
        def test_b(cachesim): pass
        """
    )
    run_pytest("--cachesim").assert_outcomes(passed=2)
    (it,) = process.made
    given = {settings.engine: one for settings, one in zip(fake.made, fake.processes, strict=True)}
    assert given == {"valkey": None, "redis": it}


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("def test_it(): pass", ["--cachesim"]),
        ("def test_it(cachesim): pass", []),
        ("def test_it(cachesim): pass", ["--cachesim", "--collect-only"]),
        ("def test_it(cachesim): pass", ["--cachesim", "--cachesim-attach"]),
    ],
    ids=["no user", "off", "collect only", "attached"],
)
@pytest.mark.usefixtures("fake")
def test_no_process(
    pytester: pytest.Pytester,
    process: type[FakeProcess],
    run_pytest: RunPytest,
    source: str,
    options: list[str],
) -> None:
    """None is started where none will be needed."""
    pytester.makepyfile(source)
    assert run_pytest(*options).ret == pytest.ExitCode.OK
    assert process.made == []


@pytest.mark.usefixtures("fake")
def test_unused_process(
    pytester: pytest.Pytester, process: type[FakeProcess], run_pytest: RunPytest
) -> None:
    """It ends with the run if no test has come to use it."""
    pytester.makepyfile("def test_it(cachesim): pass\ndef test_other(): pass")
    run_pytest("--cachesim", "-k", "other").assert_outcomes(passed=1, deselected=1)
    assert [it.is_closed for it in process.made] == [True]


@pytest.mark.usefixtures("fake")
def test_process_that_cannot_be_started(
    pytester: pytest.Pytester, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection goes on; the first test that needs it tells."""

    class Forbidden(FakeProcess):
        def __init__(self) -> None:
            raise StartError("processes are forbidden")

    monkeypatch.setattr(launching, "DaemonProcess", Forbidden)
    pytester.makepyfile("def test_it(cachesim): pass\ndef test_other(): pass")
    run_pytest("--cachesim", "-k", "other").assert_outcomes(passed=1, deselected=1)


def test_forbidden_processes(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Where no process can be started, tests say so, and those without fixtures pass."""
    pytester.makeconftest("import sys; sys.executable = '/nowhere/python'")
    pytester.makepyfile("def test_it(cachesim): pass\ndef test_other(): pass")
    result = run_pytest("--cachesim", "--cachesim-backend=embedded", subprocess=True)
    result.assert_outcomes(errors=1, passed=1)
    said = "cachesim: the topology did not start: the topology's process can't be started with *"
    result.stdout.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], ["here"]), (["-n2"], ["gw0", "gw1"]), (["-n2", "--collect-only"], [])],
    ids=["alone", "workers", "collect only"],
)
def test_process_of_workers(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: list[str],
) -> None:
    """Under xdist each worker that collects users has a process, and the controller none."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test may be in one itself
    pytester.makeconftest(
        """
        import os, pathlib
        from cachesim.simulator import launching

        class Real(launching.DaemonProcess):
            def __init__(self):
                super().__init__()
                pathlib.Path(os.environ.get("PYTEST_XDIST_WORKER", "here")).with_suffix(
                    ".pid").write_text(str(self.pid))

        launching.DaemonProcess = Real
        """
    )
    pytester.makepyfile("def test_it(cachesim): pass\ndef test_other(): pass")
    result = run_pytest("--cachesim", "-k", "other", *options, "-Werror", subprocess=True)
    assert result.ret == pytest.ExitCode.OK
    files = sorted(pytester.path.glob("*.pid"))
    assert [file.stem for file in files] == expected
    assert not any(psutil.pid_exists(int(file.read_text())) for file in files)


# --- the report -----------------------------------------------------------------------------


def sections(result: pytest.RunResult) -> dict[str, list[str]]:
    """The plugin's sections of the report, by title; times are left out."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.outlines:
        if match := re.fullmatch(r"-+ (.*) -+|=+ .* =+|_+ .* _+", line):
            lines = found.setdefault(match[1], []) if match[1] else []
        else:
            line = re.sub(r"^7:M .*? \* ", "", line)
            lines.append(re.sub(r"^\d\d:\d\d:\d\d\.\d{3}", "TIME", line))
    return {title: lines for title, lines in found.items() if title.startswith("cachesim")}


@pytest.mark.usefixtures("fake")
def test_failing_test(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Its report has what happened and was logged since it began, the shortest first."""
    pytester.makepyfile(
        """
        import time

        def test_before(cachesim):
            cachesim.events.record("fault", "redis-a", "before")
            cachesim.nodes["redis-a"].log("before")
            time.sleep(0.002)  # dates in logs have milliseconds

        def test_it(cachesim):
            cachesim.events.record("fault", "redis-a", "kill")
            cachesim.nodes["redis-a"].log("killed")
            cachesim.nodes["memcached-a"].log("without a date")
            assert 0
        """
    )
    assert sections(run_pytest("--cachesim")) == {
        "cachesim events": [
            "TIME  reset       fake           as new",
            "TIME  fault       redis-a        kill",
        ],
        "cachesim redis-a: log": ["killed"],
    }
    wide = sections(run_pytest("--cachesim", "--cachesim-report-lines=all"))
    assert wide["cachesim memcached-a: log"] == ["without a date"]
    assert list(wide)[-1] == "cachesim events"


@pytest.mark.usefixtures("fake")
def test_length(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A report has 40 lines at most, the last ones; short sections are whole and come first."""
    pytester.makepyfile(
        """
        import time

        def test_it(cachesim):
            time.sleep(0.002)  # dates in logs have milliseconds
            for number in range(100):
                cachesim.events.record("fault", "redis-a", f"kill {number}")
            cachesim.nodes["redis-a"].log("one")
            cachesim.nodes["redis-a"].log("two")
            assert 0
        """
    )
    for option, most in ([], 40), (["--cachesim-report-lines=12"], 12):
        found = sections(run_pytest("--cachesim", *option))
        assert list(found) == ["cachesim redis-a: log", "cachesim events"]
        log, events = found.values()
        assert log == ["one", "two"]
        assert events[0].endswith(" lines before: --cachesim-report-lines=all shows them")
        assert events[-1].endswith("kill 99")
        assert 2 + len(log) + len(events) == most
    assert (
        len(sections(run_pytest("--cachesim", "--cachesim-report-lines=all"))["cachesim events"])
        > 100
    )


@pytest.mark.parametrize("word", ["0", "9", "-3", "many"])
def test_no_length(run_pytest: RunPytest, word: str) -> None:
    """A length that is none is an error, which says what is one."""
    result = run_pytest("--cachesim", f"--cachesim-report-lines={word}")
    result.stderr.fnmatch_lines([f"*'{word}': should be `all`, or a number from 10 on"])


@pytest.mark.usefixtures("fake")
def test_first_failing_test(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The start of the topology belongs to the test that asked first."""
    pytester.makepyfile("def test_it(cachesim): assert 0")
    (first, *_) = sections(run_pytest("--cachesim"))["cachesim events"]
    assert first == "TIME  started     fake           here"


@pytest.mark.usefixtures("fake")
def test_failing_user_of_the_session(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The report has them, too, if only another fixture asks, for the session's topology."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def service(cachesim_session): pass

        def test_it(service): assert 0
        """
    )
    assert "cachesim events" in sections(run_pytest("--cachesim"))


@pytest.mark.usefixtures("fake")
def test_failing_user_at_run_time(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """The report has them, too, if the test asks for the topology while it runs."""
    pytester.makepyfile(
        """
        def test_it(request):
            request.getfixturevalue("cachesim")
            assert 0
        """
    )
    assert "cachesim events" in sections(run_pytest("--cachesim"))


OBSERVATIONS = """
import time

import pytest

def visit():
    raise OSError

def observed(cachesim, observe):
    with observe(visit, every=0.01, settle=0) as seen:
        cachesim.events.record("fault", "redis-a", "kill")
        while len(seen.operations) < 3:
            time.sleep(0.01)
    return seen

def test_it(cachesim, observe):
    assert observed(cachesim, observe).outage < 3

def test_directly(cachesim):
    assert observed(cachesim, cachesim.observe).outage < 3

def test_something_else(cachesim, observe):
    observed(cachesim, observe)
    assert 0

def test_other(cachesim):
    assert 0
"""


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("name", ["test_it", "test_directly", "test_something_else"])
def test_failing_observation(pytester: pytest.Pytester, run_pytest: RunPytest, name: str) -> None:
    """The report has what happened in the topology beside what became of the operations."""
    pytester.makepyfile(OBSERVATIONS)
    result = run_pytest("--cachesim", "-k", f"{name} or test_other")
    result.assert_outcomes(failed=2)
    assert result.stdout.str().count("- cachesim observed -") == 1
    result.stdout.fnmatch_lines(
        [
            *["E   *assert more than 0.0? s < 3"] * (name != "test_something_else"),
            *["E   * the longest outage of visit was more than 0.0? s*"]
            * (name != "test_something_else"),
            "*- cachesim observed -*",
            "seconds  visit *topology",
            "   0.00  * the observation begins",
            "   0.00  *  fault: redis-a kill",
        ]
    )


@pytest.mark.usefixtures("fake")
def test_others_have_no_sections(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Neither a passing test nor one without the topology has more in its report than before."""
    pytester.makepyfile("def test_a(cachesim): pass\ndef test_b(): assert 0")
    result = run_pytest("--cachesim", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    assert sections(result) == {}


@pytest.mark.usefixtures("fake")
def test_observation_that_never_began(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """It has no section, which would be empty."""
    pytester.makepyfile(
        """
        async def visit(): pass

        def test_it(observe):
            with observe(visit): pass
        """
    )
    result = run_pytest("--cachesim")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*observe it with `async with`"])
    assert "cachesim observed" not in sections(result)


@pytest.mark.usefixtures("fake")
def test_log_that_cannot_be_read(
    pytester: pytest.Pytester,
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log that is not to be had does not cost the rest of the report."""

    def logs(_node: object, _lines: int) -> str:
        raise OSError("the engine is gone")

    monkeypatch.setattr(fake_simulator.FakeNode, "logs", logs)
    pytester.makepyfile("def test_it(cachesim): assert 0")
    found = sections(run_pytest("--cachesim"))
    assert found["cachesim redis-a: log"] == ["could not be read: OSError('the engine is gone')"]


@pytest.mark.usefixtures("fake")
def test_logs_of_a_topology_that_has_died(
    pytester: pytest.Pytester, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is told once, and not of each node."""

    def logs(_node: object, _lines: int) -> str:
        raise NotRunning("its process has ended")

    monkeypatch.setattr(fake_simulator.FakeNode, "logs", logs)
    pytester.makepyfile("def test_it(cachesim): assert 0")
    result = run_pytest("--cachesim")
    assert result.outlines.count("could not be read: its process has ended") == 1


# --- several processes, and a real engine ---------------------------------------------------


def test_workers_share_the_seed(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Under xdist each worker has a topology of its own, all with the controller's seed."""
    fake = Path(fake_simulator.__file__).read_text()
    pytester.makeconftest(
        fake
        + "\nimport cachesim.simulator.simulator"
        + "\ncachesim.simulator.Simulator = FakeSimulator.new_class()"
    )
    pytester.makepyfile(
        """
        import json, os, pathlib

        def write(sim):
            name = os.environ["PYTEST_XDIST_WORKER"]
            pathlib.Path(f"{name}.json").write_text(
                json.dumps([sim.settings.seed, sim.settings.name])
            )

        def test_a(cachesim): write(cachesim)
        def test_b(cachesim): write(cachesim)
        """
    )
    result = run_pytest("--cachesim", "-n2", "--dist=each", subprocess=True)
    result.assert_outcomes(passed=4)
    found = [json.loads(file.read_text()) for file in pytester.path.glob("gw*.json")]
    assert len(found) == len({name for _, name in found}) == 2
    assert {f"seed {seed}" for seed, _ in found} == {header(result).rpartition(", ")[2]}


def test_no_engine_answers(
    pytester: pytest.Pytester, run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests for which containers were asked fail where no engine answers."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    pytester.makepyfile("def test_it(cachesim): pass")
    result = run_pytest("--cachesim", "--cachesim-backend=docker", subprocess=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the backend is docker, but no Docker engine answers at tcp://*"])
    result.stdout.no_fnmatch_line("*During handling of the above exception*")


@pytest.mark.usefixtures("on_backend")
def test_others_only_look(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """Other processes can't change a run's topology, but can look at it."""
    pytester.makepyfile(
        """
        import os, subprocess, sys

        def test_it(cachesim):
            def run(*words):
                command = [sys.executable, "-m", "cachesim", *words, "--name", cachesim.name]
                return subprocess.run(command, capture_output=True, text=True)

            done = run("kill", "redis-b")
            assert done.returncode == 1
            assert f"has been leased by process {os.getpid()} for " in done.stderr
            assert f"leased by process {os.getpid()}" in run("status").stdout
            assert cachesim.nodes["redis-b"].state == "running"
        """
    )
    result = run_pytest("--cachesim", "--cachesim-speed=100", subprocess=True)
    result.assert_outcomes(passed=1)


@pytest.mark.usefixtures("on_backend")
def test_on_an_engine(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A suite with a failover runs on real containers, and leaves none behind."""
    pytester.makepyfile(
        """
        import pathlib

        def test_failover(cachesim, redis_cluster, memcached, cachesim_env):
            pathlib.Path("name").write_text(cachesim.name)
            redis_cluster.set("session:1", "here")
            memcached.set("api:1", "there")
            cachesim.redis.primary.kill()
            cachesim.redis.wait_for_failover()
            assert redis_cluster.get("session:1") == "here"
            assert cachesim_env["CACHESIM_REDIS_TLS"] == "1"

        def test_as_new(cachesim, redis_cluster, memcached):
            assert cachesim.redis.primary.name == "redis-a"
            assert redis_cluster.get("session:1") is None
            assert memcached.get("api:1") is None

        def test_that_fails(cachesim):
            cachesim.redis.primary.kill()
            cachesim.redis.wait_for_failover()
            assert 0
        """
    )
    arguments = ["--cachesim", "--cachesim-speed=100", "-Werror"]
    result = run_pytest(*arguments, subprocess=True)
    result.assert_outcomes(passed=2, failed=1)
    found = sections(result)
    assert any("redis-a        kill" in line for line in found["cachesim events"])
    assert any(re.fullmatch("cachesim redis-[bc]: log", title) for title in found)
    assert sum(1 + len(lines) for lines in found.values()) <= 40
    assert containers_of((pytester.path / "name").read_text()) == []
