"""An asyncio loop in its own thread, called from other threads."""

import asyncio
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from cachesim.aio.timers import new_event_loop
from cachesim.errors import CachesimError

_T = TypeVar("_T")
_PATIENCE = 30.0
"""Seconds until a call into the loop raises, as nothing that runs there waits for long."""


class LoopThread:
    """Runs a loop in a thread from `start` to `stop`. Call its methods from other threads.

    Args:
        name: the thread's name.

    Attributes:
        loop: the loop, set by `start`.
    """

    loop: asyncio.AbstractEventLoop
    _started: Future[None]  # done when the loop has started

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._is_foreign = False

    def start(self) -> asyncio.AbstractEventLoop:
        """Start the thread.

        Returns:
            The running loop.

        Raises:
            OSError: the loop can't be created, for example because no file descriptor is left.
        """
        self._started = Future()
        # A daemon thread, as the interpreter waits for other threads before it runs exit handlers.
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()
        self._started.result(_PATIENCE)
        if sys.platform != "win32":
            _leave_to_parent_in_forks(self)
        return self.loop

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Call a function in the loop's thread, and wait for its result.

        Raises:
            CachesimError: the loop does not run.
        """
        if self._thread is threading.current_thread():
            return function(*arguments)
        done: Future[_T] = Future()

        def call() -> None:
            try:
                done.set_result(function(*arguments))
            except BaseException as error:  # raised in the caller's thread
                done.set_exception(error)

        self._check()
        self.loop.call_soon_threadsafe(call)
        return self._await(done)

    def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run a coroutine in the loop, and wait for its result.

        Raises:
            CachesimError: the loop does not run.
        """
        self._check()
        return self._await(asyncio.run_coroutine_threadsafe(work(), self.loop))

    def stop(self) -> None:
        """Cancel all tasks, and end the thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None or self._is_foreign:
            return
        # Ctrl-C during `start` may have come before the thread began.
        if self._started.cancel() or self._started.exception(_PATIENCE) is not None:
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join()

    def _check(self) -> None:
        if self._is_foreign:
            raise CachesimError(
                "this process was forked from the topology's owner: call the topology's methods "
                "there, and use only clients and environment variables here"
            )
        if self._thread is None or not self._thread.is_alive():
            raise CachesimError("the topology has been stopped. Start it again.")
        self._started.result(_PATIENCE)  # waits only during `start`

    def _await(self, done: "Future[_T]") -> _T:
        try:
            return done.result(_PATIENCE)
        except TimeoutError:
            if done.done():
                raise  # the function itself has raised it
            raise CachesimError(f"{self._name} did not answer for {_PATIENCE:g} s") from None

    def _run(self) -> None:
        if not self._started.set_running_or_notify_cancel():
            return
        try:
            # Ctrl-C reaches only the main thread, so it can't leave an incomplete loop here.
            self.loop = loop = new_event_loop()
        except Exception as error:
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            # One round for the cancellations, one for the transports that they close.
            for _ in range(2):
                loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def _leave_to_parent(self) -> None:
        """Give up the sockets after a fork, in the child.

        While the child has a connection open, a client does not see its end. The file descriptors
        are redirected, not closed: a closed number may be reused, and its former owner would later
        close another file.
        """
        self._is_foreign = True
        selector = self.loop._selector  # type: ignore[attr-defined]
        files = [key.fd for key in (selector.get_map() or {}).values()]
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("r+b") as nothing:
            for file in (*files, selector.fileno()):
                os.dup2(nothing.fileno(), file, inheritable=False)


def _leave_to_parent_in_forks(thread: LoopThread) -> None:
    """Call `_leave_to_parent` after each fork, in the child."""
    reference = weakref.ref(thread)

    def forked() -> None:
        if (mine := reference()) is not None and mine._thread is not None:
            mine._leave_to_parent()

    os.register_at_fork(after_in_child=forked)
