"""One operation of a workload, before and while it is done."""

import threading
from abc import ABC, abstractmethod

from cachesim.history.rows import Kind, Outcome
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

    def clear(self) -> None:
        """Begin another call."""
        self.node = self.connection = None
        self.attempts = 0
