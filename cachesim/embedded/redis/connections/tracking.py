"""Client-side caching (CLIENT TRACKING): clients are notified when keys that they cache change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

from cachesim.protocols.resp import Push, encode

CHANNEL = b"__redis__:invalidate"
_MOST_KEYS = 1_000_000


@dataclass
class Tracked:
    """The options of a client that has tracking on.

    Attributes:
        redirect: the id of the client that gets the messages; 0: this client.
        broadcasts: whether it is notified of all keys, read or not (BCAST).
        prefixes: with `broadcasts`, the key prefixes; empty: all keys.
        mode: `optin`, `optout` or empty.
        noloop: whether it is not notified of its own changes.
        caching: whether CLIENT CACHING said YES; None: it was not sent.
        is_broken: whether the client to redirect to has disconnected.
    """

    redirect: int = 0
    broadcasts: bool = False
    prefixes: list[bytes] = field(default_factory=list)
    mode: str = ""
    noloop: bool = False
    caching: bool | None = None
    is_broken: bool = False


class TrackingClient(Protocol):
    """A client that caches keys."""

    resp: int
    channels: dict[bytes, None]
    tracking: Tracked | None

    def push(self, message: Push) -> None:
        """Send a push message of RESP3."""
        ...

    def send(self, data: bytes) -> None:
        """Send encoded data."""
        ...


class Tracking:
    """All clients that have tracking on.

    Args:
        find: returns a client by its id, or None.
    """

    def __init__(self, find: Callable[[int], TrackingClient | None]) -> None:
        self._find = find
        self.clients: dict[TrackingClient, Tracked] = {}
        self._readers: dict[bytes, dict[TrackingClient, None]] = {}

    def start(self, client: TrackingClient, tracked: Tracked) -> None:
        """Turn tracking on for a client."""
        self.clients[client] = client.tracking = tracked

    def stop(self, client: TrackingClient) -> None:
        """Turn tracking off for a client. Idempotent."""
        if self.clients.pop(client, None) is not None:
            client.tracking = None
            self._readers = {
                key: others
                for key, readers in self._readers.items()
                if (others := {reader: None for reader in readers if reader is not client})
            }

    def read(self, by: object, keys: Iterable[bytes]) -> None:
        """Note that a client has read keys."""
        client = cast(TrackingClient, by)
        tracked = self.clients.get(client)
        if tracked is None:
            return
        caching, tracked.caching = tracked.caching, None
        skips = (tracked.mode == "optin" and not caching) or (
            tracked.mode == "optout" and caching is False
        )
        if tracked.broadcasts or skips:
            return
        for key in keys:
            self._readers.setdefault(key, {})[client] = None
        while len(self._readers) > _MOST_KEYS:
            oldest = next(iter(self._readers))
            self.changed([oldest], None)

    def changed(self, keys: Sequence[bytes], by: object) -> None:
        """Notify the clients that have read changed keys, or that use BCAST.

        Args:
            by: the client that has changed the keys, or None.
        """
        for key in dict.fromkeys(keys):
            for client in self._readers.pop(key, {}):
                self._invalidate(client, [key], by)
        for client, tracked in list(self.clients.items()):
            if tracked.broadcasts:
                prefixes = tuple(tracked.prefixes) or (b"",)
                wanted = [key for key in dict.fromkeys(keys) if key.startswith(prefixes)]
                if wanted:
                    self._invalidate(client, wanted, by)

    def flushed(self) -> None:
        """Notify all clients that all keys were deleted."""
        self._readers.clear()
        for client in list(self.clients):
            self._invalidate(client, None, None)

    def _invalidate(self, client: TrackingClient, keys: list[bytes] | None, by: object) -> None:
        tracked = self.clients.get(client)
        if tracked is None or (tracked.noloop and by is client):
            return
        listener = client
        if tracked.redirect:
            other = self._find(tracked.redirect)
            if other is None:
                tracked.is_broken = True
                if client.resp == 3:
                    client.push(Push([b"tracking-redir-broken", tracked.redirect]))
                return
            listener = other
        if listener.resp == 3:
            listener.push(Push([b"invalidate", keys]))
        elif tracked.redirect and CHANNEL in listener.channels:
            listener.send(encode([b"message", CHANNEL, keys], 2))
