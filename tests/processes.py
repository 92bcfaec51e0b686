"""Commands in separate processes, and what they leave behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

import cachesim

_LIMIT = 90.0  # seconds: for a slow machine


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The variables of a process that has `folder` for its state and its temporary files."""
    ours = {k: v for k, v in os.environ.items() if not re.match("CACHESIM_(?!BACKEND$)", k)}
    paths = [str(Path(cachesim.__file__).parents[1]), ours.get("PYTHONPATH")]
    return {
        **ours,
        "TMPDIR": str(folder),
        "XDG_STATE_HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),  # an empty one is the current folder
        **variables,
    }


def alive_children(*, recursive: bool = False) -> list[psutil.Process]:
    """The children of this process, without those that have ended and nobody has waited for."""
    return [it for it in psutil.Process().children(recursive=recursive) if is_alive(it)]


def is_alive(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two looks
        return False


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(  # our own command
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )


def python(folder: Path, script: str, *arguments: str) -> "subprocess.Popen[str]":
    """A script that runs beside the test, with pipes to its stdin and from its stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def ready(folder: Path, script: str, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A script that has said that it is ready. It is killed in the end."""
    with python(folder, script, *arguments) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


class Process:
    """A command in a process of its own, whose output can be waited for."""

    def __init__(
        self, folder: Path, *arguments: str, stdout: int = subprocess.PIPE, **variables: str
    ) -> None:
        self.popen = subprocess.Popen(  # our own command
            [sys.executable, "-m", "cachesim", *arguments],
            cwd=folder,
            env=environment(folder, **variables),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = "", ""
        self._grown = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.popen.stdout), ("err", self.popen.stderr))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._grown:
                    setattr(self, name, getattr(self, name) + line)
                    self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()

    def wait_for(self, pattern: str) -> None:
        """Wait until a line of its output matches."""
        found = re.compile(pattern, re.M)

        def is_there() -> bool:
            return bool(found.search(self.out) or found.search(self.err))

        with self._grown:
            self._grown.wait_for(lambda: is_there() or self.popen.poll() is not None, _LIMIT)
            assert is_there(), f"no {pattern!r} in:\n{self.out}\n{self.err}"

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        code = self.popen.wait(_LIMIT)
        for reader in self._readers:
            reader.join(_LIMIT)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.popen.poll() is None:
            self.interrupt(signal.SIGTERM)
        self.end()


def left_behind(name: str, folder: Path) -> list[str]:
    """Return what is left of a run."""
    return [
        *containers_of(name),
        *map(str, folder.glob("cachesim/runs/*")),
        *map(str, folder.glob("cachesim-*")),
    ]


def daemons(folder: Path) -> list[psutil.Process]:
    """The processes of topologies that have their files there."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            command = process.info["cmdline"] or ()  # None: a zombie
            is_daemon = any(it.endswith("daemon/__main__.py") for it in command)
            if is_daemon and process.environ().get("XDG_STATE_HOME") == str(folder):
                found.append(process)
    return found


def is_gone(folder: Path, name: str) -> bool:
    """Whether nothing is left of a topology."""
    return not daemons(folder) and not left_behind(name, folder)


def containers_of(name: str) -> list[str]:
    """A run's containers, networks and volumes; without an engine there are none."""
    from cachesim.backends.containers.engine import connect
    from cachesim.errors import BackendUnavailable

    try:
        client = connect().client
    except BackendUnavailable:
        return []
    with closing(client):
        mine: dict[str, str | list[str] | bool] = {"label": f"cachesim.run=cachesim-{name}"}
        return [
            *(
                it.name or ""
                for it in client.containers.list(all=True, filters=mine, ignore_removed=True)
            ),
            *(it.name or "" for it in client.networks.list(filters=mine)),
            *(it.name for it in client.volumes.list(filters=mine)),
        ]
