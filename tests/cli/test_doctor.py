"""The doctor: what it finds, and that it says what to do."""

import os
import re
import shutil
import socket
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from click.testing import CliRunner

from cachesim.cli import doctor
from cachesim.cli.app import main
from cachesim.cli.doctor import Check, Level, examine
from cachesim.runs.files import RunFiles

ENGINE = doctor._engine
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _alone(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither topologies nor settings, and no look at the engine unless a test wants it."""
    assert alone
    monkeypatch.setattr(doctor, "_engine", lambda _settings: iter(()))


def found(subject: str) -> list[Check]:
    """Return the doctor's check of a subject."""
    return [check for check in examine() if check.subject == subject]


def test_all_is_well() -> None:
    """The checks are: Python, packages, state folder, ports, settings, topologies."""
    checks = {check.subject: check for check in examine()}
    assert checks.keys() >= {
        "Python", "docker", "testcontainers", "redis", "pymemcache", "toxiproxy-python", "trustme",
        "redis-cli", "state folder", "ports", "settings", "topologies",
    }  # fmt: skip
    assert all(check.level is Level.OK and not check.advice for check in checks.values())
    assert checks["redis"].finding == version("redis")
    assert checks["settings"].finding == "all defaults"


def test_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is wrong."""

    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", none)
    (check,) = found("redis")
    assert (check.level, check.finding) == (Level.WRONG, "not installed")
    assert check.advice.endswith("-m pip install cachesim` installs it")


def test_state_folder_that_cannot_be_written(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the state folder, the temporary one is used; without both, nothing works."""
    (alone / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(alone / "file"))
    first, second = found("state folder")
    assert (first.level, first.finding) == (
        Level.NOTE,
        f"{alone}/file/cachesim/runs: Not a directory",
    )
    assert first.advice == f"{second.finding} is used instead"
    assert second.level is Level.OK

    shutil.rmtree(second.finding)
    Path(second.finding).touch()
    first, second = found("state folder")
    assert second.level is Level.WRONG
    assert second.advice.startswith("set XDG_STATE_HOME or TMPDIR to a folder that can be written")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_state_folder_of_others(alone: Path) -> None:
    """A folder in which others may write is not used."""
    (alone / "cachesim" / "runs").mkdir(parents=True)
    (alone / "cachesim" / "runs").chmod(0o777)
    first, second = found("state folder")
    assert first.finding.endswith("runs: not a folder that only this user can write to")
    assert second.level is Level.OK


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is told before it is none."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9 - 2**20, 2**20))
    (check,) = found("state folder")
    assert check.level is Level.NOTE
    assert check.finding.endswith(": 1 MB are free")
    assert check.advice == "make room, or set XDG_STATE_HOME"


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox without listeners is wrong."""

    def forbidden(*_arguments: object, **_more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_connection", forbidden)
    (check,) = found("ports")
    assert (check.level, check.finding) == (Level.WRONG, "127.0.0.1: Permission denied")
    assert check.advice


def test_settings(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are told with their place, also wrong ones."""
    monkeypatch.setenv("CACHESIM_SPEED", "30")
    (check,) = found("settings")
    assert (check.level, check.finding) == (
        Level.OK,
        "speed from environment CACHESIM_SPEED",
    )
    (alone / "cachesim.toml").write_text('engine = "redys"')
    (check,) = found("settings")
    assert check.level is Level.WRONG
    assert f"{alone}/cachesim.toml" in check.finding
    assert check.advice == "correct it there"


def test_dead_topology() -> None:
    """For what a killed process left, the advice has the next step."""
    run = RunFiles("one", b"", "")
    (check,) = found("topologies")
    assert (check.level, check.finding) == (Level.OK, "up: one")
    host, pid, started = (run.folder / "owner").read_text().rsplit(" ", 2)
    (run.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")
    (check,) = found("topologies")
    assert (check.level, check.finding) == (Level.NOTE, "left behind: one")
    assert check.advice == "`cachesim gc` removes what they left"


# --- the engine ---------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is looked at."""
    monkeypatch.setattr(doctor, "_engine", ENGINE)


@pytest.mark.usefixtures("engine", "require_docker")
def test_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that answers is told with its version, and the images that are not here."""
    (check,) = found("Docker engine")
    assert check.level is Level.OK
    assert " CPUs, " in check.finding
    (check,) = found("redis_image")
    assert (check.level, check.finding) == (Level.OK, "redis:7.2")
    monkeypatch.setenv("CACHESIM_ENGINE", "valkey")
    monkeypatch.setenv("CACHESIM_VALKEY_IMAGE", "no-such-image:1")
    (check,) = found("valkey_image")
    assert (check.level, check.finding) == (Level.NOTE, "no-such-image:1 is missing")
    assert "`docker pull no-such-image:1` does it now" in check.advice
    assert found("redis_image") == []
    monkeypatch.setenv("CACHESIM_VALKEY_IMAGE", ":::")
    (check,) = found("valkey_image")
    assert check.level is Level.WRONG
    assert check.finding.startswith("::: can't be used: ")
    assert check.advice == "name another one with the setting valkey_image"


@pytest.mark.usefixtures("engine")
def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the backend is docker this is wrong; the command says what to do, and ends with 3."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    (check,) = found("Docker engine")
    assert (check.level, check.advice) == (
        Level.NOTE,
        "without a Docker engine, topologies run on the embedded backend",
    )
    monkeypatch.setenv("CACHESIM_BACKEND", "docker")
    result = CliRunner().invoke(main, ["doctor"])
    assert (result.exit_code, result.stderr) == (3, "")
    assert re.search(
        r"^ wrong +Docker engine +no Docker engine answers at tcp://127", result.stdout, re.M
    )
    assert "\nDocker engine: `docker info` should work first\n" in result.stdout


@pytest.mark.usefixtures("engine", "require_docker")
def test_command() -> None:
    """If all is well the command ends with 0, and gives no advice."""
    result = CliRunner().invoke(main, ["doctor"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"^ ok +Python +3\.\d+\.\d+", result.stdout, re.M)
    assert result.stdout.rstrip().splitlines()[-1].split()[:2] == ["ok", "topologies"]
