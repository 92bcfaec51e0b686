"""How a user's processes talk to the one that carries a topology: JSON over a Unix socket.

Each call is a connection of its own. `multiprocessing.connection` frames the messages and checks a
key; its pickles are not used. On Windows it is a named pipe.
"""

import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from cachesim.errors import CachesimError, revived
from cachesim.files import Run, write_private

_ADDRESS = "address.json"
_LONGEST_PATH = 100  # bytes of a Unix socket's path that every system takes (107, macOS 103)
_TIMEOUT = 120.0  # seconds for an answer: a reset after the worst faults takes 30


class Hangup(Exception):  # not an error: the other side is done
    """The caller is gone."""


class Caller:
    """Who has called, while the call is being answered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: object) -> None:
        """Send one of several answers.

        Raises:
            Hangup: nobody listens any more.
        """
        try:
            self._connection.send_bytes(json.dumps({"part": value}).encode())
        except (OSError, EOFError) as error:
            raise Hangup from error

    def receive(self) -> Any:
        """Wait for what the caller says next.

        Raises:
            Hangup: the caller is gone.
        """
        try:
            return json.loads(self._connection.recv_bytes())
        except (OSError, EOFError, ValueError) as error:
            raise Hangup from error


Handler = Callable[[Caller, str, dict[str, Any]], object]
"""Answers a call of an operation with its arguments."""


class Server:
    """Answers calls, each in a thread of its own, until it is closed.

    Args:
        folder: the run's files, where callers find the address.
    """

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._handler = handler
        self._short: Path | None = None
        self._file = folder / _ADDRESS
        key = secrets.token_bytes(32)
        self._listener = Listener(self._choose_address(folder), authkey=key)
        if sys.platform != "win32":
            os.chmod(str(self._listener.address), 0o600)  # noqa: PTH101  # of a socket
        self._closing = False
        address = {"address": self._listener.address, "key": key.hex()}
        write_private(self._file, json.dumps(address).encode())
        threading.Thread(target=self._accept, name="cachesim-calls", daemon=True).start()

    def close(self) -> None:
        """Take no more calls. Those under way are not waited for."""
        self._closing = True
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Client(self._listener.address).close()  # wakes the thread that accepts
        self._listener.close()
        if self._short is not None:
            shutil.rmtree(self._short, ignore_errors=True)

    def _choose_address(self, folder: Path) -> str:
        if sys.platform == "win32":
            return rf"\\.\pipe\cachesim-{secrets.token_hex(8)}"
        path = folder / "socket"
        if len(os.fsencode(path)) > _LONGEST_PATH:
            short = "/tmp" if len(tempfile.gettempdir()) > _LONGEST_PATH // 2 else None  # noqa: S108
            self._short = Path(tempfile.mkdtemp(prefix="cachesim-", dir=short))
            path = self._short / "socket"
        return str(path)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):
                continue  # a caller without the key, or one that left at once
            threading.Thread(
                target=self._answer, args=[connection], name="cachesim-call", daemon=True
            ).start()

    def _answer(self, connection: Connection) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError, EOFError, Hangup):
            call = json.loads(connection.recv_bytes())
            try:
                result = self._handler(Caller(connection), call["operation"], call["arguments"])
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
    """A call under way, as its caller has it.

    Raises:
        CachesimError: the process that carries the topology can't be reached.
    """

    def __init__(self, run: Run, operation: str, **arguments: object) -> None:
        try:
            where = json.loads((run.folder / _ADDRESS).read_bytes())
            self._connection = Client(where["address"], authkey=bytes.fromhex(where["key"]))
        except (OSError, EOFError, ValueError, AuthenticationError) as error:
            raise CachesimError(unreachable(run)) from error
        self._run = run
        self.send({"operation": operation, "arguments": arguments})

    def send(self, message: object) -> None:
        """Say something more."""
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise CachesimError(unreachable(self._run)) from error

    def parts(self) -> Iterator[Any]:
        """The answers that come before the last one, as they come."""
        while "part" in (answer := self._receive(None)):
            yield answer["part"]

    def part(self, timeout: float = _TIMEOUT) -> Any:
        """The next of several answers."""
        return self._receive(timeout)["part"]

    def result(self, timeout: float | None = _TIMEOUT) -> Any:
        """The only answer, or the last one.

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
        except (OSError, EOFError) as error:
            raise CachesimError(unreachable(self._run)) from error
        if "error" in answer:
            raise revived(answer["kind"], answer["error"])
        return answer


def call(run: Run, operation: str, **arguments: object) -> Any:
    """Call an operation and wait for its answer.

    Raises:
        CachesimError: what the operation raised, or that it could not be called.
    """
    it = Call(run, operation, **arguments)
    with contextlib.closing(it):
        return it.result()


def unreachable(run: Run) -> str:
    """Why a run can't be called, and what to do."""
    pid = run.owner.pid
    if run.owner.is_gone:
        return (
            f"the process of topology {run.name!r} (pid {pid}) has ended without taking it down. "
            "`cachesim gc` removes what it left; `cachesim up` starts another."
        )
    return (
        f"topology {run.name!r} belongs to process {pid}, which takes no commands: it is still "
        "starting, ending, or no `cachesim up` (as pytest). End that process to take it down."
    )
