"""The connection of a simulator to the process of its topology."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from cachesim.errors import CachesimError, NotRunning
from cachesim.runs.registry import Run, not_running
from cachesim.runs.rpc import ANSWER, Channel, Client


class Connection:
    """Makes calls to the process of a topology, from its start to its end. Thread-safe.

    Attributes:
        name: the topology's name.
    """

    def __init__(self, run: Run) -> None:
        self.name = run.name
        self._client = Client(run)
        self._pid = os.getpid()
        self._is_over = False

    def check(self) -> None:
        """Do nothing, if the topology runs and this process is not a fork.

        Raises:
            NotRunning: it does not.
        """
        if self.is_forked:
            raise NotRunning(
                f"the topology {self.name!r} belongs to process {self._pid}, which this one was "
                "forked from: call its methods there, and use only clients and environment "
                "variables here"
            )
        if self._is_over:
            raise NotRunning(not_running(self.name))

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from the one that connected."""
        return os.getpid() != self._pid

    def call(self, operation: str, **arguments: Any) -> Any:
        """Make a call of `cachesim.runs.calls`, and return its answer.

        Raises:
            NotRunning: the topology does not run, or this process is a fork.
            CachesimError: the topology's process did not answer, or raised it.
        """
        with self._checked():
            return self._client.call(operation, **arguments)

    def wait(self, operation: str, *, limit: float | None = None, **arguments: Any) -> Any:
        """Make a call that waits, on a connection of its own.

        Args:
            limit: seconds that the answer may take; None: as long as it takes.
        """
        timeout = None if limit is None else limit + ANSWER
        with self.channel() as channel, self._checked():
            return channel.call(operation, timeout=timeout, **arguments)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """Yield a connection of its own: what is done on it ends with it."""
        self.check()
        with self.last_channel() as channel:
            yield channel

    def lasting_channel(self) -> Channel:
        """Return a connection of its own: what is done on it ends with this connection."""
        self.check()
        return self._client.channel()

    @contextlib.contextmanager
    def last_channel(self) -> Iterator[Channel]:
        """Yield a connection of its own, after `end` too."""
        channel = self._client.channel()
        try:
            yield channel
        finally:
            self._client.hang_up(channel)

    @property
    def is_over(self) -> bool:
        """Whether this process has ended the topology, or its use of it."""
        return self._is_over

    def end(self) -> None:
        """Refuse all calls from now on."""
        self._is_over = True

    def close(self) -> None:
        """End all calls in progress."""
        self.end()
        self._client.close()

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        self.check()
        try:
            yield
        except CachesimError:
            self.check()  # it may have ended meanwhile
            raise
