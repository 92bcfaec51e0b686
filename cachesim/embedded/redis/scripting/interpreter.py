"""The process in which a node's scripts run. It only runs Lua.

It is started by its path and imports nothing of cachesim, so it starts in 20 ms and takes 10 MB.
Each message to it is preceded by its length in four bytes. It sends requests in RESP. Lua's
prelude gets Python functions that take and return bytes, and hides them from scripts. The process
ends with its parent, whatever the script is doing.
"""

import contextlib
import hashlib
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

_LUA_MEMORY = 256 << 20  # bytes
_MEMORY = 1 << 30  # bytes of the process, including memory that Lua does not count
_WATCH = 0.5  # seconds


def main(lupa: str, version: str, engine: str) -> None:
    """Run scripts until the parent has closed the connection.

    Args:
        lupa: the folder that contains the package lupa.
        version: the version of Redis that scripts see.
        engine: the name of the engine that scripts see.
    """
    channel = _channel()
    watch = threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True)
    watch.start()
    sys.path.append(lupa)
    try:
        import lupa.lua51 as lua  # type: ignore[import-untyped]
    except ImportError as error:
        channel.sendall(b"*2\r\n$6\r\nFAILED\r\n$%d\r\n%b\r\n" % _sized(str(error).encode()))
        return
    _limit()

    def refuse(*_: object) -> NoReturn:
        raise AttributeError("scripts see no Python")

    runtime: Any = lua.LuaRuntime(
        encoding=None,
        register_eval=False,
        register_builtins=False,
        attribute_filter=refuse,
        max_memory=_LUA_MEMORY,
    )
    stream = channel.makefile("rb")

    def receive() -> bytes:
        head = stream.read(4)
        if len(head) < 4:
            os._exit(0)
        (size,) = struct.unpack("!I", head)
        data = stream.read(size)
        if len(data) < size:
            os._exit(0)
        return data

    # A script could catch an exception, and with it get a Python object. So the process ends:
    # the parent has ended, or memory has run out.
    def send(data: bytes) -> None:
        try:
            channel.sendall(data)
        except BaseException:
            os._exit(1)

    def ask(data: bytes) -> bytes:
        try:
            channel.sendall(data)
            return receive()
        except BaseException:
            os._exit(1)

    def sha1hex(data: bytes) -> bytes:
        try:
            return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()
        except BaseException:
            os._exit(1)

    prelude, packing = (
        Path(__file__).with_name(f"{name}.lua").read_bytes() for name in ("prelude", "packing")
    )
    make = runtime.eval(b"function(text, ...) return loadstring(text, '@prelude')(...) end")
    handle = make(prelude, ask, send, sha1hex, version.encode(), engine.encode(), packing)
    channel.sendall(b"*1\r\n$5\r\nREADY\r\n")
    while True:
        channel.sendall(handle(receive()))


def _sized(data: bytes) -> tuple[int, bytes]:
    return len(data), data


def _channel() -> socket.socket:
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    return socket.socket(fileno=sys.stdin.fileno())


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    """End when the parent has ended or closed the connection.

    Watching the connection is not enough: a fork of the parent may hold it open.
    """
    while os.getppid() == parent:
        time.sleep(_WATCH)
        if select.select([channel], [], [], 0)[0] and not channel.recv(1, socket.MSG_PEEK):
            break
    os._exit(0)


def _limit() -> None:
    if sys.platform != "win32":
        import resource

        # If these limits can't be set, Lua's own limit remains.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    main(*sys.argv[1:])
