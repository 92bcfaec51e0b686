"""The flags of scripts and functions: what they may do, and when they may run.

A script without a `#!` line has none, and runs as in Redis before 7.0.
"""

from typing import TYPE_CHECKING

from cachesim.embedded.redis.dispatch.command_table import Flag
from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

NAMES = ("no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys")
_REPLACED = Flag.STALE | Flag.DENYOOM | Flag.WRITE | Flag.MAY_WRITE


def flags_of_line(line: bytes) -> frozenset[str]:
    """Return the flags of a script's first line, `#!lua flags=a,b`.

    Raises:
        Error: the line is wrong.
    """
    engine, *options = line.decode(errors="replace").split() or [""]
    if engine != "#!lua":
        raise Error(f"ERR Unexpected engine in script shebang: {engine}")
    flags: set[str] = set()
    for option in options:
        if not option.startswith("flags="):
            raise Error(f"ERR Unknown lua shebang option: {option}")
        given = option.removeprefix("flags=")
        for flag in given.split(",") if given else ():
            if flag not in NAMES:
                raise Error(f"ERR Unexpected flag in script shebang: {flag}")
            flags.add(flag)
    return frozenset(flags)


def bits_of_script(server: "Server", arguments: list[bytes], bits: int) -> int:
    """Return the flags of a command that runs a script or a function, whose own flags count.

    Args:
        bits: the flags of the command itself. They count if the script has none.
    """
    if arguments[0][:1] in b"fF":
        flags = server.functions.flags(arguments[1])
    else:
        text: bytes | None = arguments[1]
        if arguments[0][4:7].lower() == b"sha":
            text = server.scripts.known.get(arguments[1].lower())
        flags = None if text is None else _flags_if_right(text)
    if flags is None:
        return bits
    bits &= ~_REPLACED
    if "no-writes" not in flags:
        bits |= Flag.WRITE
        if "allow-oom" not in flags:
            bits |= Flag.DENYOOM
    return bits | Flag.STALE if "allow-stale" in flags else bits


def _flags_if_right(text: bytes) -> frozenset[str] | None:
    if not text.startswith(b"#!"):
        return None
    try:
        return flags_of_line(text.partition(b"\n")[0])
    except Error:
        return None
