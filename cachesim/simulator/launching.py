"""Starts the process of a topology, and orders a topology from it.

The other side is `cachesim.daemon.process`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import cachesim
from cachesim.errors import StartError, revived
from cachesim.runs import python
from cachesim.runs.calls import Description
from cachesim.runs.directory import not_writable

if TYPE_CHECKING:
    from cachesim.settings import Settings

_MAIN = Path(cachesim.__file__).with_name("daemon") / "__main__.py"
_QUICK = 1.0  # seconds within which a process ends that has started nothing
_TAIL = 2000  # bytes of the error output of a process that failed


class DaemonProcess:
    """The process of a topology, before and after the topology is up.

    It ends when this process does, or closes it, unless its topology is detached.

    Args:
        like: the settings of a topology, as JSON. It imports at once what one like it needs. None:
            it does so when it has its order.

    Raises:
        StartError: no process can be started.

    Attributes:
        pid: its pid.
    """

    def __init__(self, like: Mapping[str, Any] | None = None) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise StartError(
                "a topology runs in a Python process of its own, and this interpreter does not "
                "know its own path (sys.executable). Set sys.executable to a Python with cachesim, "
                "or start the topology with `cachesim up -d` and use Simulator.attach()."
            )
        order = {"path": python.import_path(), "owner": os.getpid(), "like": like}
        self._log: IO[bytes] = _temporary_file()
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own file
                python.command(_MAIN),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(),
                start_new_session=True,  # so Ctrl-C and closing the terminal do not reach it
            )
        except OSError as error:
            self._log.close()
            raise StartError(
                f"the topology's process can't be started with {sys.executable}: {error}. Allow "
                "this process to start others, or start the topology elsewhere with "
                "`cachesim up -d` and use Simulator.attach()."
            ) from error
        self.pid = self._process.pid
        self._is_ordered = False
        self._settings: dict[str, Any] | None = None
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process was started without pipes")
        self._stdin, self._stdout = stdin, stdout
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_abandon, weakref.ref(self)))
        files = (self._stdin, self._stdout, self._log)
        self._discard = weakref.finalize(self, _discard, self._process, *files)
        self._send(order)

    def order(self, order: Mapping[str, object], folder: Path | None = None) -> None:
        """Tell it the settings, so that it can get ready. After the first time, nothing happens.

        It takes over the variables and the folder that this process has now.

        Args:
            order: `arguments` or `settings`, by name.
            folder: the folder of `cachesim compose`, if the topology is there.
        """
        if not self._is_ordered:
            self._is_ordered = True
            here = None
            with contextlib.suppress(FileNotFoundError):  # the current folder was removed
                here = os.getcwd()  # noqa: PTH109  # as text
            surroundings = {"environment": _environment(), "current_folder": here}
            composed = None if folder is None else str(folder)
            self._send({**order, "folder": composed, **surroundings})

    def settings(self) -> dict[str, Any]:
        """Return the settings of the topology, as JSON.

        Raises:
            CachesimError: a setting or the folder is wrong.
        """
        if self._settings is None:
            self._settings = dict(self._receive()["settings"])
        return self._settings

    def start(self, name: str, seed: int, progress: Callable[[str], None]) -> Description:
        """Start the topology, and return its `Description` when it is ready.

        Args:
            progress: called with a short line when a step begins.

        Raises:
            CachesimError: it did not start; nothing is left behind.
        """
        self._send({"name": name, "seed": seed})
        self.settings()
        while "step" in (report := self._receive()):
            progress(report["step"])
        description: Description = report["ready"]
        return description

    @property
    def is_running(self) -> bool:
        """Whether it runs, and is a child of this process."""
        return self._process.poll() is None

    def resume(self) -> None:
        """Resume it if it was stopped by SIGSTOP."""
        if hasattr(signal, "SIGCONT"):
            self._process.send_signal(signal.SIGCONT)

    def interrupt(self) -> None:
        """Make it take everything down, and wait until it has ended."""
        self.resume()
        self._process.terminate()
        self.wait()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it has not ended in time.
        """
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(str(error)) from error
        self.close()

    def close(self) -> None:
        """Close the pipes: it ends, unless its topology is detached."""
        for pipe in (self._stdin, self._stdout, self._log):
            with contextlib.suppress(OSError):
                pipe.close()

    def detach(self) -> None:
        """Do not wait for it, and let go of its pipes."""
        self._process.returncode = 0
        self.close()

    def abandon(self) -> None:
        """Close this process's copies of the pipes after a fork."""
        self._discard.detach()
        # Their objects may be locked by a thread that the child does not have.
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nothing, pipe.fileno(), inheritable=False)
        os.close(nothing)

    def _send(self, message: object) -> None:
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _receive(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            raise self._ended()
        report: dict[str, Any] = json.loads(line)
        if "error" in report:
            self.wait()
            raise revived(report["error"])
        return report

    def _ended(self) -> StartError:
        self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _TAIL))
        tail = self._log.read().decode(errors="replace").strip()
        self.close()
        return StartError(
            f"the topology's process ended with exit code {self._process.returncode} during the "
            f"start{f', after: {tail}' if tail else ''}. `cachesim gc` removes what it may have "
            "left."
        )


def _environment() -> dict[str, str]:
    # Plugins of pydantic are slow to look for, and not for it.
    return {**python.environment(), "PYDANTIC_DISABLE_PLUGINS": "__all__"}


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise not_writable(error.strerror or str(error)) from error


def _discard(process: "subprocess.Popen[bytes]", *files: IO[bytes]) -> None:
    """Make a process end that nobody needs any more. What it has started it takes down."""
    process.terminate()
    for file in files:
        with contextlib.suppress(OSError):
            file.close()
    try:
        process.wait(_QUICK)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # it ends by itself; nobody waits for it


def _abandon(process: "weakref.ref[DaemonProcess]") -> None:
    if (it := process()) is not None:
        it.abandon()


def load(arguments: Mapping[str, Any]) -> "Settings":
    """Load the settings, from these arguments first."""
    from cachesim.settings import load_settings  # slow to import

    return load_settings(arguments).settings


def is_json(value: object) -> bool:
    """Return whether a value can be sent to another process as it is."""
    with contextlib.suppress(TypeError, ValueError):
        return bool(json.dumps(value))
    return False
