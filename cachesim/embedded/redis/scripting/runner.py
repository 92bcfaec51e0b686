"""Running scripts: one at a time, in a separate process, while the node does nothing else.

The other nodes keep running. The node's other clients wait; when the script is slow, they get BUSY,
as with Redis. fakeredis's own scripting is not used: its scripts can evaluate Python, see each
other's globals, and run for ever.
"""

from collections.abc import Callable, Coroutine
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.scripting.calls import answer_call
from cachesim.embedded.redis.scripting.running import Running, worker_lost
from cachesim.embedded.redis.scripting.worker import Worker, WorkerEnded
from cachesim.protocols.resp import Error, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session
    from cachesim.embedded.redis.server import Server

_NOT_BUSY = "NOTBUSY No scripts in execution right now."
_UNKILLABLE = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can "
    "either wait the script termination or kill the server in a hard way using the SHUTDOWN "
    "NOSAVE command."
)


class ScriptRunner:
    """Runs the scripts and functions of a node, and owns the process for them.

    Attributes:
        running: the script or function that runs now, or None.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.running: Running | None = None
        self._worker: Worker | None = None
        self._postponed: list[Session] = []
        self._deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    # --- waiting for a script -------------------------------------------------------------------

    def defer(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Postpone a call until no script runs. Return False, and call nothing, if none runs."""
        if self.running is None:
            return False
        self._deferred.append((act, arguments))
        return True

    def postpone(self, client: Client) -> None:
        """Postpone a client's next request until the other clients have had their turn."""
        if client.postpone():
            self._postponed.append(cast("Session", client))

    def _resume_postponed(self) -> None:
        postponed, self._postponed = self._postponed, []
        for session in postponed:
            if session.is_postponed:
                session.is_postponed = False
                self._server.loop.call_soon(session.resume_requests)

    # --- running ------------------------------------------------------------------------------

    def start(
        self,
        caller: Client,
        arguments: list[bytes],
        work: Callable[[Running], Coroutine[Any, Any, Reply]],
    ) -> Answer:
        """Start work with the process for scripts. The caller is answered at its end.

        Raises:
            Error: the caller can't wait.
        """
        server = self._server
        caller.wait_for_script()
        self.running = running = Running(caller, arguments)
        running.is_outermost = server.executor.begin_batch()
        self._start_timer(running)
        server.update_guards()
        server.spawn(self._run(running, work))
        return NO_REPLY

    async def _run(
        self, running: Running, work: Callable[[Running], Coroutine[Any, Any, Reply]]
    ) -> None:
        answer: Reply
        try:
            answer = await work(running)
        except Error as error:
            answer = worker_lost(running) if running.is_killed else error
        except WorkerEnded:
            answer = worker_lost(running)
        except Exception as error:
            self._server.log(f"{running.arguments[0]!r} failed: {error!r}", "#")
            answer = Error("ERR internal error")
        self._finish(running, answer)

    def _finish(self, running: Running, answer: Reply) -> None:
        server, caller = self._server, running.caller
        executor = server.executor
        entry = executor.entries.find(running.arguments)
        taken = perf_counter_ns() - running.begun
        entry.nanoseconds += taken
        entry.unanswered -= 1
        bits = taken.bit_length()
        entry.durations[bits] = entry.durations.get(bits, 0) + 1
        if isinstance(answer, Error):
            entry.failed += 1
            executor.count_error(answer)
        if taken > server.slow_after:
            executor.log_slow(caller, entry, running.arguments, taken)
        if running.timer is not None:
            running.timer.cancel()
        if executor.effects is not None:
            executor.propagate(caller, running.arguments)
        caller.written_offset = max(caller.written_offset, running.client.written_offset)
        self.running = None
        if running.is_outermost:
            executor.end_batch(caller)
        running.done(answer)  # may start the next script of a transaction
        if self.running is None:
            server.update_guards()
            deferred, self._deferred = self._deferred, []
            for act, arguments in deferred:
                act(*arguments)
            server.blocked_clients.serve()
            self._resume_postponed()

    def _start_timer(self, running: Running) -> None:
        seconds = self._server.settings.number("busy-reply-threshold") / 1000
        if seconds > 0:
            running.timer = self._server.loop.call_later(seconds, self._become_slow, running)

    def _become_slow(self, running: Running) -> None:
        server = self._server
        if server.defer_while_paused(self._become_slow, running) or self.running is not running:
            return
        if running.name is None:
            # While compiling, Lua limits its own time to half a second, but does not check it
            # everywhere. So this threshold ends the process too.
            if self._worker is not None and self._worker.is_ready:
                self.end_worker()
            self._start_timer(running)
            return
        running.is_slow = True
        server.log(
            f"Slow script detected: still in execution after {running.milliseconds} milliseconds. "
            f"You can try killing the script using the {running.kind} KILL command.",
            "#",
        )
        self._resume_postponed()

    def kill(self, *, function: bool) -> None:
        """Kill the running script or function.

        Args:
            function: True to kill a function, False to kill a script.

        Raises:
            Error: nothing runs, it has already written, or it is of the other kind.
        """
        running = self.running
        if running is None:
            raise Error(_NOT_BUSY)
        if running.has_written:
            raise Error(_UNKILLABLE)
        if running.is_function != function:
            raise Error(running.busy)
        running.is_killed = True
        self.end_worker()

    def close(self) -> None:
        """End the process, as the node ends."""
        if self.running is not None and self.running.timer is not None:
            self.running.timer.cancel()
        self.end_worker()

    # --- the process --------------------------------------------------------------------------

    async def worker(self) -> Worker:
        """Return the process for scripts. Start one if there is none.

        Raises:
            Error: the process can't be started.
        """
        if self._worker is None or self._worker.has_ended:
            server = self._server
            self._worker = Worker(
                server.version, server.loop, server.defer_while_paused, self._called
            )
            await self._worker.start()
            running = self.running
            if running is not None and running.timer is not None and not running.is_slow:
                running.timer.cancel()
                self._start_timer(running)  # the threshold counts from now
        return self._worker

    def end_worker(self) -> None:
        """Kill the process. The next script gets another one."""
        if self._worker is not None:
            self._worker.end()

    def _called(self, words: list[bytes]) -> None:
        """Answer a call that the running script has made."""
        running, worker = self.running, self._worker
        if running is None or worker is None:
            return
        if words[0] == b"LOG":
            self._server.log(words[1].decode(errors="replace"), "#")
            return
        running.client.resp = resp = int(words[1])
        worker.tell(answer_call(self._server, running, words), resp)
