"""A user's command as a workload: it runs beside the timeline, and reports by lines of JSON."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from cachesim.errors import WorkloadError, as_json
from cachesim.history.rows import Operation
from cachesim.workload.reported import parse, parts, wait_for_first

_BUFFER = 4096
"""Bytes that come at once from a program which keeps its output for a while."""
_SHOWN = 200
"""Characters of a line that an error shows."""
_LAST = 2.0
"""Seconds for what was written before the end of the command to be read."""


class Command:
    """A command with the variables of `cachesim env`.

    It is started at once, so that its pools are open when the run begins. Operations that it
    reports without their time have just ended when they are read. What else it prints goes to the
    log.

    Args:
        arguments: the command.
        pod: the pod of its operations.
        environment: its variables.
        record: takes the operations.
        report: tells the `group` of its processes at once, as they outlive a pod that is killed,
            the exit code as `command` when it has ended, at `ended_at` in monotonic seconds, and a
            line that reports an operation with a mistake as an `error`.
        is_over: is set when nobody waits for the first operation any more.

    Raises:
        WorkloadError: it can't be started.

    Attributes:
        eps: by how much the time of an operation may be wrong, in seconds: what it prints may have
            waited in a buffer of its own.
    """

    idle = 0  # nobody can tell, so nothing late is taken for the generator's fault

    def __init__(
        self,
        arguments: Sequence[str],
        pod: str,
        environment: Mapping[str, str],
        record: Callable[[Operation], None],
        report: Callable[..., None],
        is_over: threading.Event,
    ) -> None:
        # Python keeps what it prints to a pipe in a buffer, and its times would be wrong.
        variables = {"PYTHONUNBUFFERED": "1", **environment}
        try:
            self._process = subprocess.Popen(  # noqa: S603  # the user's own
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=variables,
                start_new_session=True,  # to end what it starts too
            )
        except OSError as error:
            raise WorkloadError(f"{arguments[0]} can't be started: {error}") from error
        report(group=self._process.pid)
        self.eps = 0.0
        self._pod = pod
        self._record = record
        self._report = report
        self._utc_offset = time.time() - time.monotonic()
        self._first, self._over = threading.Event(), threading.Event()
        if self._process.stdout is None:
            raise RuntimeError("the command was started without a pipe")
        reading = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reading.start()
        threading.Thread(target=self._wait, args=(reading,), daemon=True).start()
        wait_for_first(self._first, is_over)

    def begin(self, at: float) -> None:
        """Do nothing: it runs already."""

    def stop(self, patience: float) -> None:
        """End it and what it has started: by SIGTERM, and by SIGKILL after some seconds."""
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, _LAST)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            if self._over.wait(seconds):
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _wait(self, reading: threading.Thread) -> None:
        code, at = self._process.wait(), time.monotonic()
        reading.join(_LAST)  # a child of it may keep the pipe open
        self._first.set()
        self._report(command=code, ended_at=at)
        self._over.set()

    def _read(self, stdout: IO[bytes]) -> None:
        rest, last, previous = b"", time.monotonic(), (0, 0.0)
        while chunk := os.read(stdout.fileno(), 65536):
            now = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            untold = sum(self._take(line.decode(errors="replace"), now) for line in lines)
            if untold > 1 and len(chunk) >= _BUFFER:
                self.eps = max(self.eps, now - last)
            last, previous = now, (untold, now - last)
        if rest:  # the last line has no end
            untold = previous[0] + self._take(rest.decode(errors="replace"), last)
            previous = untold, previous[1]
        if previous[0] > 1:  # what a buffer had at the end
            self.eps = max(self.eps, previous[1])

    def _take(self, line: str, now: float) -> int:
        """Record what a line reports. Return how many operations do not tell their time."""
        found, rest = [], []
        for part in parts(line):
            try:
                it = parse(part, self._pod, now, self._utc_offset)
            except ValueError as error:  # left out it would be missing in the verdict
                mistake = f"its line {part[:_SHOWN]!r} is no operation: {error}"
                self._report(error=as_json(WorkloadError(mistake)))
                it = None
            if it is None:
                rest.append(part)
            else:
                found.append(it)
        text = "".join(rest)
        if text.strip() or not found:
            print(text, flush=True, file=sys.stdout)
        for operation, _ in found:
            self._record(operation)
            self._first.set()
        return sum(not is_told for _, is_told in found)
