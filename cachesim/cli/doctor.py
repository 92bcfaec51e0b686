"""Checks what a topology needs on this machine: `cachesim doctor`."""

import contextlib
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from cachesim.errors import CachesimError
from cachesim.runs.directory import make_root, roots
from cachesim.runs.registry import dead_runs, living_runs

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

    from cachesim.settings import Settings

_PACKAGES = ("docker", "testcontainers", "redis", "pymemcache", "toxiproxy-python", "trustme")
_ROOM = 200 * 2**20  # bytes: the append-only files of a test run, and logs


class Level(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        advice: what to do; empty if nothing.
    """

    subject: str
    level: Level
    finding: str
    advice: str = ""

    @property
    def is_well(self) -> bool:
        """Whether a topology can start."""
        return self.level is not Level.WRONG

    def as_json(self) -> dict[str, str]:
        """Return the check for JSON."""
        return {
            "subject": self.subject,
            "level": str(self.level),
            "finding": self.finding,
            "advice": self.advice,
        }


def examine() -> list[Check]:
    """Check everything. A failed check is a finding too."""
    checks = [*_versions(), *_state(), _ports()]
    settings, check = _settings()
    checks.append(check)
    if settings is not None:
        checks += _engine(settings)
    checks.append(_runs())
    return checks


def _versions() -> Iterator[Check]:
    where = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("Python", Level.OK, where)
    for package in _PACKAGES:
        try:
            yield Check(package, Level.OK, version(package))
        except PackageNotFoundError:
            advice = f"`{sys.executable} -m pip install cachesim` installs it"
            yield Check(package, Level.WRONG, "not installed", advice)
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    yield Check(
        "redis-cli", Level.OK, program or "not installed: `cachesim shell` has a plain prompt"
    )


def _state() -> Iterator[Check]:
    *_, last = every = roots()
    for root in every:
        level = Level.WRONG if root == last else Level.NOTE
        try:
            make_root(root)
            with tempfile.TemporaryFile(dir=root):
                free = shutil.disk_usage(root).free
        except OSError as error:
            advice = (
                f"{last} is used instead"
                if level is Level.NOTE
                else "set XDG_STATE_HOME or TMPDIR to a folder that can be written to"
            )
            yield Check("state folder", level, f"{root}: {error.strerror}", advice)
            continue
        if free < _ROOM:
            yield Check(
                "state folder",
                Level.NOTE,
                f"{root}: {free // 2**20} MB are free",
                "make room, or set XDG_STATE_HOME",
            )
        else:
            yield Check("state folder", Level.OK, str(root))
        return


def _ports() -> Check:
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            address = listener.getsockname()
            socket.create_connection(address, timeout=2).close()
    except OSError as error:
        advice = "allow programs to listen on 127.0.0.1: a firewall or a sandbox forbids it"
        return Check("ports", Level.WRONG, f"127.0.0.1: {error.strerror}", advice)
    return Check("ports", Level.OK, "127.0.0.1 can be listened on")


def _settings() -> "tuple[Settings | None, Check]":
    from cachesim.settings import load_settings

    try:
        loaded = load_settings()
    except CachesimError as error:
        return None, Check("settings", Level.WRONG, str(error), "correct it there")
    given = {k: s for k, s in loaded.sources.items() if s != "default"}
    text = "; ".join(f"{key} from {source}" for key, source in given.items())
    return loaded.settings, Check("settings", Level.OK, text or "all defaults")


def _engine(settings: "Settings") -> Iterator[Check]:
    from cachesim.backends.containers.engine import connect, published_host

    try:
        client = connect()
    except CachesimError as error:
        if settings.backend == "docker":
            yield Check("Docker engine", Level.WRONG, str(error), "`docker info` should work first")
        else:
            advice = "without a Docker engine, topologies run on the embedded backend"
            yield Check("Docker engine", Level.NOTE, str(error), advice)
        return
    with contextlib.closing(client.client):
        info = client.client.info()
        yield Check(
            "Docker engine",
            Level.OK,
            f"{info['ServerVersion']} on {info['OperatingSystem']}, {info['NCPU']} CPUs, "
            f"{info['MemTotal'] // 2**20} MB",
        )
        if (host := published_host(client)) != "127.0.0.1":
            yield Check(
                "Docker host",
                Level.NOTE,
                f"remote: {host}",
                "anyone who reaches that host can use Toxiproxy's API: keep the host in a trusted "
                "network",
            )
        yield from _images(client, settings)


def _images(client: "DockerClient", settings: "Settings") -> Iterator[Check]:
    from docker.errors import APIError, ImageNotFound

    from cachesim.backends.containers.engine import explained

    for key in (f"{settings.engine}_image", "memcached_image", "toxiproxy_image"):
        image = getattr(settings, key)
        try:
            client.client.images.get(image)
        except ImageNotFound:
            advice = f"the first start pulls it; `docker pull {image}` does it now"
            yield Check(key, Level.NOTE, f"{image} is missing", advice)
        except APIError as error:
            advice = f"name another one with the setting {key}"
            yield Check(key, Level.WRONG, f"{image} can't be used: {explained(error)}", advice)
        else:
            yield Check(key, Level.OK, image)


def _runs() -> Check:
    if dead := dead_runs():
        names = ", ".join(run.name for run in dead)
        advice = "`cachesim gc` removes what they left"
        return Check("topologies", Level.NOTE, f"left behind: {names}", advice)
    names = ", ".join(run.name for run in living_runs())
    return Check("topologies", Level.OK, f"up: {names}" if names else "none is up")
