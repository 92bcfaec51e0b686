"""The variables by name, and what `cachesim env` prints of another process's topology."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cachesim.cli.app import main
from cachesim.runs import env
from cachesim.runs.files import RunFiles
from cachesim.settings import Settings, load_settings
from cachesim.topology import Endpoint

_TOKEN = "to-ken"  # noqa: S105  # a test's own
_URL = f"rediss://default:{_TOKEN}@127.0.0.1:1"
_AWKWARD = "it's here"


def run(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, arguments)


def make_run(name: str) -> RunFiles:
    """The files of a topology that is up."""
    files = RunFiles(name, b"pem", _TOKEN)
    files.save_env(
        {
            "CACHESIM_NAME": name,
            "CACHESIM_REDIS_HOST": "127.0.0.1",
            "CACHESIM_REDIS_PORT": "1",
            "CACHESIM_REDIS_USERNAME": "default",
            "CACHESIM_REDIS_PASSWORD": _TOKEN,
            "CACHESIM_REDIS_PASSWORD_FILE": str(files.token),
            "CACHESIM_REDIS_URL": _URL,
            "CACHESIM_CA_FILE": _AWKWARD,
        }
    )
    return files


@pytest.fixture
def up() -> RunFiles:
    """The files of a topology named `one`."""
    return make_run("one")


def test_env_without_a_topology() -> None:
    """If none is up, the message says how to start one."""
    result = run("env")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no topology is up. Start one with `cachesim up`.\n"


def test_env_of_the_only_one(up: RunFiles) -> None:
    """Without a name it is the topology that is up; its secrets are left out."""
    result = run("env", "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "CACHESIM_NAME": "one",
        "CACHESIM_REDIS_HOST": "127.0.0.1",
        "CACHESIM_REDIS_PORT": "1",
        "CACHESIM_REDIS_USERNAME": "default",
        "CACHESIM_REDIS_PASSWORD_FILE": str(up.token),
        "CACHESIM_CA_FILE": _AWKWARD,
    }


@pytest.mark.usefixtures("up")
def test_env_with_secrets() -> None:
    """The secrets come from the token's file."""
    variables = json.loads(run("env", "--format", "json", "--show-secrets").stdout)
    assert variables["CACHESIM_REDIS_PASSWORD"] == _TOKEN
    assert variables["CACHESIM_REDIS_URL"] == _URL


@pytest.mark.usefixtures("up")
def test_env_for_a_shell() -> None:
    """The default output is for `eval`, whatever a value holds."""
    lines = run("env").stdout.splitlines()
    assert lines[0] == "export CACHESIM_NAME=one"
    assert lines[-1] == f"export CACHESIM_CA_FILE={shlex.quote(_AWKWARD)}"


@pytest.mark.usefixtures("up")
def test_env_for_a_dotenv_file() -> None:
    """Plain values have no quotes, which `docker run --env-file` would take for a part of them."""
    lines = run("env", "--format", "dotenv").stdout.splitlines()
    assert lines[0] == "CACHESIM_NAME=one"
    assert lines[-1] == r"CACHESIM_CA_FILE='it\'s here'"


@pytest.mark.usefixtures("up")
def test_env_of_several() -> None:
    """Which of several is meant is not guessed."""
    make_run("two")
    result = run("env")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("Error: several topologies are up: choose one with --name: one, two\n")


@pytest.mark.usefixtures("up")
def test_env_by_name() -> None:
    """A name chooses."""
    make_run("two-b")
    assert "CACHESIM_NAME=two-b" in run("env", "--name", "two-b").stdout


@pytest.mark.usefixtures("up")
def test_env_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name comes from where every setting may come from."""
    make_run("two")
    monkeypatch.setenv("CACHESIM_NAME", "two")
    assert "CACHESIM_NAME=two" in run("env").stdout


@pytest.mark.usefixtures("up")
def test_env_of_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the named one is not up, the message says who named it, and which are."""
    monkeypatch.setenv("CACHESIM_NAME", "three")
    result = run("env")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "Error: no topology named 'three' (environment CACHESIM_NAME) is up, but these are: one. "
    )


# --- the names ------------------------------------------------------------------------------


def test_variables_of_a_topology() -> None:
    """A service gets each variable that has a meaning, in that order; the URL is as redis-py's."""
    variables = env.service_variables(
        name="n",
        backend="docker",
        engine="redis",
        redis_endpoint=Endpoint("127.0.0.1", 1),
        redis=[Endpoint("127.0.0.1", 5), Endpoint("::1", 2)],
        memcached_endpoint=Endpoint("127.0.0.1", 6),
        memcached=[Endpoint("127.0.0.1", 3)],
        username="default",
        token=_TOKEN,
        token_file=Path("/token"),
        ca_file=Path("/ca.pem"),
        toxiproxies=dict.fromkeys("abc", "http://127.0.0.1:4"),
    )
    assert list(variables) == list(env.SERVICE)
    assert variables["CACHESIM_REDIS_NODES"] == "127.0.0.1:5,[::1]:2"
    assert variables["CACHESIM_REDIS_PORT"] == "1"
    assert variables["CACHESIM_MEMCACHED_PORT"] == "6"
    assert variables["CACHESIM_REDIS_URL"] == _URL
    assert variables["CACHESIM_TOXIPROXY_C"] == "http://127.0.0.1:4"


def test_variables_of_settings() -> None:
    """Each setting has a variable, with what it is for."""
    assert list(env.settings().values()) == [
        it.description for it in Settings.model_fields.values()
    ]
    assert "CACHESIM_SPEED" in env.settings()


@pytest.mark.parametrize("variable", [*env.SERVICE, *env.SWITCHES])
def test_not_taken_for_a_setting(variable: str) -> None:
    """Our other variables are not taken for misspelt ones of settings."""
    if variable not in env.settings():
        assert load_settings(environ={variable: "1"}).settings == Settings()


def test_placed() -> None:
    """From a zone, nodes and endpoints have other addresses; what nodes announce is mapped."""
    one, two, three = (Endpoint("127.0.0.1", port) for port in (1, 2, 3))
    variables = env.service_variables(
        name="one",
        backend="embedded",
        engine="redis",
        redis_endpoint=one,
        redis=[two],
        memcached_endpoint=one,
        memcached=[two, three],
        username="default",
        token=_TOKEN,
        token_file=Path("token"),
        ca_file=Path("ca.pem"),
        toxiproxies={"a": "http://127.0.0.1:9"},
    )
    placed = env.placed(variables, {str(one): "127.0.0.1:11", str(two): "127.0.0.1:12"})
    assert {k: v for k, v in placed.items() if v != variables.get(k)} == {
        env.REDIS_PORT: "11",
        env.REDIS_NODES: "127.0.0.1:12",
        env.REDIS_URL: f"rediss://default:{_TOKEN}@127.0.0.1:11",
        env.MEMCACHED_PORT: "11",
        env.MEMCACHED_NODES: "127.0.0.1:12,127.0.0.1:3",
        env.REDIS_ADDRESS_MAP: '{"127.0.0.1:2": "127.0.0.1:12"}',
    }
