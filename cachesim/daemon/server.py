"""Answers calls to the process of a topology: the other side of `cachesim.runs.rpc`."""

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cachesim.errors import as_json
from cachesim.runs.directory import ADDRESS, not_writable, remove_address, write_private
from cachesim.runs.rpc import connect, send

_LONGEST_PATH = 100  # bytes of a Unix socket's path that every system takes (107, macOS 103)
_BACKLOG = 64  # connections that wait to be accepted; another one would block
_POLL = 0.01  # seconds


class Hangup(Exception):  # not an error: the caller is done
    """The caller has hung up."""


class Caller:
    """One connection of a client, for the process that answers its calls.

    Attributes:
        client: the id of the client, which may have several connections.
        pid: the client's process.
    """

    def __init__(self, connection: socket.socket, client: str, pid: int) -> None:
        self._connection = connection
        self.client = client
        self.pid = pid

    def send(self, value: object) -> None:
        """Send one of several answers.

        Raises:
            Hangup: the caller has hung up.
        """
        try:
            send(self._connection, {"part": value})
        except OSError as error:
            raise Hangup from error

    @property
    def has_hung_up(self) -> bool:
        """Whether the caller has hung up, while one of its calls is being answered."""
        # Not `select.select`, which takes no descriptor above 1023: emulated nodes have many.
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self._connection, selectors.EVENT_READ)
                return bool(selector.select(0)) and not self._connection.recv(1, socket.MSG_PEEK)
            except (OSError, ValueError):
                return True


class Handler:
    """Answers calls. `answer` and `hung_up` of a connection run in a thread of its own."""

    def answer(self, caller: Caller, operation: str, arguments: dict[str, Any]) -> object:
        """Answer a call; the value is JSON. An error goes to the caller.

        Raises:
            Hangup: close the connection without an answer.
        """
        raise NotImplementedError

    def hung_up(self, caller: Caller) -> None:
        """Note that a connection has ended."""


class Server:
    """Answers calls, those of each connection in a thread of its own, until it is closed.

    Args:
        folder: the run's folder, where clients find the address.

    Raises:
        StartError: the folder can't be written to, or a socket can't be made.
    """

    def __init__(self, folder: Path, handler: Handler) -> None:
        self._handler = handler
        self._closing = False
        self._folder = folder
        self._key = secrets.token_hex(32)
        self._answered = threading.Condition()
        self._in_progress = 0
        try:
            self._listener = self._listen()
        except OSError as error:
            remove_address(folder)
            raise not_writable(f"{folder}: {error.strerror or error}") from error
        threading.Thread(target=self._accept, name="cachesim-calls", daemon=True).start()

    def close(self) -> None:
        """Accept no more connections. Calls in progress are not waited for."""
        self._closing = True
        with contextlib.suppress(OSError):
            connect(self._folder).close()  # wakes the thread that accepts
        self._listener.close()
        remove_address(self._folder)

    def finish(self, seconds: float) -> None:
        """Give calls in progress that time to be answered."""
        with self._answered:
            self._answered.wait_for(lambda: not self._in_progress, seconds)

    def _listen(self) -> socket.socket:
        if sys.platform == "win32":
            listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
            self._save_address(":".join(map(str, listener.getsockname())))
            return listener
        path = _socket_path(self._folder)
        # The file first: if the process is killed here, the file leads to the socket.
        self._save_address(str(path))
        path.parent.mkdir(0o700, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _save_address(self, address: str) -> None:
        content = {"address": address, "key": self._key}
        write_private(self._folder / ADDRESS, json.dumps(content).encode())

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                time.sleep(_POLL)  # no descriptor is left, or the listener is closed
                continue
            # The thread reads the greeting, so that a silent caller does not block others.
            thread = threading.Thread(
                target=self._serve, args=[connection], name="cachesim-call", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with (
            connection,
            connection.makefile("rb") as lines,
            contextlib.suppress(OSError, ValueError, KeyError, TypeError, Hangup),
        ):
            hello = json.loads(lines.readline())
            if not secrets.compare_digest(str(hello["key"]).encode(), self._key.encode()):
                return
            caller = Caller(connection, str(hello["client"]), int(hello["pid"]))
            try:
                for line in lines:
                    call = json.loads(line)
                    operation, arguments = str(call["operation"]), dict(call["arguments"])
                    with self._counted():
                        send(connection, self._answer(caller, operation, arguments))
            finally:
                self._handler.hung_up(caller)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._answered:
            self._in_progress += 1
        try:
            yield
        finally:
            with self._answered:
                self._in_progress -= 1
                self._answered.notify_all()

    def _answer(
        self, caller: Caller, operation: str, arguments: dict[str, Any]
    ) -> dict[str, object]:
        try:
            return {"result": self._handler.answer(caller, operation, arguments)}
        except Hangup:
            raise
        except Exception as error:
            return {"error": as_json(error)}


def _socket_path(folder: Path) -> Path:
    path = folder / "socket"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    temporary = tempfile.gettempdir()
    root = "/tmp" if len(os.fsencode(temporary)) > _LONGEST_PATH // 2 else temporary  # noqa: S108
    return Path(root) / f"cachesim-{secrets.token_hex(4)}" / "socket"
