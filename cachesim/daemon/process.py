"""The process of a topology, from its owner's order to the end of the topology.

On stdin, one JSON object a line, come the settings and later the word to start. On stdout, until
the topology is up, go its answers, steps and errors. The end of stdin is the owner's end. See
`cachesim.simulator.launching` for the owner's side.
"""

import contextlib
import gc
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cachesim.daemon.signals import INTERRUPTED, Interrupted, Interrupts
from cachesim.errors import CachesimError, StartError, as_json
from cachesim.runs.directory import ADDRESS
from cachesim.runs.owner import Owner
from cachesim.runs.registry import not_running

if TYPE_CHECKING:
    from cachesim.daemon.operations import Operations
    from cachesim.daemon.provisioning import Provider, Provision
    from cachesim.daemon.server import Server
    from cachesim.daemon.service import Answers
    from cachesim.events import EventLog
    from cachesim.settings import Settings

_LOOK = 0.5  # seconds within which the end of an owner is noticed whose child holds the pipe
_ANSWERING = 1.0  # seconds for the last answers


class _Report(Protocol):
    def __call__(self, **message: object) -> None: ...


class Life:
    """The end of this process: when it is due, and what came of it.

    Attributes:
        owner: the process whose end is the topology's, such as `process 7`; None: it is detached.
    """

    def __init__(self, interrupts: Interrupts, owner: int) -> None:
        self._interrupts = interrupts
        self._address: Path | None = None
        self._is_over = threading.Event()
        self._error: Exception | None = None
        self.owner: str | None = f"process {owner}"
        self._begin(partial(self._watch, Owner.of(owner)))

    def all_is_ordered(self) -> None:
        """Take the end of stdin, from which nothing else is read any more, for the owner's."""
        self._begin(self._read_to_the_end)

    @property
    def requested(self) -> bool:
        """Whether the process is to end."""
        return self._interrupts.requested

    def lives_in(self, folder: Path) -> None:
        """End the process too when this folder is removed, or its file with the address."""
        self._address = folder / ADDRESS

    def detach(self) -> None:
        """Let the process outlive its owner."""
        self.owner = None

    def request(self) -> None:
        """Make the process end soon."""
        self._interrupts.request()

    def end(self, error: Exception | None) -> None:
        """Tell that all is taken down, or what went wrong."""
        self._error = error
        self._is_over.set()

    def wait_taken_down(self) -> None:
        """Wait until all is taken down.

        Raises:
            CachesimError: not everything could be taken down.
        """
        self._is_over.wait()
        if self._error is not None:
            raise self._error

    def _begin(self, watch: Callable[[], None]) -> None:
        threading.Thread(target=watch, name="cachesim-owner", daemon=True).start()

    def _read_to_the_end(self) -> None:
        # Not by sys.stdin, which Python could not close at its end while a thread reads from it.
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        if self.owner is not None:
            self._interrupts.interrupt()

    def _watch(self, owner: Owner) -> None:
        # A child that the owner has forked may hold the pipe, so its end alone does not do.
        while not (self.owner is not None and owner.is_gone) and not self._is_lost:
            time.sleep(_LOOK)
        if not self.requested:
            self._interrupts.interrupt()

    @property
    def _is_lost(self) -> bool:
        """Whether the run's files were removed, so that nobody can call this process any more."""
        try:
            return self._address is not None and not self._address.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False


def run(owner: int, like: dict[str, Any] | None) -> int:
    """Run the topology that the owner orders, until it is to end.

    Args:
        owner: the owner's pid.
        like: the settings of a topology that the one to be ordered may be like, as JSON.

    Returns:
        The exit code.
    """
    try:
        with Interrupts() as interrupts, _reporting() as report:
            try:
                with interrupts.breaking():
                    life = Life(interrupts, owner)
                    provide = _ordered(report, like)
                if provide is None:
                    return 0
                life.all_is_ordered()
                return _host(provide, life, interrupts, report)
            except CachesimError as error:
                report(error=as_json(error))
                return 1
    except Interrupted:
        return INTERRUPTED


def _ordered(report: _Report, like: dict[str, Any] | None) -> "Provider | None":
    """Read the settings, and then the word to start; None if the owner ends before."""
    from cachesim.settings import Settings, load_settings

    if like is not None:
        _preload(Settings.model_validate(like))
    if (order := _read()) is None:
        return None
    _surround(order["environment"], order["current_folder"])
    if "settings" in order:
        settings = Settings.model_validate(order["settings"])
    else:
        settings = load_settings(order["arguments"]).settings
    compose = None
    if order["folder"] is not None:
        from cachesim.backends.compose.backend import ComposeBackend

        compose = ComposeBackend(Path(order["folder"]), settings.start_timeout_seconds)
        settings = settings.model_copy(update=compose.composed.settings)
    report(settings=settings.model_dump(mode="json"))
    _preload(settings)
    from cachesim.daemon import provisioning

    if (start := _read()) is None:
        return None
    name, seed = start["name"], start["seed"]
    if compose is not None:
        return partial(provisioning.take_over_composed, compose, name, settings, seed)
    return partial(provisioning.start, name, settings, seed)


def _preload(settings: "Settings") -> None:
    from cachesim.daemon.provisioning import preload  # slow to import

    preload(settings)


def _surround(environment: dict[str, str], folder: str | None) -> None:
    """Take over the owner's variables and its current folder, which may have changed."""
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        with contextlib.suppress(OSError):  # it was removed meanwhile
            os.chdir(folder)


def _host(provide: "Provider", life: Life, interrupts: Interrupts, report: _Report) -> int:
    """Start a topology, answer calls until it is to end, and take it down."""
    from cachesim.events import EventLog

    events = EventLog()
    with contextlib.ExitStack() as stack:
        with interrupts.breaking():
            steps = itertools.count(1)

            def step(line: str) -> None:
                # The first step pulls the images, which may take minutes. The others create
                # things; an interrupt there would leave unknown things behind.
                if next(steps) > 1:
                    interrupts.hold()
                report(step=line)

            it = provide(step, stack)
            server, answers = _operated(it, events, life, step, stack)
        events.record("started", it.name, f"on {it.backend.name}, seed {it.seed}")
        report(ready=answers.describe())
        topology = stack.pop_all()
    gc.freeze()  # what is there stays: a later collection need not look at it
    gc.enable()
    _leave_owners_streams(it.files.log)
    interrupts.wait()
    events.end(not_running(it.name))
    problem = _take_down(topology, it.name)
    life.end(problem)
    server.finish(_ANSWERING)
    if problem is not None:
        print(problem, file=sys.stderr)
    return 0 if problem is None else 1


def _operated(
    it: "Provision",
    events: "EventLog",
    life: Life,
    progress: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> "tuple[Server, Answers]":
    """Wait until all is ready, and start what watches it, breaks it and answers calls."""
    from cachesim.clock import Deadline
    from cachesim.daemon.operations import Operations
    from cachesim.daemon.readiness import wait_through_links
    from cachesim.daemon.server import Server
    from cachesim.daemon.service import Answers

    if it.folder is not None:
        stack.callback(_leave_healthy, it, events)
    progress("waiting until all is ready through the links")
    wait_through_links(it, Deadline(it.settings.start_timeout_seconds))
    operations = Operations(it, events)
    stack.callback(operations.close)
    if it.folder is not None:
        stack.callback(_end_faults, operations)
    answers = Answers(operations, life)
    server = Server(it.files.folder, answers)
    stack.callback(server.close)
    life.lives_in(it.files.folder)
    it.files.save_user(life.owner)
    it.save_env()
    return server, answers


def _take_down(topology: contextlib.ExitStack, name: str) -> CachesimError | None:
    """Take everything down; return what went wrong."""
    try:
        topology.close()
    except Exception as error:
        problem = CachesimError(
            f"not everything of the topology {name!r} could be taken down: {error}. `cachesim gc`, "
            "or the next start of a topology, removes what is left as soon as the Docker engine "
            "answers."
        )
        problem.__cause__ = error
        return problem
    return None


def _end_faults(operations: "Operations") -> None:
    """Undo what only those who applied a fault know of, such as limits; nobody applies another."""
    operations.control_plane.stop()  # before, as it may wait for the nodes
    with contextlib.suppress(Exception):  # docker compose may have taken them down before
        operations.faults.close()


def _leave_healthy(it: "Provision", events: "EventLog") -> None:
    """Restore the servers that docker compose keeps. If that fails, the next attach does it."""
    from cachesim.daemon.operations import Operations
    from cachesim.daemon.restoring import Restorer

    # docker compose may have taken them down before.
    with (
        contextlib.suppress(Exception),
        # The others are closed, or a start that failed never had any.
        contextlib.closing(Operations(it, events)) as operations,
    ):
        # For good, or it might replace a node because of an old failure.
        operations.control_plane.stop()
        Restorer(operations).make_healthy()


def _read() -> Any:
    """Return the owner's next message; None at the end."""
    return json.loads(sys.stdin.buffer.readline() or b"null")


@contextlib.contextmanager
def _reporting() -> Iterator[_Report]:
    """Yield a function that sends the owner a message, and keep stdout for it alone."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)

        def report(**message: object) -> None:
            try:
                print(json.dumps(message), file=stdout, flush=True)
            except OSError as error:
                raise StartError("the process that started this one has ended") from error

        yield report


def _leave_owners_streams(log: Path) -> None:
    """Write to the run's log from now on, if it is there."""
    try:
        file = log.open("ab")
    except OSError:  # such a problem must not leave containers behind
        return
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
