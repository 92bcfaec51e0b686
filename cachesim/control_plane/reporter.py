"""Records the control plane's events, each lasting condition once."""

from cachesim.events import EventKind, EventLog


class Reporter:
    """Records events.

    Attributes:
        group: the replication group's name, the source of events that are about no single node.
    """

    def __init__(self, events: EventLog, group: str) -> None:
        self.group = group
        self._events = events
        self._reported: set[tuple[str, str]] = set()

    def record(self, kind: EventKind, source: str, message: str, **data: object) -> None:
        """Record an event. Conditions that were reported before may be reported again."""
        self.reset()
        self._events.record(kind, source, message, **data)

    def record_once(self, kind: EventKind, source: str, message: str) -> None:
        """Record a condition that lasts: once, until something else happens."""
        if (source, message) not in self._reported:
            self._reported.add((source, message))
            self._events.record(kind, source, message)

    def reset(self) -> None:
        """Forget which conditions were reported."""
        self._reported.clear()
