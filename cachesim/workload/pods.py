"""Starts the pods of a workload, and ends them. Their side is `cachesim.workload.host`."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import cachesim
from cachesim.clock import Deadline
from cachesim.errors import WorkloadError, revived
from cachesim.runs import python
from cachesim.runs.env import CA_FILE
from cachesim.topology import Endpoint
from cachesim.workload.plan import POOL, Plan
from cachesim.workload.profile import longest, profiles_of

_MAIN = Path(cachesim.__file__).with_name("workload") / "__main__.py"
_LAST = 5.0
"""Seconds for a pod to write its last rows and end."""
_LOOK = 0.02
"""Seconds between two looks at a command that has outlived its pod."""
_OWN_CODE = 10.0
"""Seconds for a user's function to return, if it declares no patience."""


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
        pool: how many connections each has to a node, and workers. None: a user's own code has
            them, and nobody knows.
        profiles: `patience` and `comeback` of the client of each service that is built in, in
            seconds.
        profile: the longest of them; empty for a user's own function.
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
        self.pool = None if plan.command or plan.python else POOL
        self.profiles = profiles_of(plan)
        self.profile = longest(self.profiles)
        self._plan = plan
        self._env = dict(env)
        self._path = path
        self._deadline = deadline
        self._seed = seed
        self._log = path.with_name("workload.log") if log is None else log
        self._pods = {name: _Pod() for name in plan.names}
        self._host: _Host | None = None

    @property
    def alive(self) -> tuple[str, ...]:
        """The names of the pods that run."""
        self._receive()
        if self._host is None:
            return ()
        return tuple(name for name, pod in self._pods.items() if pod.code is None)

    @property
    def dead(self) -> dict[str, str]:
        """What became of each pod that has not ended as it should: `killed by SIGKILL`."""
        self._receive()
        return {name: _what(pod.code) for name, pod in self._pods.items() if pod.code}

    @property
    def failure(self) -> str | None:
        """Why a pod has ended by itself: a user's function has failed, say. None: none has."""
        self._receive()
        pods = self._pods.values()
        return next((str(it.error) for it in pods if it.code is not None and it.error), None)

    @property
    def command_code(self) -> int | None:
        """The exit code of the user's command; None: there is none, or it has not ended."""
        self._receive()
        return next((it.command for it in self._pods.values() if it.command is not None), None)

    @property
    def command_ended_at(self) -> float | None:
        """When the user's command ended, in monotonic seconds; None: as `command_code`."""
        self._receive()
        return next((it.ended_at for it in self._pods.values() if it.ended_at is not None), None)

    @property
    def eps(self) -> float:
        """By how much the times of operations may be wrong, in seconds. Known after the end."""
        return max(pod.eps for pod in self._pods.values())

    def open(self, timeout: float = 120.0, progress: Callable[[], None] = lambda: None) -> None:
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
            self._host = _Host(log, self._env)
        self._host.send(self._order())
        ready = 0
        while ready < len(self._pods):
            self._receive(limit)
            states = self._pods.values()
            for error in (pod.error for pod in states if pod.error is not None):
                raise error
            if self._host.is_silent or any(pod.code is not None for pod in states):
                raise WorkloadError(f"a pod has ended before it was ready; see {self._log}")
            before, ready = ready, sum(pod.is_ready for pod in states)
            for _ in range(ready - before):
                progress()
            if limit.expired:
                raise WorkloadError(
                    f"{len(self._pods) - ready} of {len(self._pods)} pods were not ready within "
                    f"{timeout:g} s; see {self._log}"
                )

    def begin(self, at: float) -> None:
        """Begin the schedule.

        Args:
            at: when, in monotonic seconds.
        """
        if self._host is not None:
            self._host.send({"begin": at})

    def know(self, node: str, address: Endpoint) -> None:
        """Note a node's new address, so that what is recorded has its name. Clients are not told.

        Only after `open`.
        """
        if self._host is not None:
            self._host.send({"node": node, "address": str(address)})

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
        if self._host is not None:
            self._host.send({"end": patience})
            self._end(patience + _LAST)
        for error in (pod.error for pod in self._pods.values() if pod.error is not None):
            raise error
        return {name: pod.code or 0 for name, pod in self._pods.items()}

    def close(self) -> None:
        """End the pods at once. Idempotent; after `end` there is nothing left to do."""
        if self._host is not None:
            self._host.leave()
            self._end(_LAST)

    def _end(self, seconds: float) -> None:
        """Wait until all pods have ended, and kill those that have not."""
        if self._host is None:
            return
        limit = Deadline(seconds)
        states = self._pods.values()
        while any(pod.code is None for pod in states) and not self._host.is_silent:
            if limit.expired:
                self._host.kill()
                break
            self._receive(limit)
        self._host.end()
        self._all_have_ended()
        for pod in states:
            pod.end_command(limit)

    def _receive(self, limit: Deadline | None = None) -> None:
        """Take note of what the pods have said.

        Args:
            limit: until when to wait for more; by default not at all.
        """
        if self._host is not None:
            for message in self._host.receive(limit):
                self._pods[message["pod"]].take(message)
            if self._host.is_silent:  # it was killed, which ends its pods
                self._all_have_ended()
            for pod in self._pods.values():
                pod.end_command()

    def _all_have_ended(self) -> None:
        for pod in self._pods.values():
            pod.code = -signal.SIGKILL if pod.code is None else pod.code

    def _order(self) -> dict[str, Any]:
        return {
            "import_path": python.import_path(),
            "plan": self._plan.as_dict(),
            "env": self._env,
            "path": str(self._path.absolute()),
            "deadline": self._deadline,
            "seed": self._seed,
            "environment": dict(os.environ) if self._plan.command else {},
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass
class _Pod:
    """What is known of a pod.

    Attributes:
        code: its exit code; None: it has not ended.
        error: what it said went wrong.
        command, ended_at: the exit code of its command, and when that ended.
        group: the process group of its command.
        eps: see `Pods.eps`.
    """

    is_ready: bool = False
    code: int | None = None
    error: Exception | None = None
    command: int | None = None
    group: int | None = None
    ended_at: float | None = None
    eps: float = 0.0
    _is_told: bool = False

    def take(self, message: Mapping[str, Any]) -> None:
        """Take note of what was said of it."""
        self.is_ready = message.get("ready", self.is_ready)
        self.code = message.get("code", self.code)
        self.command = message.get("command", self.command)
        self.group = message.get("group", self.group)
        self.ended_at = message.get("ended_at", self.ended_at)
        self.eps = message.get("eps", self.eps)
        if "error" in message:
            self.error = revived(message["error"])

    def end_command(self, limit: Deadline | None = None) -> None:
        """End a command, and all that it has started, that has outlived its pod.

        Args:
            limit: until when to wait for that; then it is killed. None: it is not waited for.
        """
        if self.code is None or self.command is not None or self.group is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of it has ended
            if not self._is_told:
                self._is_told = True
                os.killpg(self.group, signal.SIGTERM)
            if limit is None:
                return
            while not limit.expired:
                os.killpg(self.group, 0)
                time.sleep(_LOOK)
            os.killpg(self.group, signal.SIGKILL)
        self.group = None


class _Host:
    """The process that the pods are forked from.

    Attributes:
        is_silent: whether it and all pods have ended.
    """

    def __init__(self, log: IO[bytes], env: Mapping[str, str]) -> None:
        environment = python.environment()
        # redis-py loads the system's authorities for each connection, which takes 28 ms. Here the
        # run's own is the only one that anybody needs.
        environment["SSL_CERT_FILE"] = env[CA_FILE]
        environment["SSL_CERT_DIR"] = os.devnull
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own file
                python.command(_MAIN),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # so Ctrl-C and closing the terminal do not reach it
            )
        except OSError as error:
            raise WorkloadError(f"the pods can't be started: {error}") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._said = selectors.DefaultSelector()
        self._said.register(self._stdout, selectors.EVENT_READ)
        self.is_silent = False
        self._rest = b""

    def send(self, message: Mapping[str, object]) -> None:
        """Send all pods a message. Those that have ended are not told anything any more."""
        with contextlib.suppress(OSError, ValueError):
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def receive(self, limit: Deadline | None) -> Iterator[dict[str, Any]]:
        """Return what was said.

        Args:
            limit: until when to wait for something; None: not at all.
        """
        seconds = 0.0 if limit is None else limit.remaining
        while not self.is_silent and self._said.select(seconds):
            chunk = os.read(self._stdout.fileno(), 65536)
            self.is_silent, seconds = not chunk, 0.0
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from map(json.loads, lines)

    def kill(self) -> None:
        """Kill it and all pods."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Let it and all pods end."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def end(self) -> None:
        """Wait for its end, which is that of the last pod. Idempotent."""
        self._process.wait()
        self.leave()
        self._said.close()
        self._stdout.close()
        self.is_silent = True


def _what(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
