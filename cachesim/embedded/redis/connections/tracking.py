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
        prefixes: with `broadcasts`, the key prefixes; an empty one for all keys.
        mode: `optin`, `optout` or empty.
        noloop: whether it is not notified of its own changes.
        caching: whether CLIENT CACHING said YES, for one command or transaction; None: not sent.
        is_used: whether that command has begun, so that `caching` ends with it.
        is_broken: whether the client to redirect to has disconnected.
    """

    redirect: int = 0
    broadcasts: bool = False
    prefixes: list[bytes] = field(default_factory=list)
    mode: str = ""
    noloop: bool = False
    caching: bool | None = None
    is_used: bool = False
    is_broken: bool = False


class TrackingClient(Protocol):
    """A client that caches keys."""

    resp: int
    channels: dict[bytes, None]
    tracking: Tracked | None

    def push_later(self, message: Push) -> None:
        """Send a push message of RESP3 after the answer to the request that is running."""
        ...

    def send(self, data: bytes) -> None:
        """Send encoded data."""
        ...


class Tracking:
    """All clients that have tracking on.

    Args:
        find: returns a client by its id, or None.
        later: calls something when the requests that have arrived are answered.
        defer: calls something when no script runs, as `ScriptRunner.defer`.
    """

    def __init__(
        self,
        find: Callable[[int], TrackingClient | None],
        later: Callable[[Callable[[], None]], object],
        defer: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._find = find
        self._later = later
        self._defer = defer
        self._to_broadcast: dict[bytes, object] = {}  # keys, and who has changed each last
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
        skips = (tracked.mode == "optin" and not tracked.caching) or (
            tracked.mode == "optout" and tracked.caching is False
        )
        if tracked.broadcasts or skips:
            return
        for key in keys:
            self._readers.setdefault(key, {})[client] = None
        while len(self._readers) > _MOST_KEYS:
            oldest = next(iter(self._readers))
            self.changed([oldest], None)

    def totals(self) -> dict[str, object]:
        """Return how much is tracked, as INFO names it."""
        prefixes = {prefix for tracked in self.clients.values() for prefix in tracked.prefixes}
        return {
            "tracking_total_keys": len(self._readers),
            "tracking_total_items": sum(map(len, self._readers.values())),
            "tracking_total_prefixes": len(prefixes),
        }

    def changed(self, keys: Sequence[bytes], by: object) -> None:
        """Notify the clients that have read changed keys, or that use BCAST.

        Args:
            by: the client that has changed the keys, or None.
        """
        for key in dict.fromkeys(keys):
            for client in self._readers.pop(key, {}):
                tracked = self.clients.get(client)
                if tracked is not None and not (tracked.noloop and by is client):
                    self._invalidate(client, [key])
        if any(tracked.broadcasts for tracked in self.clients.values()):
            is_first = not self._to_broadcast
            self._to_broadcast.update(dict.fromkeys(keys, by))
            if is_first:
                self._later(self._broadcast)

    def _broadcast(self) -> None:
        """Notify the clients that broadcast of all keys that have changed, prefix by prefix."""
        if self._defer(self._broadcast):
            return
        changed, self._to_broadcast = self._to_broadcast, {}
        clients = [(c, tracked) for c, tracked in self.clients.items() if tracked.broadcasts]
        for prefix in sorted({prefix for _, tracked in clients for prefix in tracked.prefixes}):
            keys = sorted(key for key in changed if key.startswith(prefix))
            for client, tracked in clients:
                if prefix not in tracked.prefixes:
                    continue
                told = [key for key in keys if not (tracked.noloop and changed[key] is client)]
                if told:
                    self._invalidate(client, told)

    def flushed(self) -> None:
        """Notify all clients that all keys were deleted."""
        self._readers.clear()
        for client in list(self.clients):
            self._invalidate(client, None)

    def _invalidate(self, client: TrackingClient, keys: list[bytes] | None) -> None:
        tracked = self.clients.get(client)
        if tracked is None:
            return
        listener = client
        if tracked.redirect:
            other = self._find(tracked.redirect)
            if other is None:
                tracked.is_broken = True
                if client.resp == 3:
                    client.push_later(Push([b"tracking-redir-broken", tracked.redirect]))
                return
            listener = other
        if listener.resp == 3:
            listener.push_later(Push([b"invalidate", keys]))
        elif tracked.redirect and CHANNEL in listener.channels:
            listener.send(encode([b"message", CHANNEL, keys], 2))
