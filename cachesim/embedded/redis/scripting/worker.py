"""A node's side of the process that runs its scripts; `interpreter.py` is the other one."""

import asyncio
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.admin.versions import version_of
from cachesim.protocols.resp import Error, Limits, Reply, RequestParser, encode

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

LONGEST = 64 << 20
"""Bytes that a script may give back, or give to a command."""
_LONGEST_REQUEST = 128 << 20  # bytes: what is copied at once, while the other nodes wait
_PATIENCE = 30.0  # seconds until the process has to be there


class WorkerEnded(Exception):
    """The process is gone, and the script that ran in it."""


class Worker(asyncio.Protocol):
    """A process for scripts, which nothing that a script does reaches beyond.

    Args:
        heard: takes what the script asks for meanwhile.

    Attributes:
        is_ready: whether it has begun to take scripts.
        has_ended: whether it can't take any more.
    """

    def __init__(self, server: "Server", heard: Callable[[list[bytes]], None]) -> None:
        self._server = server
        self._heard = heard
        self._parser = RequestParser(Limits(bulk=LONGEST, query=LONGEST + (1 << 20)))
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: asyncio.Future[list[bytes]] | None = None
        self.is_ready = self.has_ended = False

    async def start(self) -> None:
        """Start it, and wait until it is there.

        Raises:
            Error: it can't be started, with what to do about it.
        """
        try:
            ready = self._expect()
            ours = self._spawn()
            try:
                await self._server.loop.create_connection(lambda: self, sock=ours)
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
        version = version_of(self._server.config.engine)
        command = [
            sys.executable, "-I", "-S", str(Path(__file__).with_name("interpreter.py")),
            str(Path(found.origin).parent.parent), version.redis, version.name,
        ]  # fmt: skip
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                shares = sys.platform == "win32"  # sockets are no standard input there
                self._process = subprocess.Popen(  # noqa: S603  # nothing of it is a user's
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
        """Kill it. Repeating it is harmless."""
        if self.has_ended:
            return
        self.has_ended = True
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            self._process.kill()
            # It takes the system a while to clear up after a process: not in the loop's time.
            threading.Thread(target=self._process.wait, daemon=True).start()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WorkerEnded("it ended"))
            self._answer.exception()  # nobody has to ask for it

    # --- talking ------------------------------------------------------------------------------

    async def ask(self, *message: Reply) -> list[bytes]:
        """Let it do something; gives how that ended.

        Raises:
            Error: it is too much.
            WorkerEnded: the process has ended.
        """
        data = encode(list(message))
        if len(data) > _LONGEST_REQUEST:
            raise Error("ERR a script's arguments may have 128 MB here")
        if self.has_ended:
            raise WorkerEnded
        answer = self._expect()
        self._write(data)
        return await answer

    def tell(self, reply: Reply, resp: int = 2) -> None:
        """Let it have something that it does not answer: what the script has asked for, say."""
        self._write(encode(reply, resp))

    def _expect(self) -> "asyncio.Future[list[bytes]]":
        self._answer = self._server.loop.create_future()
        return self._answer

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self.has_ended:
            self._transport.write(struct.pack("!I", len(data)) + data)

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = cast(asyncio.Transport, transport)
        if self.has_ended:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what it says. With a node that stands still it has to wait."""
        if self.has_ended:
            return
        if self._server.defer(self._take_late, data):
            self._transport.pause_reading()  # type: ignore[union-attr]  # there is one
            return
        self._parser.feed(data)
        for words in self._parser.take():
            if words[0] in (b"DONE", b"READY", b"FAILED"):
                answer = self._answer
                if answer is not None and not answer.done():
                    answer.set_result(words)
            else:
                self._heard(words)
        if self._parser.error is not None:
            self.end()

    def _take_late(self, data: bytes) -> None:
        if self._transport is not None and not self.has_ended:
            self._transport.resume_reading()
            self.data_received(data)

    def connection_lost(self, _error: Exception | None) -> None:
        """It is gone."""
        if not self._server.defer(self.end):
            self.end()


def _not_started(reason: str) -> Error:
    return Error(
        f"ERR no process for scripts could be started with {sys.executable!r}: {reason}. Scripts "
        "need that interpreter, the package lupa, and room for one more process"
    )
