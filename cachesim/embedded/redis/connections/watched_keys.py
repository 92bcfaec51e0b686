"""WATCH: keys whose change makes EXEC fail."""

from collections.abc import Iterable
from typing import Protocol


class Watcher(Protocol):
    """A client that watches keys.

    Attributes:
        watched: the watched keys, and whether each had expired before.
        watch_failed: whether a watched key has changed.
    """

    watched: dict[bytes, bool]
    watch_failed: bool


class WatchedKeys:
    """All watched keys of a node.

    Attributes:
        by_key: the clients that watch each key.
    """

    def __init__(self) -> None:
        self.by_key: dict[bytes, dict[Watcher, None]] = {}

    def add(self, client: Watcher, key: bytes, *, has_expired: bool = False) -> None:
        """Make a client watch a key.

        Args:
            has_expired: whether the key has expired, but was not removed yet.
        """
        client.watched.setdefault(key, has_expired)
        self.by_key.setdefault(key, {})[client] = None

    def remove(self, client: Watcher) -> None:
        """Make a client watch no keys any more (UNWATCH)."""
        for key in client.watched:
            if (watchers := self.by_key.get(key)) is not None:
                watchers.pop(client, None)
                if not watchers:
                    del self.by_key[key]
        client.watched.clear()
        client.watch_failed = False

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note that keys have changed."""
        for key in keys:
            for watcher in self.by_key.get(key, ()):
                watcher.watch_failed = True
