"""Keyspace notifications: messages about commands that have changed keys, and about keys' ends."""

from collections.abc import Collection, Container, Iterable, Iterator

from cachesim.embedded.redis.connections.pubsub import PubSub

_ALL = "g$lshzxetd"  # what `A` stands for, in the order that CONFIG GET shows
_ALONE = "nKEm"  # those that `A` leaves out

Event = tuple[str, str, bytes]
"""The class of an event as in `notify-keyspace-events`, its name, and the key."""


def classes_of(text: str) -> str | None:
    """Return a value of `notify-keyspace-events` in Redis's order, or None if it is wrong."""
    if set(text) - set(_ALL + _ALONE + "A"):
        return None
    has_all = "A" in text or set(_ALL) <= set(text)
    return ("A" if has_all else "") + "".join(
        c for c in ("" if has_all else _ALL) + _ALONE if c in text
    )


def shown(classes: str) -> str:
    """Return the classes as CONFIG GET shows them: Redis leaves `n` out beside `A`."""
    return classes.replace("n", "") if "A" in classes else classes


def expiry_events(
    values: Container[bytes], keys: Iterable[bytes], fields: Collection[bytes]
) -> Iterator[Event]:
    """Yield the events of keys, or of fields of these, that have expired.

    Args:
        values: the keys that are left.
    """
    for key in keys:
        yield ("h", "hexpired", key) if fields else ("x", "expired", key)
        if fields and key not in values:
            yield "g", "del", key


class Notifications:
    """Sends the events of the classes that are on."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        self._classes: frozenset[str] = frozenset()

    def configure(self, classes: str) -> None:
        """Set the classes, as `notify-keyspace-events` was given."""
        self._classes = frozenset(classes + (_ALL if "A" in classes else ""))

    @property
    def are_on(self) -> bool:
        """Return whether any event is sent."""
        return len(self._classes) > 1 and not self._classes.isdisjoint("KE")

    def send(self, events: Iterable[Event]) -> None:
        """Send events."""
        for kind, event, key in events:
            if kind in self._classes:
                name = event.encode()
                if "K" in self._classes:
                    self._pubsub.publish(b"__keyspace@0__:" + key, name)
                if "E" in self._classes:
                    self._pubsub.publish(b"__keyevent@0__:" + name, key)
