"""A node's side of the process that runs its scripts; `interpreter` is the other side."""

import asyncio
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from cachesim.embedded.redis.admin.versions import Version
from cachesim.protocols.resp import Error, Reply, encode
from cachesim.protocols.resp_parser import Limits, RequestParser

LONGEST = 64 << 20
"""The most bytes of a script's reply, or of a request that a script makes."""
_LONGEST_REQUEST = 128 << 20  # bytes; copying them blocks the other nodes
_PATIENCE = 30.0  # seconds for the process to start


class WorkerEnded(Exception):
    """The process for scripts has ended, so the running script is lost."""


class Worker(asyncio.Protocol):
    """A process for scripts, which can't affect any other process.

    Args:
        version: the version that scripts see.
        defer: postpones a call until the node is resumed. Returns False, and calls nothing, if
            the node is not paused.
        called: called with each call that the running script makes.

    Attributes:
        is_ready: whether the process has started and can run scripts.
        has_ended: whether the process has ended.
    """

    def __init__(
        self,
        version: Version,
        loop: asyncio.AbstractEventLoop,
        defer: Callable[..., bool],
        called: Callable[[list[bytes]], None],
    ) -> None:
        self._version = version
        self._loop = loop
        self._defer = defer
        self._called = called
        self._parser = RequestParser(Limits(bulk=LONGEST, query=LONGEST + (1 << 20)))
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: asyncio.Future[list[bytes]] | None = None
        self.is_ready = self.has_ended = False

    async def start(self) -> None:
        """Start the process, and wait until it is ready.

        Raises:
            Error: the process can't be started. The text says what is needed.
        """
        try:
            ready = self._expect()
            ours = self._spawn()
            try:
                await self._loop.create_connection(lambda: self, sock=ours)
            except BaseException:
                ours.close()
                raise
            answer = await asyncio.wait_for(ready, _PATIENCE)
        except (OSError, ImportError, WorkerEnded, TimeoutError) as error:
            self.end()
            raise _not_started(str(error) or type(error).__name__) from error
        if answer != [b"READY"]:
            self.end()
            raise _not_started(answer[-1].decode(errors="replace"))
        self.is_ready = True

    def _spawn(self) -> socket.socket:
        found = find_spec("lupa")
        if found is None or found.origin is None:
            raise ImportError("lupa is not installed")
        version = self._version
        command = [
            sys.executable, "-I", "-S", str(Path(__file__).with_name("interpreter.py")),
            str(Path(found.origin).parent.parent), version.redis, version.name,
        ]  # fmt: skip
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                shares = sys.platform == "win32"  # where a socket can't be standard input
                self._process = subprocess.Popen(  # noqa: S603  # no part of it is a user's
                    command,
                    stdin=subprocess.PIPE if shares else theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Ctrl-C is for the user's programs.
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
                if sys.platform == "win32" and self._process.stdin is not None:
                    with self._process.stdin as stdin:
                        stdin.write(theirs.share(self._process.pid))
            return ours
        except BaseException:
            ours.close()
            raise

    def end(self) -> None:
        """Kill the process. Idempotent."""
        if self.has_ended:
            return
        self.has_ended = True
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            self._process.kill()
            # Waiting for the end of a process would block the loop.
            threading.Thread(target=self._process.wait, daemon=True).start()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WorkerEnded("the process has ended"))
            self._answer.exception()  # else asyncio warns if nobody awaits it

    # --- messages -----------------------------------------------------------------------------

    async def ask(self, *message: Reply) -> list[bytes]:
        """Send a message; return the answer to it.

        Raises:
            Error: the message is too long.
            WorkerEnded: the process has ended.
        """
        data = encode(list(message))
        if len(data) > _LONGEST_REQUEST:
            raise Error("ERR the arguments of a script are limited to 128 MB")
        if self.has_ended:
            raise WorkerEnded
        answer = self._expect()
        self._write(data)
        return await answer

    def tell(self, reply: Reply, resp: int = 2) -> None:
        """Send a message that gets no answer, such as the result of a script's call."""
        self._write(encode(reply, resp))

    def _expect(self) -> "asyncio.Future[list[bytes]]":
        self._answer = self._loop.create_future()
        return self._answer

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.has_ended:
            self._transport.write(struct.pack("!I", len(data)) + data)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the connection."""
        self._transport = cast(asyncio.Transport, transport)
        if self.has_ended:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Handle messages, late if the node is paused."""
        if self.has_ended:
            return
        if self._defer(self._take_late, data):
            self._transport.pause_reading()  # type: ignore[union-attr]  # there is one
            return
        self._parser.feed(data)
        for words in self._parser.take():
            if words[0] in (b"DONE", b"READY", b"FAILED"):
                answer = self._answer
                if answer is not None and not answer.done():
                    answer.set_result(words)
            else:
                self._called(words)
        if self._parser.error is not None:
            self.end()

    def _take_late(self, data: bytes) -> None:
        if self._transport is not None and not self.has_ended:
            self._transport.resume_reading()
            self.data_received(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the process has ended."""
        if not self._defer(self.end):
            self.end()


def _not_started(reason: str) -> Error:
    return Error(
        f"ERR the process for scripts can't be started with {sys.executable!r}: {reason}. It "
        "needs this interpreter, the package lupa, and free memory"
    )
