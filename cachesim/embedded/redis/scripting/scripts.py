"""Lua scripts: in a process of their own, and what of the node they reach from there.

A node runs one at a time. Meanwhile it does nothing else, while all other nodes go on: its clients
wait, and are told BUSY when it takes long, as by Redis. fakeredis's own scripting is not used: its
scripts can evaluate Python, see each other's globals, and run for ever.
"""

import hashlib
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.command_table import Flag
from cachesim.embedded.redis.scripting.worker import Worker, WorkerEnded
from cachesim.protocols.resp import Error, Raw, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session
    from cachesim.embedded.redis.server import Server

_NOT_ALLOWED = "ERR This Redis command is not allowed from script"
_NOT_BUSY = "NOTBUSY No scripts in execution right now."
_UNKILLABLE = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can "
    "either wait the script termination or kill the server in a hard way using the SHUTDOWN "
    "NOSAVE command."
)
_FLAGS = {"no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"}


class Running:
    """What keeps a node busy: a script, a function, or code that is looked at.

    Attributes:
        caller: who has asked for it, with `arguments`.
        client: who runs its commands.
        name: of the function, or the script's digest. None for code that is only looked at.
        is_function: whether FUNCTION KILL ends it, rather than SCRIPT KILL.
        reads: whether it may not write.
        is_slow: whether others are told BUSY.
        is_killed: whether it was killed.
        has_written: so that it can't be killed any more.
        done: takes its answer.
    """

    def __init__(self, caller: Client, arguments: list[bytes]) -> None:
        self.caller = caller
        self.arguments = arguments
        self.client = Client(caller.server, caller.user)
        self.client.in_script = True
        self.name: bytes | None = None
        self.is_function = arguments[0][:1].lower() == b"f"
        self.reads = False
        self.is_slow = self.is_killed = self.has_written = False
        self.done: Callable[[Answer], None] = caller.answer
        self.begun = perf_counter_ns()
        self.is_outermost = False
        self.timer: TimerHandle | None = None

    @property
    def busy(self) -> str:
        """What others are told."""
        kill = "FUNCTION" if self.is_function else "SCRIPT"
        return (
            f"BUSY Redis is busy running a script. You can only call {kill} KILL or "
            "SHUTDOWN NOSAVE."
        )

    @property
    def milliseconds(self) -> int:
        """For how long it has run."""
        return (perf_counter_ns() - self.begun) // 1_000_000


class Scripts:
    """The scripts that a node knows, and the one that runs.

    Attributes:
        known: texts by digest.
        running: what keeps the node busy now.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.known: dict[bytes, bytes] = {}
        self.running: Running | None = None
        self._worker: Worker | None = None
        self._postponed: list[Session] = []
        self._deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    # --- what others do meanwhile -------------------------------------------------------------

    def defer(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Put something off until no script runs; whether one does."""
        if self.running is None:
            return False
        self._deferred.append((act, arguments))
        return True

    def postpone(self, client: Client) -> None:
        """Let a client wait with its next request until others have had their turn."""
        if client.postpone():
            self._postponed.append(cast("Session", client))

    def _wake(self) -> None:
        """Let those go on who wait."""
        postponed, self._postponed = self._postponed, []
        for session in postponed:
            if session.is_postponed:
                session.is_postponed = False
                self._server.loop.call_soon(session.go_on)

    # --- running ------------------------------------------------------------------------------

    def start(
        self,
        caller: Client,
        arguments: list[bytes],
        work: Callable[[Running], Coroutine[Any, Any, Reply]],
    ) -> Answer:
        """Do something with the process for scripts, of which the caller gets the answer later.

        Raises:
            Error: the caller can't wait.
        """
        server = self._server
        caller.wait_for_script()
        self.running = running = Running(caller, arguments)
        running.is_outermost = server.executor.begin_together()
        self._watch(running)
        server.look()
        server.spawn(self._drive(running, work))
        return NO_REPLY

    async def _drive(
        self, running: Running, work: Callable[[Running], Coroutine[Any, Any, Reply]]
    ) -> None:
        answer: Reply
        try:
            answer = await work(running)
        except Error as error:
            answer = Error(_why_ended(running)) if running.is_killed else error
        except WorkerEnded:
            answer = Error(_why_ended(running))
        except Exception as error:
            self._server.log(f"{running.arguments[0]!r} failed: {error!r}", "#")
            answer = Error("ERR internal error")
        self._finish(running, answer)

    def _finish(self, running: Running, answer: Reply) -> None:
        server, caller = self._server, running.caller
        executor = server.executor
        entry = executor.find(running.arguments)
        taken = perf_counter_ns() - running.begun
        entry.nanoseconds += taken
        if isinstance(answer, Error):
            entry.failed += 1
            executor.failed(answer)
        if taken > server.slow_after:
            executor.log_slow(caller, entry, running.arguments, taken)
        if running.timer is not None:
            running.timer.cancel()
        if executor.effects is not None:
            executor.written(caller, running.arguments)
        caller.written_offset = max(caller.written_offset, running.client.written_offset)
        self.running = None
        if running.is_outermost:
            executor.end_together(caller)
        running.done(answer)  # which may have begun the next one of a transaction
        if self.running is None:
            server.look()
            deferred, self._deferred = self._deferred, []
            for act, arguments in deferred:
                act(*arguments)
            server.waiting.serve()
            self._wake()

    def _watch(self, running: Running) -> None:
        seconds = self._server.settings.number("busy-reply-threshold") / 1000
        if seconds > 0:
            running.timer = self._server.loop.call_later(seconds, self._is_slow, running)

    def _is_slow(self, running: Running) -> None:
        if self._server.defer(self._is_slow, running) or self.running is not running:
            return
        if running.name is None:
            # Code that is looked at has half a second of Lua's own time, and no more than this if
            # Lua does not look at its time.
            if self._worker is not None and self._worker.is_ready:
                self.worker_ends()
            self._watch(running)
            return
        running.is_slow = True
        self._server.log(
            f"Slow script detected: still in execution after {running.milliseconds} milliseconds. "
            "You can try killing the script using the "
            f"{'FUNCTION' if running.is_function else 'SCRIPT'} KILL command.",
            "#",
        )
        self._wake()

    def kill(self, *, function: bool) -> None:
        """End what runs.

        Raises:
            Error: nothing does, or it has written something, or it is of the other kind.
        """
        running = self.running
        if running is None:
            raise Error(_NOT_BUSY)
        if running.has_written:
            raise Error(_UNKILLABLE)
        if running.is_function != function:
            raise Error(running.busy)
        running.is_killed = True
        self.worker_ends()

    def close(self) -> None:
        """End with the node."""
        if self.running is not None and self.running.timer is not None:
            self.running.timer.cancel()
        self.worker_ends()

    # --- the process --------------------------------------------------------------------------

    async def worker(self) -> Worker:
        """The process for scripts; another one if it has ended.

        Raises:
            Error: it can't be started.
        """
        if self._worker is None or self._worker.has_ended:
            self._worker = Worker(self._server, self._heard)
            await self._worker.start()
            running = self.running
            if running is not None and running.timer is not None and not running.is_slow:
                running.timer.cancel()
                self._watch(running)  # it has begun now
        return self._worker

    def worker_ends(self) -> None:
        """End the process; the next script gets another one."""
        if self._worker is not None:
            self._worker.end()

    # --- scripts ------------------------------------------------------------------------------

    async def load(self, text: bytes) -> bytes:
        """Keep a script; gives its digest.

        Raises:
            Error: it can't be compiled.
        """
        digest = digest_of(text)
        if digest not in self.known:
            body, _ = _without_shebang(text)
            kind, *rest = (await (await self.worker()).ask(b"2", b"CHECK", body))[1:]
            if kind != b"ok":
                raise _not_compiled(rest[0])
            self.known[digest] = text
        return digest

    async def run(
        self,
        running: Running,
        text: bytes,
        keys: list[bytes],
        argv: list[bytes],
        *,
        reads: bool,
    ) -> Reply:
        """Run a script.

        Args:
            reads: whether it may not write.

        Raises:
            Error: it failed.
        """
        running.name = digest = digest_of(text)
        body, flags = _without_shebang(text)
        running.reads = reads or "no-writes" in flags
        worker = await self.worker()
        resp = b"%d" % running.caller.resp
        kind, *rest = (await worker.ask(resp, b"EVAL", body, keys, argv))[1:]
        if kind == b"compile":
            raise _not_compiled(rest[0])
        self.known[digest] = text
        return ended(running, kind, rest)

    # --- what a script asks for ---------------------------------------------------------------

    def _heard(self, words: list[bytes]) -> None:
        running, worker = self.running, self._worker
        if running is None or worker is None:
            return
        kind = words[0]
        if kind == b"LOG":
            self._server.log(words[1].decode(errors="replace"), "#")
            return
        answer: Reply
        running.client.resp = resp = int(words[1])
        try:
            if kind == b"CALL":
                answer = self._execute(running, words[2:])
            else:
                answer = self._may_call(running, words[2:])
        except Error as error:
            answer = error
        except Exception as error:
            self._server.log(f"redis.call failed: {error!r}", "#")
            answer = Error("ERR internal error")
        worker.tell(answer, resp)

    def _execute(self, running: Running, arguments: list[bytes]) -> Reply:
        server, client = self._server, running.client
        executor = server.executor
        try:
            entry = executor.find(arguments)
        except Error as error:
            wrong = "wrong number" in error.text
            raise Error(
                "ERR Wrong number of args calling Redis command from script"
                if wrong
                else "ERR Unknown Redis command called from script"
            ) from None
        bits = entry.bits
        if bits & Flag.NOSCRIPT:
            raise Error(_NOT_ALLOWED)
        if bits & Flag.WRITE and running.reads:
            raise Error("ERR Write commands are not allowed from read-only scripts.")
        if client.user is not None and entry.command not in client.allowed:
            denial = client.user.denial(entry.command, arguments)
            if denial is not None:
                executor.log_denial(client, denial[0], "lua", denial[2])
                what = "command or subcommand" if denial[0] == "command" else "command"
                raise Error(f"ERR The user executing the script can't run this {what}")
        executor.check_state(client, entry, bits)
        if bits & Flag.KEYS and not server.cluster.is_local(entry.command.keys(arguments)):
            raise Error("ERR Script attempted to access a non local key in a cluster node")
        if bits & Flag.WRITE:
            running.has_written = True
        answer = executor.call(client, entry, arguments)
        return None if answer is NO_REPLY else cast(Reply, answer)

    def _may_call(self, running: Running, arguments: list[bytes]) -> Reply:
        """Whether `redis.acl_check_cmd` allows it: 1 or 0. None without such a command."""
        try:
            entry = self._server.executor.find(arguments)
        except Error:
            return None
        user = running.client.user
        return int(user is None or user.denial(entry.command, arguments) is None)


def ended(running: Running, kind: bytes, rest: list[bytes]) -> Reply:
    """How a script or a function has ended.

    Raises:
        Error: it failed.
    """
    if kind == b"ok":
        return Raw(rest[0])
    if kind == b"fail":
        raise Error(_text(rest[0]))
    text = f"ERR {_text(rest[0])}" if kind == b"error" else _text(rest[0])
    raise Error(text + _place(running, rest[1].decode()))


def _place(running: Running, line: str) -> str:
    name = (running.name or b"").decode(errors="replace")
    where = "user_function" if running.is_function else "user_script"
    return f" script: {name}, on @{where}:{line}."


def _why_ended(running: Running) -> str:
    """What is said of a script whose process has ended."""
    if running.name is None:
        return "ERR the code took too long, or more memory than it may have"
    if running.is_killed:
        return "ERR Script killed by user with SCRIPT KILL..." + _place(running, "-1")
    return "ERR the process for scripts has ended, out of memory it seems" + _place(running, "-1")


def _not_compiled(problem: bytes) -> Error:
    return Error(f"ERR Error compiling script (new function): {_text(problem)}")


def digest_of(text: bytes) -> bytes:
    """A script's name."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _without_shebang(text: bytes) -> tuple[bytes, set[str]]:
    """A script without its first line, if that says what it is; and the flags there.

    Raises:
        Error: it says something wrong.
    """
    if not text.startswith(b"#!"):
        return text, set()
    line, _, rest = text.partition(b"\n")
    engine, *options = line[2:].decode(errors="replace").split() or [""]
    if engine.lower() != "lua":
        raise Error("ERR Could not find scripting engine '" + engine + "'")
    flags: set[str] = set()
    for option in options:
        name, _, value = option.partition("=")
        if name != "flags":
            raise Error(f"ERR Unknown lua shebang option: {option}")
        flags |= set(filter(None, value.split(",")))
    if flags - _FLAGS:
        raise Error("ERR Unexpected flag in script shebang: " + sorted(flags - _FLAGS)[0])
    return b"\n" + rest, flags


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
