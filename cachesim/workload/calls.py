"""One operation of a workload, before and while it is done."""

import threading
from abc import ABC, abstractmethod
from typing import Any

from cachesim.history.rows import Kind, Operation, Outcome
from cachesim.workload.values import Version


class Call(ABC):
    """An operation on one key.

    Attributes:
        service, kind, key: as `cachesim.history.rows.Operation` has them.
        written: the version that it writes.
        ttl: the TTL that it sets, in seconds.
        ledger: 1 if its key is written once and never again.
    """

    __slots__ = ("key", "ledger", "ttl", "written")
    service: str
    kind: Kind

    def __init__(
        self,
        key: str,
        written: Version | None = None,
        ttl: float | None = None,
        ledger: int = 0,
    ) -> None:
        self.key = key
        self.written = written
        self.ttl = ttl
        self.ledger = ledger

    @abstractmethod
    def send(self) -> Version | None:
        """Do it, and return the version that was read."""

    @abstractmethod
    def outcome_of(self, error: Exception) -> Outcome:
        """Return what an error of `send` says."""

    def row(
        self,
        pod: str,
        worker: int,
        due: float,
        start: float,
        end: float | None,
        outcome: Outcome,
        read: Version | None = None,
        **more: Any,
    ) -> Operation:
        """Return how it went, for the history. See `Operation` for the arguments."""
        return Operation(
            pod=pod,
            worker=worker,
            service=self.service,
            kind=self.kind,
            key=self.key,
            due=due,
            start=start,
            end=end,
            outcome=outcome,
            writer=None if self.written is None else self.written.writer,
            written=None if self.written is None else self.written.number,
            read_writer=None if read is None else read.writer,
            read=None if read is None else read.number,
            ttl=self.ttl,
            ledger=self.ledger,
            **more,
        )

    def after(self, outcome: Outcome, read: Version | None) -> "Call | None":  # noqa: ARG002
        """Take note of its end, and return what has to be done then. Shed ones end too."""
        return None


class Asked(threading.local):
    """What the client has asked in the current call of this thread.

    Attributes:
        node: the node that it was sent to last.
        connection: the connection to it.
        attempts: how often it was sent.
    """

    node: str | None = None
    connection: str | None = None
    attempts: int = 0

    def told(self) -> dict[str, Any]:
        """Return it as the fields of an `Operation`."""
        return {"node": self.node, "connection": self.connection, "attempts": self.attempts}

    def clear(self) -> None:
        """Begin another call."""
        self.node = self.connection = None
        self.attempts = 0
