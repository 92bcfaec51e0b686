"""The command line: what it prints, how it ends, and that it leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner, Result

from cachesim.cli.app import main
from cachesim.errors import SettingsError
from cachesim.faults.catalogue import CATALOGUE
from cachesim.settings import Settings, load_settings
from tests.processes import Process, call, left_behind

_LIMIT = 90.0  # seconds: for a slow machine
_UP = "Ctrl-C takes everything down"

needs_signals = pytest.mark.skipif(os.name != "posix", reason="sends signals to a process")


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:
    """No other topologies than a test's own."""


def run(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments)


# --- usage ----------------------------------------------------------------------------------


def test_help_lists_the_commands() -> None:
    """`--help` has every command with what it does."""
    result = run("--help")
    assert result.exit_code == 0
    for name, it in main.commands.items():
        beginning = re.escape(it.get_short_help_str(20).removesuffix("..."))
        assert re.search(rf"^  {name} +{beginning}", result.output, re.M)


@pytest.mark.parametrize("name", main.commands)
def test_options_have_help(name: str) -> None:
    """Every option of every command says what it does, and every command too."""
    command = main.commands[name]
    for it in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert it.help
        assert all(o.help for o in it.params if isinstance(o, click.Option))


@pytest.mark.parametrize("words", [["up", "--help"], ["fault", "latency", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """`--help` is there at once: what commands need is imported when they run."""
    script = (
        "import sys; from cachesim.cli.app import main\n"
        f"main({words}, standalone_mode=False)\n"
        "heavy = {'docker', 'testcontainers', 'redis', 'pymemcache', 'pydantic', 'rich', 'psutil'}"
        "\nsys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = call(Path.cwd(), "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


def test_help_makes_no_fault_commands() -> None:
    """The catalogue takes time to import: only `fault` does that."""
    script = (
        "import sys; from cachesim.cli.app import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "sys.exit('cachesim.faults.catalogue' in sys.modules)"
    )
    assert call(Path.cwd(), "-c", script).returncode == 0


def test_fault_schema() -> None:
    """`fault schema` prints the JSON Schema of the catalogue, and needs no topology."""
    result = run("fault", "schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == CATALOGUE.schema()


def test_version() -> None:
    """`--version` is one line."""
    assert re.fullmatch(r"cachesim (\d\S+|\(not installed\))\n", run("--version").output)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["up", "--no-such-option"],
        ["up", "name"],
        ["up", "--engine", "memcached"],
        ["up", "--backend", "podman"],
        ["up", "--seed", "1.5"],
        ["env", "--format", "yaml"],
    ],
    ids=" ".join,
)
def test_usage_error(arguments: list[str]) -> None:
    """A usage error exits with 2, before anything is started."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("key", ["backend", "engine"])
def test_choices_are_those_of_the_settings(key: str) -> None:
    """The choices of an option, which `--help` may not import, are its setting's."""
    (option,) = (it for it in main.commands["up"].params if it.name == key)
    assert isinstance(option.type, click.Choice)
    assert option.type.choices == get_args(Settings.model_fields[key].annotation)


@pytest.mark.parametrize("speed", ["0", "fast", "nan"])
def test_wrong_setting(speed: str) -> None:
    """A setting that is wrong ends with 1 and the message that Python has."""
    result = run("up", "--speed", speed)
    assert (result.exit_code, result.stdout) == (1, "")
    number = {"0": 0, "nan": float("nan")}.get(speed, speed)
    with pytest.raises(SettingsError) as error:
        load_settings({"speed": number})
    assert result.stderr == f"Error: {error.value}\n"


# --- up -------------------------------------------------------------------------------------


@pytest.fixture
def name() -> str:
    """A name that no other run has, and that tells whose it is."""
    return f"cli-{os.urandom(3).hex()}"


@pytest.fixture(scope="module")
def running(
    backend: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, Path, str]]:
    """A topology that is up, for the tests that only look: the process, its folder, its name."""
    folder, name = tmp_path_factory.mktemp("up"), f"cli-{os.urandom(3).hex()}"
    arguments = ["up", "--name", name, "--seed", "7", "--speed", "100", "--backend", backend]
    with Process(folder, *arguments, NO_COLOR="1") as process:
        process.wait_for(_UP)
        yield process, folder, name
    assert left_behind(name, folder) == []


def other(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another command beside a running topology."""
    return call(folder, "-m", "cachesim", *arguments)


@needs_signals
def test_up_shows_where_everything_is(running: tuple[Process, Path, str], backend: str) -> None:
    """Backend and why, seed, nodes with role, zone and address, and each zone's Toxiproxy."""
    process, folder, name = running
    variables = json.loads(other(folder, "env", "--name", name, "--format", "json").stdout)
    assert f"backend  {backend} (argument)\n" in process.out
    assert "seed     7\n" in process.out
    roles = {"a": "primary", "b": "replica", "c": "replica"}
    for zone, address in zip("abc", variables["CACHESIM_REDIS_NODES"].split(","), strict=True):
        assert re.search(rf"redis-{zone} +{roles[zone]} +az-{zone} +{address}", process.out)
    for zone, address in zip("abc", variables["CACHESIM_MEMCACHED_NODES"].split(","), strict=True):
        assert re.search(rf"memcached-{zone} +az-{zone} +{address}", process.out)
    for zone in "abc":
        url = variables[f"CACHESIM_TOXIPROXY_{zone.upper()}"]
        assert re.search(rf"az-{zone} +{url}", process.out)
    assert f'eval "$(cachesim env --name {name})"' in process.out


@needs_signals
def test_up_tells_its_steps_on_stderr(running: tuple[Process, Path, str], backend: str) -> None:
    """Without a terminal, progress is a plain line for each step."""
    process, _, _ = running
    docker = ["checking images", "starting nine containers in three zones", "forming the cluster"]
    embedded = ["starting six emulated nodes in three zones"]
    assert process.err.splitlines() == [
        *(docker if backend == "docker" else embedded),
        "waiting until all is ready through the links",
        "Events follow. Ctrl-C takes everything down.",
    ]


@needs_signals
def test_up_hides_the_token(running: tuple[Process, Path, str]) -> None:
    """The token is nowhere in what is printed."""
    process, folder, name = running
    variables = json.loads(other(folder, "env", "--name", name, "--json", "--show-secrets").stdout)
    assert variables["CACHESIM_REDIS_PASSWORD"] not in process.out + process.err


@needs_signals
def test_env_python(running: tuple[Process, Path, str]) -> None:
    """The Python code that `env --python` prints connects, and has no secret."""
    _, folder, name = running
    code = other(folder, "env", "--name", name, "--python").stdout
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102  # what a user does with it
    with closing(scope["redis_cluster"]) as redis_cluster:
        assert redis_cluster.set("session:1", "here")
        assert redis_cluster.get("session:1") == "here"
        assert redis_cluster.get_connection_kwargs()["password"] not in code
    with closing(scope["memcached"]) as memcached:
        assert memcached.set("page:1", b"here", noreply=False)
        assert memcached.get("page:1") == b"here"


@needs_signals
def test_up_prints_events_as_they_happen(running: tuple[Process, Path, str], backend: str) -> None:
    """A failover that nobody asked for is printed while it goes on."""
    process, folder, name = running
    if backend == "docker":
        import docker

        with closing(docker.from_env()) as client:
            client.containers.get(f"cachesim-{name}-redis-a").kill()
    else:
        assert other(folder, "kill", "redis-a").returncode == 0
    process.wait_for(r"^\S+ +failover +redis-[bc] +Failover from primary node redis-a to replica")


@needs_signals
def test_up_twice(running: tuple[Process, Path, str]) -> None:
    """A second topology of the name is refused, and the first goes on."""
    process, folder, name = running
    done = other(folder, "up", "--name", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: a topology named {name!r} is running already. Choose another" in done.stderr
    assert process.popen.poll() is None
    assert f"CACHESIM_NAME={name}" in other(folder, "env", "--name", name).stdout


@needs_signals
@pytest.mark.usefixtures("on_backend")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_when_up(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM takes all down and is a success; a second one cuts nothing short."""
    with Process(tmp_path, "up", "--name", name) as process:
        process.wait_for(_UP)
        process.interrupt(number)
        process.wait_for("^Taking everything down")
        process.interrupt()
        process.wait_for("is not interrupted")
        assert process.end() == 0
    assert process.err.endswith("Everything is down.\n")
    assert left_behind(name, tmp_path) == []


@needs_signals
@pytest.mark.parametrize(
    "step", ["checking images", "starting", "forming the cluster", "waiting until all"]
)
def test_interrupt_while_it_starts(tmp_path: Path, name: str, step: str, on_backend: str) -> None:
    """Ctrl-C in any step of the start takes down what there is, and a second one cannot stop it."""
    if on_backend == "embedded" and step in ("checking images", "forming the cluster"):
        pytest.skip("the embedded backend has no such step")
    with Process(tmp_path, "up", "--name", name) as process:
        process.wait_for(step)
        process.interrupt()
        process.wait_for("^Taking everything down")
        process.interrupt()
        code = process.end()
    assert process.err.endswith("Everything is down.\n"), process.err
    assert "Traceback" not in process.err
    assert code == 130
    assert left_behind(name, tmp_path) == []


@needs_signals
@pytest.mark.usefixtures("on_backend")
def test_nobody_reads(tmp_path: Path, name: str) -> None:
    """If the reader of the output goes away, everything is taken down."""
    reading, writing = os.pipe()
    os.close(reading)
    with Process(tmp_path, "up", "--name", name, stdout=writing) as process:
        os.close(writing)
        assert process.end() == 1
    assert "Traceback" not in process.err
    assert left_behind(name, tmp_path) == []


def test_no_engine(tmp_path: Path) -> None:
    """Without an engine the message says what to do, and there is no traceback."""
    with Process(tmp_path, "up", "--backend", "docker", DOCKER_HOST="tcp://127.0.0.1:1") as process:
        assert process.end() == 1
    assert process.out == ""
    assert re.search(r"^Error: no Docker engine answers at .* Start Docker, or ", process.err, re.M)
    assert "Traceback" not in process.err
    assert list(tmp_path.iterdir()) == []
