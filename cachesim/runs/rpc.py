"""Calls to the process of a topology: one JSON object a line, over a Unix socket.

A connection begins with a key from a file of the run, and then carries one call after another. A
call that is cut short costs its connection, so that no answer reaches the wrong call. Windows has
no Unix sockets: there it is a port of 127.0.0.1. The other side is `cachesim.daemon.server`.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cachesim.errors import CachesimError, NotRunning, revived
from cachesim.runs.directory import ADDRESS, LOG
from cachesim.runs.registry import Run, ended, not_running

ANSWER = 120.0  # seconds for an answer: a reset after the worst faults takes 30 s
_POOL = 8  # connections that are kept for further calls
_TAIL = 2000  # bytes of the log of a process that has died
_CONNECTING = 10.0  # seconds
_DYING = 1.0  # seconds until a killed process is gone
_ENDING = 90.0  # seconds that taking a topology down may take
_POLL = 0.01  # seconds


class TakenDown(NotRunning):
    """The topology was taken down, so nobody answers."""


def send(connection: socket.socket, message: object) -> None:
    """Send a message.

    Raises:
        OSError: the other side has hung up.
    """
    connection.sendall(json.dumps(message).encode() + b"\n")


def connect(folder: Path) -> socket.socket:
    """Connect to the process of a run, without a greeting.

    Raises:
        OSError: nobody listens.
        ValueError: the address can't be read.
    """
    address = json.loads((folder / ADDRESS).read_bytes())["address"]
    if sys.platform == "win32":
        host, _, port = address.rpartition(":")
        return socket.create_connection((host, int(port)))
    connection = socket.socket(socket.AF_UNIX)
    limit = time.monotonic() + _CONNECTING
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(address)
            except BlockingIOError:  # too many others wait to be accepted
                if time.monotonic() > limit:
                    raise
                time.sleep(_POLL)
            else:
                connection.setblocking(True)
                return connection
    except BaseException:
        connection.close()
        raise


class Channel:
    """One connection to the process of a run.

    Args:
        client: the id of the client that it belongs to.

    Raises:
        CachesimError: the process can't be reached.

    Attributes:
        is_idle: whether no answer is due, so that it can carry another call.
    """

    def __init__(self, run: Run, client: str = "") -> None:
        self._run = run
        try:
            key = json.loads((run.folder / ADDRESS).read_bytes())["key"]
            self._connection = connect(run.folder)
        except (OSError, ValueError) as error:
            if client:  # it took calls, so it is ending
                _wait_for_end(run)
            raise unreachable(run) from error
        self._lines = self._connection.makefile("rb")
        self.is_idle = True
        try:
            self._send({"key": key, "client": client, "pid": os.getpid()})
        except BaseException:
            self.close()
            raise

    def call(self, operation: str, *, timeout: float | None = ANSWER, **arguments: object) -> Any:
        """Call an operation and wait for its answer.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            CachesimError: the process can't be reached, or did not answer in time.
            Exception: the operation raised it.
        """
        self.begin(operation, **arguments)
        return self.result(timeout)

    def begin(self, operation: str, **arguments: object) -> None:
        """Call an operation. Its answers are to be read next."""
        self.is_idle = False
        self._send({"operation": operation, "arguments": arguments})

    def part(self, timeout: float | None = ANSWER) -> Any:
        """Wait for the next of several answers."""
        return self._receive(timeout)["part"]

    def parts(self) -> Iterator[Any]:
        """Yield the answers before the last one as they come, until the topology is down."""
        with contextlib.suppress(TakenDown):
            while "part" in (answer := self._receive(None)):
                yield answer["part"]

    def result(self, timeout: float | None = ANSWER) -> Any:
        """Wait for the last answer."""
        return self._receive(timeout)["result"]

    def close(self) -> None:
        """Hang up. A thread that waits for an answer gets an error."""
        with contextlib.suppress(OSError):  # the other side has hung up
            self._connection.shutdown(socket.SHUT_RDWR)
        self._lines.close()
        self._connection.close()

    def abandon(self) -> None:
        """Close this process's copy after a fork, when another thread may be using it."""
        with contextlib.suppress(OSError):
            os.close(self._connection.detach())

    def _send(self, message: object) -> None:
        try:
            send(self._connection, message)
        except OSError as error:
            raise unreachable(self._run) from error

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        run = self._run
        try:
            self._connection.settimeout(timeout)
            line = self._lines.readline()
            answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        except TimeoutError as error:
            force = "" if run.holder is None else " --force"  # it can't ask whose lease it is
            raise CachesimError(
                f"the process of topology {run.name!r} (pid {run.owner.pid}) did not answer within "
                f"{timeout:g} s. Its log is {run.folder / LOG}; "
                f"`cachesim down --name {run.name}{force}` ends it."
            ) from error
        except OSError:
            answer = {}
        except ValueError as error:
            if self._lines.closed:
                raise NotRunning(not_running(run.name)) from error
            raise CachesimError(
                f"the process of topology {run.name!r} (pid {run.owner.pid}) runs another version "
                "of cachesim. End it to take the topology down."
            ) from error
        if not answer:
            _wait_for_end(run)
            raise unreachable(run)
        self.is_idle = "part" not in answer
        if "error" in answer:
            raise revived(answer["error"])
        return answer


class Client:
    """Calls to the process of a run, from any thread, over as many connections as are needed.

    A forked child closes its copies of the connections.

    Attributes:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._id = os.urandom(8).hex()
        self._lock = threading.Lock()
        self._idle: list[Channel] = []
        self._open: set[Channel] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_abandon, weakref.ref(self)))

    def call(self, operation: str, *, timeout: float | None = ANSWER, **arguments: object) -> Any:
        """Call an operation and wait for its answer. See `Channel.call`."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        channel = idle or self.channel()
        try:
            return channel.call(operation, timeout=timeout, **arguments)
        finally:
            with self._lock:
                is_kept = channel.is_idle and len(self._idle) < _POOL
                if is_kept:
                    self._idle.append(channel)
            if not is_kept:
                self.hang_up(channel)

    def channel(self) -> Channel:
        """Return a connection for the caller alone, who ends it with `hang_up`."""
        channel = Channel(self.run, self._id)
        with self._lock:
            self._open.add(channel)
        return channel

    def hang_up(self, channel: Channel) -> None:
        """Close a connection."""
        with self._lock:
            self._open.discard(channel)
        channel.close()

    def close(self) -> None:
        """Close all connections. Threads that wait for an answer get an error."""
        with self._lock:
            channels, self._open, self._idle = self._open, set(), []
        for channel in channels:
            channel.close()

    def abandon(self) -> None:
        """Close this process's ends, after a fork."""
        for channel in self._open:
            channel.abandon()


def _abandon(client: "weakref.ref[Client]") -> None:
    if (it := client()) is not None:
        it.abandon()


def call(run: Run, operation: str, *, timeout: float | None = ANSWER, **arguments: object) -> Any:
    """Call an operation once and wait for its answer. See `Channel.call`."""
    with contextlib.closing(Channel(run)) as channel:
        return channel.call(operation, timeout=timeout, **arguments)


def unreachable(run: Run) -> CachesimError:
    """Return the error for a run that can't be called, with the reason and what to do."""
    pid = run.owner.pid
    if run.owner.is_gone and run.folder.exists():
        return NotRunning(ended(run) + _last_words(run))
    if not run.folder.exists():
        return TakenDown(
            f"the topology {run.name!r} was taken down, or its files were removed. `cachesim up` "
            "starts another."
        )
    return CachesimError(
        f"topology {run.name!r} belongs to process {pid}, which takes no commands: it is still "
        "starting, or is ending."
    )


def _last_words(run: Run) -> str:
    with contextlib.suppress(OSError), (run.folder / LOG).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
        if tail := log.read().decode(errors="replace").strip():
            return f" Its log ends with:\n{tail}"
    return ""


def _wait_for_end(run: Run) -> None:
    """Wait until a process that hung up has ended."""
    began = time.monotonic()
    while run.folder.exists() and not run.owner.is_gone:
        if time.monotonic() - began > (_DYING if run.takes_calls else _ENDING):
            break
        time.sleep(_POLL)
