"""Calls from a user's processes to the process of a topology: JSON over a Unix socket.

Each call has a connection of its own, and begins with a key from a file of the run.
`multiprocessing.connection` frames the messages; its pickles are not used. On Windows the socket is
a named pipe.
"""

import contextlib
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from cachesim.errors import CachesimError, revived
from cachesim.runs.directory import ADDRESS, not_writable, remove_address, write_private
from cachesim.runs.registry import Run, ended

_LONGEST_PATH = 100  # bytes of a Unix socket's path that every system takes (107, macOS 103)
_TIMEOUT = 120.0  # seconds for an answer: a reset after the worst faults takes 30 s
_BACKLOG = 64  # calls that wait to be accepted; another one would block
_DYING = 1.0  # seconds until a killed process is gone
_POLL = 0.01  # seconds


class TakenDown(CachesimError):
    """The topology was taken down, so nobody answers."""


class Hangup(Exception):  # not an error: the caller is done
    """The caller has hung up."""


class Caller:
    """The other side of a call, while it is being answered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: object) -> None:
        """Send one of several answers.

        Raises:
            Hangup: the caller has hung up.
        """
        try:
            self._connection.send_bytes(json.dumps({"part": value}).encode())
        except (OSError, EOFError) as error:
            raise Hangup from error

    def receive(self) -> Any:
        """Wait for the caller's next message.

        Raises:
            Hangup: the caller has hung up.
        """
        try:
            return json.loads(self._connection.recv_bytes())
        except (OSError, EOFError, ValueError) as error:
            raise Hangup from error


Handler = Callable[[Caller, str, dict[str, Any]], object]
"""Answers a call: takes the caller, the operation's name and its arguments; returns JSON."""


class Server:
    """Answers calls, each in a thread of its own, until it is closed.

    Args:
        folder: the run's folder, where callers find the address.

    Raises:
        StartError: the folder can't be written to, or a socket can't be made.
    """

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._handler = handler
        self._closing = False
        self._address = _choose_address(folder)
        self._folder = folder
        self._key = secrets.token_hex(32)
        try:
            # The file first: if the process is killed here, the file leads to the socket.
            address = {"address": self._address, "key": self._key}
            write_private(folder / ADDRESS, json.dumps(address).encode())
            if sys.platform != "win32":
                Path(self._address).parent.mkdir(0o700, exist_ok=True)
            self._listener = Listener(self._address, backlog=_BACKLOG)
            if sys.platform != "win32":
                Path(self._address).chmod(0o600)
        except OSError as error:
            remove_address(folder)
            raise not_writable(f"{self._address}: {error.strerror or error}") from error
        threading.Thread(target=self._accept, name="cachesim-calls", daemon=True).start()

    def close(self) -> None:
        """Accept no more calls. Calls in progress are not waited for."""
        self._closing = True
        with contextlib.suppress(OSError):
            Client(self._address).close()  # wakes the thread that accepts
        self._listener.close()
        remove_address(self._folder)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection = self._listener.accept()
            except OSError:
                continue  # the listener is closed, or the caller hung up at once
            # The thread reads the call, so that a silent caller does not block others.
            threading.Thread(
                target=self._answer, args=[connection], name="cachesim-call", daemon=True
            ).start()

    def _answer(self, connection: Connection) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError, EOFError, Hangup):
            try:
                call = json.loads(connection.recv_bytes())
                key, operation, arguments = call["key"], call["operation"], call["arguments"]
            except (ValueError, KeyError, TypeError):
                return  # not one of our callers
            if not secrets.compare_digest(str(key).encode(), self._key.encode()):
                return
            try:
                result = self._handler(Caller(connection), operation, arguments)
                answer: dict[str, object] = {"result": result}
            except Hangup:
                raise
            except Exception as error:
                text = str(error) if isinstance(error, CachesimError | ValueError) else repr(error)
                if isinstance(error, KeyError):
                    text = str(error.args[0])
                answer = {"error": text, "kind": type(error).__name__}
            connection.send_bytes(json.dumps(answer).encode())


class Call:
    """A call in progress, for its caller.

    Raises:
        CachesimError: the process of the topology can't be reached.
    """

    def __init__(self, run: Run, operation: str, **arguments: object) -> None:
        try:
            where = json.loads((run.folder / ADDRESS).read_bytes())
            self._connection = Client(where["address"])
        except (OSError, ValueError) as error:
            raise unreachable(run) from error
        self._run = run
        self.send({"key": where["key"], "operation": operation, "arguments": arguments})

    def send(self, message: object) -> None:
        """Send a further message."""
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise unreachable(self._run) from error

    def parts(self) -> Iterator[Any]:
        """Yield the answers before the last one as they come, until the topology is down."""
        with contextlib.suppress(TakenDown):
            while "part" in (answer := self._receive(None)):
                yield answer["part"]

    def part(self, timeout: float = _TIMEOUT) -> Any:
        """Wait for the next of several answers."""
        return self._receive(timeout)["part"]

    def result(self, timeout: float | None = _TIMEOUT) -> Any:
        """Wait for the next answer; it is the last.

        Args:
            timeout: seconds.
        """
        return self._receive(timeout)["result"]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        try:
            if not self._connection.poll(timeout):
                raise CachesimError(
                    f"the process of topology {self._run.name!r} (pid {self._run.owner.pid}) did "
                    f"not answer within {timeout:g} s. Its log is {self._run.folder / 'log'}; "
                    f"`cachesim down --name {self._run.name}` ends it."
                )
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except ValueError as error:
            raise CachesimError(
                f"the process of topology {self._run.name!r} (pid {self._run.owner.pid}) runs "
                "another version of cachesim. End it to take the topology down."
            ) from error
        except (OSError, EOFError) as error:
            _wait_for_end(self._run)
            raise unreachable(self._run) from error
        if "error" in answer:
            raise revived(answer["kind"], answer["error"])
        return answer


def call(run: Run, operation: str, *, timeout: float | None = _TIMEOUT, **arguments: object) -> Any:
    """Call an operation and wait for its answer.

    Args:
        timeout: seconds; None: no limit.

    Raises:
        CachesimError: the operation raised it, or the process can't be reached.
    """
    it = Call(run, operation, **arguments)
    with contextlib.closing(it):
        return it.result(timeout)


def unreachable(run: Run) -> CachesimError:
    """Return the error for a run that can't be called, with the reason and what to do."""
    pid = run.owner.pid
    if not run.folder.exists():
        return TakenDown(f"the topology {run.name!r} was taken down. `cachesim up` starts another.")
    if run.owner.is_gone:
        return CachesimError(ended(run))
    return CachesimError(
        f"topology {run.name!r} belongs to process {pid}, which takes no commands: it is still "
        "starting, is ending, or is not `cachesim up` (but pytest, say). End that process to take "
        "the topology down."
    )


def _wait_for_end(run: Run) -> None:
    """Wait until a process that hung up has ended."""
    deadline = time.monotonic() + _DYING
    while run.folder.exists() and not run.owner.is_gone:
        if run.takes_calls and time.monotonic() > deadline:
            break
        time.sleep(_POLL)


def _choose_address(folder: Path) -> str:
    if sys.platform == "win32":
        return rf"\\.\pipe\cachesim-{secrets.token_hex(8)}"
    path = folder / "socket"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        temporary = tempfile.gettempdir()
        root = "/tmp" if len(os.fsencode(temporary)) > _LONGEST_PATH // 2 else temporary  # noqa: S108
        path = Path(root) / f"cachesim-{secrets.token_hex(4)}" / "socket"
    return str(path)
