"""A user's own function as a workload: it runs in each pod, and tells what it did."""

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cachesim.errors import WorkloadError
from cachesim.history.rows import Kind, Operation
from cachesim.workload.reported import operation, wait_for_first


@dataclass(frozen=True)
class Load:
    """What a user's function gets.

    Attributes:
        env: the variables that a service reads, by name. They are in `os.environ` too.
        pod: the name of this pod, such as `pod-0`.
        seed: of the run.
        stop: is set when the function has to return.
    """

    env: Mapping[str, str] = field(repr=False)  # it has secrets, and a user may print this
    pod: str
    seed: int
    stop: threading.Event
    _record: Callable[[Operation], None] = field(repr=False)

    def record(
        self,
        op: str,
        ok: bool,
        *,
        duration: float = 0.0,
        at: float | None = None,
        kind: Kind | None = None,
        key: str = "",
        error: str | None = None,
        written: int | None = None,
        read: int | None = None,
    ) -> None:
        """Record an operation. Thread-safe.

        Args:
            op: its name: `service`, or `service.kind`.
            ok: whether it was answered.
            duration: how long it took, in seconds.
            at: when it was due, in monotonic seconds. By default it has just ended.
            kind: `read`, `write`, `delete` or `touch`; by default what `op` ends with, or `read`.
            key: what it was about. A key has one writer.
            error: the error's name.
            written: the version that it wrote, a number that grows with each write of the key.
            read: the version that it read.

        Raises:
            ValueError: one of them is not what it has to be.
        """
        start = time.monotonic() - duration if at is None else at
        self._record(
            operation(
                self.pod,
                op,
                ok,
                start=start,
                duration=duration,
                kind=kind,
                key=key,
                error=error,
                written=written,
                read=read,
            )
        )


def load_function(name: str) -> Callable[[Load], object]:
    """Import a function.

    Args:
        name: `package.module:function`. It is looked for in the current folder too.

    Raises:
        WorkloadError: it can't be imported.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109  # as sys.path has it
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Callable[[Load], object] = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise WorkloadError(
            f"the workload {name} can't be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise WorkloadError(f"the workload {name} is not a function")
    return found


class Function:
    """The work of a pod that a user's function does.

    It is called at once, so that its pools are open when the run begins.

    Args:
        name: `package.module:function`.
        pod: the pod's name.
        env: the variables of `cachesim env`.
        record: takes the operations.
        is_over: is set when nobody waits for the first operation any more.
        failed: is called when it has failed, so that it is stopped.

    Raises:
        WorkloadError: it can't be imported, or has failed at once.
    """

    idle = 0  # nobody can tell, so nothing late is taken for the generator's fault

    def __init__(
        self,
        name: str,
        pod: str,
        env: Mapping[str, str],
        seed: int,
        record: Callable[[Operation], None],
        is_over: threading.Event,
        failed: Callable[[], None],
    ) -> None:
        os.environ.update(env)
        self._name = name
        self._call = load_function(name)
        self._first = threading.Event()
        self._error: BaseException | None = None
        self._failed = failed

        def note(row: Operation) -> None:
            record(row)
            self._first.set()

        self._load = Load(env, pod, seed, threading.Event(), note)
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)
        self._thread.start()
        wait_for_first(self._first, is_over)
        self._check()

    def begin(self, at: float) -> None:
        """Do nothing: it runs already."""

    def stop(self, patience: float) -> None:
        """Tell the function to return, and wait for it.

        Args:
            patience: the longest wait, in seconds.

        Raises:
            WorkloadError: it raised an exception, or has not returned in time.
        """
        self._load.stop.set()
        self._thread.join(patience)
        self._check()
        if self._thread.is_alive():
            raise WorkloadError(
                f"the workload {self._name} did not return within {patience:g} s of its stop"
            )

    def _run(self) -> None:
        try:
            self._call(self._load)
            if not self._load.stop.is_set():
                raise RuntimeError("it returned before the end of the run")
        except BaseException as error:  # an exit too: the pod would seem to be idle
            self._error = error
            self._failed()
        finally:
            self._first.set()

    def _check(self) -> None:
        if self._error is not None:
            what = f"{type(self._error).__name__}: {self._error}"
            raise WorkloadError(f"the workload {self._name} failed: {what}") from self._error
