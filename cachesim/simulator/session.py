"""The use of a running topology by this process: as its owner, or with its lease."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cachesim.errors import CachesimError, NotRunning, StartError
from cachesim.runs.calls import Call, Description
from cachesim.runs.owner import Owner
from cachesim.runs.registry import Run
from cachesim.runs.rpc import Channel, TakenDown
from cachesim.simulator.connection import Connection
from cachesim.simulator.launching import DaemonProcess

_ENDING = 90.0  # seconds that taking a topology down may take
STUCK = 10.0  # seconds after which a process does not end by itself


class Session:
    """A running topology, while this process owns it or has its lease.

    Attributes:
        connection: makes calls.
        description: what it is.
        first_event: the number of the event after which its event log begins.
        is_detached: whether it goes on without its owner.
    """

    def __init__(
        self,
        connection: Connection,
        description: Description,
        first_event: int = 0,
        process: DaemonProcess | None = None,
    ) -> None:
        self._process = process
        self.connection = connection
        self.description = description
        self.first_event = first_event
        self.is_detached = False
        self._lease: Channel | None = None

    def env(self) -> dict[str, str]:
        """Return the variables that a service reads.

        Where the topology can't be asked for them, such as in a forked child, the last known ones.
        """
        with contextlib.suppress(NotRunning):
            self.description["env"] = self.connection.call(Call.DESCRIBE)["env"]
        return dict(self.description["env"])

    def lease(self) -> None:
        """Let other clients only look at the topology, until the session ends."""
        channel = self.connection.lasting_channel()
        try:
            channel.call(Call.LEASE, settings={})
        except BaseException:
            channel.close()
            raise
        self._lease = channel

    def wake(self) -> None:
        """Resume the topology's process, if this one owns it and it was stopped by SIGSTOP."""
        if self._process is not None:
            self._process.resume()

    def detach(self) -> None:
        """Let the topology go on after the session; a lease of it is returned."""
        if self._process is None:
            return  # another process owns it, and the end of the session returns the lease
        self.connection.call(Call.DETACH)
        self.is_detached = True
        self.give_back()

    def give_back(self) -> None:
        """Return the lease, if `lease` has taken it: the topology is healed."""
        if self._lease is not None:
            self._lease.call(Call.RETURN)


@contextlib.contextmanager
def owned(
    process: DaemonProcess, name: str, seed: int, progress: Callable[[str], None]
) -> Iterator[Session]:
    """Start a topology in its process, and take it down at the end, unless it is detached.

    Raises:
        StartError: it did not start; nothing is left behind.
        NotRunning: its process has died.
        CachesimError: not everything could be taken down.
    """
    try:
        description = process.start(name, seed, progress)
        session = Session(Connection(_run(description)), description, process=process)
    except BaseException:
        process.interrupt()
        raise
    try:
        yield session
    finally:
        if not session.connection.is_forked:  # the exit of a forked child ends its copy of this
            _end(process, session)


@contextlib.contextmanager
def leased(run: Run, settings: Mapping[str, Any]) -> Iterator[Session]:
    """Take the lease of a topology that is up, and return it at the end.

    Args:
        settings: the settings for the time of the lease, by name.

    Raises:
        CachesimError: it can't be leased, or could not be healed at the end.
    """
    with contextlib.closing(Connection(run)) as connection, connection.channel() as channel:
        description = channel.call(Call.LEASE, settings=settings)
        try:
            yield Session(connection, description, description["events"] - 1)  # it has the lease
        finally:
            if not connection.is_forked:
                with contextlib.suppress(TakenDown):
                    channel.call(Call.RETURN)


@contextlib.contextmanager
def shared(run: Run) -> Iterator[Session]:
    """Use a topology that is up beside its other clients; its event log is there from the start.

    Raises:
        CachesimError: it can't be reached; or it was leased, and could not be healed at the end.
    """
    with contextlib.closing(Connection(run)) as connection:
        session = Session(connection, connection.call(Call.DESCRIBE))
        try:
            yield session
        finally:
            if not connection.is_forked:
                with contextlib.suppress(TakenDown):
                    session.give_back()  # else the end of the connection would lose it


def _end(process: DaemonProcess, session: Session) -> None:
    try:
        if not session.is_detached:
            _take_down(session.connection)
    finally:
        session.connection.close()
        _part(process, session)


def _run(description: Description) -> Run:
    owner = Owner.parse(description["owner"])
    if owner is None:
        raise StartError(f"the topology's process has no owner: {description['owner']!r}")
    return Run(description["name"], Path(description["folder"]), owner)


def _take_down(connection: Connection) -> None:
    is_heard = False
    try:
        with connection.last_channel() as channel:
            channel.begin(Call.DOWN, force=True)
            channel.part(STUCK)
            is_heard = True
            channel.result(_ENDING)
    except TakenDown:
        pass
    except NotRunning:
        raise
    except CachesimError:
        if is_heard:  # else the end of its input tells the process
            raise


def _part(process: DaemonProcess, session: Session) -> None:
    """Let go of a process, and wait for its end if it is to end."""
    if session.is_detached:
        process.detach()
        return
    process.close()  # which ends it too, should it not have answered
    try:
        process.wait(STUCK)
    except TimeoutError as error:
        name = session.description["name"]
        raise CachesimError(
            f"process {process.pid} of the topology {name!r} does not end. Kill it, then run "
            "`cachesim gc`."
        ) from error
