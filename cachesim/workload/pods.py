"""Starts the pods of a workload, and ends them. Their side is `cachesim.workload.pod`."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cachesim
from cachesim.clock import Deadline
from cachesim.errors import WorkloadError, revived
from cachesim.runs.env import CA_FILE
from cachesim.workload.plan import POOL, Plan
from cachesim.workload.profile import Profile, profile_of

_MAIN = Path(cachesim.__file__).with_name("workload") / "__main__.py"
_LAST = 5.0
"""Seconds for a pod to write its last rows and end."""
_OWN_CODE = 10.0
"""Seconds for a user's function to return, if it declares no patience."""
_NOT_FOR_IT = (
    *("COV_CORE_", "COVERAGE_", "PYDEVD_", "DEBUGPY_", "PYCHARM_", "PYTHONBREAKPOINT"),
    *("PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC"),
    *("PYTHONINSPECT", "PYTHONPROFILEIMPORTTIME", "PYTHONVERBOSE", "PYTHONMALLOCSTATS"),
)
"""The beginnings of the variables that would make coverage or a debugger follow it."""


class Pods:
    """The processes of a workload. They end when this process does.

    They are out of reach of a terminal's Ctrl-C: whoever has them ends them.

    Args:
        plan: what they do.
        env: the variables of `cachesim env`, secrets included.
        path: the history that they write to.
        deadline: seconds from an operation's due time within which an answer is good.
        seed: of all that is drawn.
        log: the file for what they print, by default `workload.log` beside the history.

    Attributes:
        pool: how many connections each has to a node, and workers.
        profile: `patience` and `comeback` of the built-in clients, in seconds; empty for a user's
            own function.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        env: Mapping[str, str],
        path: Path,
        deadline: float,
        seed: int,
        log: Path | None = None,
    ) -> None:
        self.pool = POOL
        self.profile: Profile = profile_of(plan)
        self._plan = plan
        self._env = dict(env)
        self._path = path
        self._deadline = deadline
        self._seed = seed
        self._log = path.with_name("workload.log") if log is None else log
        self._pods: dict[str, _Pod] = {}

    @property
    def alive(self) -> tuple[str, ...]:
        """The names of the pods that run."""
        return tuple(name for name, pod in self._pods.items() if pod.exit_code is None)

    @property
    def dead(self) -> dict[str, str]:
        """What became of each pod that has ended before its time, by name: `killed by SIGKILL`."""
        return {name: _what(pod) for name, pod in self._pods.items() if pod.has_failed}

    @property
    def command_code(self) -> int | None:
        """The exit code of the user's command; None: there is none, or it has not ended."""
        for pod in self._pods.values():
            pod.receive()
        return next((it.command for it in self._pods.values() if it.command is not None), None)

    @property
    def eps(self) -> float:
        """By how much the times of operations may be wrong, in seconds. Known after the end."""
        return max((pod.eps for pod in self._pods.values()), default=0.0)

    def open(self, timeout: float = 120.0, progress: Callable[[], None] | None = None) -> None:
        """Start the pods, and return when all have opened their pools and loaded what they read.

        Args:
            timeout: seconds.
            progress: called whenever one more pod is ready.

        Raises:
            WorkloadError: a pod can't be started, has ended, or is not ready in time.
        """
        limit = Deadline(timeout)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            for index, name in enumerate(self._plan.names):
                pod = self._pods[name] = _Pod(log, self._env)
                pod.send(self._order(index))
        waiting = set(self._pods.values())
        with selectors.DefaultSelector() as ready:
            for pod in waiting:
                ready.register(pod.stdout, selectors.EVENT_READ, pod)
            while waiting:
                found = ready.select(limit.remaining)
                if not found:
                    raise WorkloadError(
                        f"{len(waiting)} of {len(self._pods)} pods were not ready within "
                        f"{timeout:g} s; see {self._log}"
                    )
                for key, _ in found:
                    if not self._is_ready(key.data):
                        continue
                    ready.unregister(key.fileobj)
                    waiting.discard(key.data)
                    if progress is not None:
                        progress()

    def begin(self, at: float) -> None:
        """Begin the schedule.

        Args:
            at: when, in monotonic seconds.
        """
        for pod in self._pods.values():
            pod.send({"begin": at})

    def end(self, patience: float | None = None) -> dict[str, int]:
        """Begin no more operations, wait until those under way have ended, and end the pods.

        Args:
            patience: the longest wait for an operation, in seconds; by default the profile's.

        Returns:
            The exit code of each pod, by name; a signal's number below 0 for one that was killed.

        Raises:
            WorkloadError: a user's function failed.
        """
        if patience is None:
            patience = self.profile.get("patience", _OWN_CODE)
        for pod in self._pods.values():
            pod.send({"end": patience})
        limit = Deadline(patience + _LAST)
        for pod in self._pods.values():
            pod.wait(limit)
        codes = {name: pod.end() for name, pod in self._pods.items()}
        for pod in self._pods.values():
            if pod.error is not None:
                raise pod.error
        return codes

    def close(self) -> None:
        """End the pods at once. Idempotent; after `end` there is nothing left to do."""
        for pod in self._pods.values():
            pod.leave()
        limit = Deadline(_LAST)
        for pod in self._pods.values():
            pod.wait(limit)
            pod.end()

    def _order(self, index: int) -> dict[str, Any]:
        return {
            "import_path": _import_path(),
            "plan": self._plan.as_dict(),
            "pod": index,
            "env": self._env,
            "path": str(self._path),
            "deadline": self._deadline,
            "seed": self._seed,
            "environment": dict(os.environ) if self._plan.command else {},
        }

    def _is_ready(self, pod: "_Pod") -> bool:
        pod.receive()
        if pod.error is not None:
            raise pod.error
        if pod.is_silent:
            raise WorkloadError(f"a pod has ended before it was ready; see {self._log}")
        return pod.is_ready

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Pod:
    """One process.

    Attributes:
        is_ready: whether it has said so.
        is_silent: whether it says nothing any more.
        error: what it said went wrong.
        command: the exit code of its command.
        eps: see `Pods.eps`.
    """

    def __init__(self, log: IO[bytes], env: Mapping[str, str]) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_IT)}
        # redis-py loads the system's authorities for each connection, which takes 28 ms. Here the
        # run's own is the only one that anybody needs.
        environment["SSL_CERT_FILE"] = env[CA_FILE]
        environment["SSL_CERT_DIR"] = os.devnull
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own file
                [os.path.abspath(sys.executable), "-P", str(_MAIN)],  # noqa: PTH100  # no link resolved
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # so Ctrl-C and closing the terminal do not reach it
            )
        except OSError as error:
            raise WorkloadError(f"a pod can't be started: {error}") from error
        self.is_ready = self.is_silent = False
        self.error: Exception | None = None
        self.command: int | None = None
        self.eps = 0.0
        self._is_told = False
        self._rest = b""
        os.set_blocking(self.stdout.fileno(), False)

    @property
    def stdout(self) -> IO[bytes]:
        """Where it reports."""
        if self._process.stdout is None:
            raise RuntimeError("the pod was started without pipes")
        return self._process.stdout

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None: it runs."""
        return self._process.poll()

    @property
    def has_failed(self) -> bool:
        """Whether it has ended although nobody told it to, or not as it should."""
        return self.exit_code is not None and (self.exit_code != 0 or not self._is_told)

    def send(self, message: Mapping[str, object]) -> None:
        """Send it a message. One that has ended is not told anything any more."""
        self._is_told = self._is_told or "end" in message
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                stdin.write(json.dumps(message).encode() + b"\n")
                stdin.flush()

    def receive(self) -> None:
        """Take note of what it has said."""
        while not self.is_silent:
            try:
                chunk = os.read(self.stdout.fileno(), 65536)
            except BlockingIOError:
                return
            self.is_silent = not chunk
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, message: Mapping[str, Any]) -> None:
        self.is_ready = self.is_ready or "ready" in message
        self.command = message.get("command", self.command)
        self.eps = message.get("eps", self.eps)
        if "error" in message:
            self.error = revived(message["error"])

    def wait(self, limit: Deadline) -> None:
        """Wait until it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit.remaining)

    def leave(self) -> None:
        """Let it end."""
        self._is_told = True
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def end(self) -> int:
        """Kill it if it has not ended. Return its exit code."""
        if self.exit_code is None:
            self._process.kill()
        code = self._process.wait()
        self.receive()
        self.leave()
        self.is_silent = True
        self.stdout.close()
        return code


def _what(pod: _Pod) -> str:
    code = pod.exit_code or 0
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _import_path() -> list[str]:
    """Return where this process imports from, as absolute paths; "" is the current folder."""
    path = []
    for entry in sys.path:
        with contextlib.suppress(FileNotFoundError):  # the current folder was removed
            path += [os.path.abspath(entry)] if isinstance(entry, str) else []  # noqa: PTH100
    return path
