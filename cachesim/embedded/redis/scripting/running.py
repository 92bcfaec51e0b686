"""A running script or function, and its outcome."""

from asyncio import TimerHandle
from collections.abc import Callable
from time import perf_counter_ns

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.guards import check_write
from cachesim.protocols.resp import Error, Raw, Reply

_FULL = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"


class Running:
    """A running script or function, or code that is being compiled. It keeps the node busy.

    Attributes:
        caller: the client that has sent the request; `arguments` are the request's.
        client: the client that runs the script's commands.
        name: the function's name or the script's digest; None for code that is only compiled.
        is_function: whether FUNCTION KILL kills it; otherwise SCRIPT KILL does.
        reads: whether it must not write.
        keeps_slot: whether all keys that it uses must be of one slot.
        slot: the slot of the keys that it has named or used; None so far.
        is_slow: whether other clients are answered BUSY.
        is_killed: whether it was killed.
        has_written: whether it has written; then it can't be killed any more, and goes on at full
            memory.
        takes_memory: whether it may write although memory was full when it began.
        done: called with the answer.
        begun: the time of its start, by `perf_counter_ns`.
        is_outermost: whether its effects are a batch of their own, not part of a transaction.
        timer: sets `is_slow` after `busy-reply-threshold`.
    """

    def __init__(self, caller: Client, arguments: list[bytes]) -> None:
        self.caller = caller
        self.arguments = arguments
        self.client = Client(caller.server, caller.user)
        self.client.in_script = True
        self.client.caller = caller
        self.name: bytes | None = None
        self.is_function = arguments[0][:1].lower() == b"f"
        self.reads = self.keeps_slot = False
        self.slot: int | None = None
        self.is_slow = self.is_killed = self.has_written = self.takes_memory = False
        self.done: Callable[[Answer], None] = caller.answer
        self.begun = perf_counter_ns()
        self.is_outermost = False
        self.timer: TimerHandle | None = None

    @property
    def kind(self) -> str:
        """The first word of the command that kills it, SCRIPT or FUNCTION."""
        return "FUNCTION" if self.is_function else "SCRIPT"

    @property
    def busy(self) -> str:
        """The error that other clients get while it is slow."""
        return (
            f"BUSY Redis is busy running a script. You can only call {self.kind} KILL or "
            "SHUTDOWN NOSAVE."
        )

    @property
    def milliseconds(self) -> int:
        """The time since it began, in milliseconds."""
        return (perf_counter_ns() - self.begun) // 1_000_000


def prepare(running: Running, flags: frozenset[str] | None, *, reads: bool) -> None:
    """Check that a script or function may run now, and note what it may do.

    Args:
        flags: None for a script that has no `#!` line.
        reads: whether its command allows it no writes.

    Raises:
        Error: it may not run.
    """
    server = running.caller.server
    running.reads = reads
    if flags is None:
        return
    if "no-cluster" in flags:
        raise Error("ERR Can not run script on cluster, 'no-cluster' flag is set.")
    if "no-writes" in flags:
        running.reads = True
    else:
        if server.is_replica:
            raise Error("READONLY Can not run script with write flag on readonly replica.")
        if reads:
            raise Error("ERR Can not execute a script with write flag using *_ro command.")
        check_write(server)
        if server.executor.was_full and "allow-oom" not in flags:
            raise Error(_FULL)
    running.takes_memory = True
    running.keeps_slot = "allow-cross-slot-keys" not in flags


def outcome(running: Running, kind: bytes, rest: list[bytes]) -> Reply:
    """Return the reply of a script or function from the answer of its process.

    Raises:
        Error: the script or function failed.
    """
    if kind == b"ok":
        return Raw(rest[0])
    if kind == b"fail":
        raise Error(text_of(rest[0]))
    text = f"ERR {text_of(rest[0])}" if kind == b"error" else text_of(rest[0])
    raise Error(text + _place(running, rest[1].decode()))


def worker_lost(running: Running) -> Error:
    """Return the error for a script or function whose process has ended."""
    if running.name is None:
        return Error("ERR compiling the code took too long or too much memory")
    if running.is_killed:
        return Error("ERR Script killed by user with SCRIPT KILL..." + _place(running, "-1"))
    return Error(
        "ERR the process for scripts has ended, probably out of memory" + _place(running, "-1")
    )


def _place(running: Running, line: str) -> str:
    name = (running.name or b"").decode(errors="replace")
    where = "user_function" if running.is_function else "user_script"
    return f" script: {name}, on @{where}:{line}."


def text_of(value: bytes) -> str:
    """Return bytes of a script as text that encodes to the same bytes."""
    return value.decode("utf-8", "surrogateescape")
