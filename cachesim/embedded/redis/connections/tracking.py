"""Client-side caching: who is to be told when which keys change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.connections.client import Client
from cachesim.protocols.resp import Push, encode

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session

CHANNEL = b"__redis__:invalidate"
_MOST_KEYS = 1_000_000


@dataclass
class Tracked:
    """What a client has asked for.

    Attributes:
        redirect: the id of the client that is told in its place; 0 for itself.
        prefixes: with `broadcasts`, those of the keys that it wants to hear of.
        mode: `optin`, `optout`, or neither.
        caching: what CLIENT CACHING said about the next command.
    """

    redirect: int = 0
    broadcasts: bool = False
    prefixes: list[bytes] = field(default_factory=list)
    mode: str = ""
    noloop: bool = False
    caching: bool | None = None
    is_broken: bool = False


class Tracking:
    """All that want to be told."""

    def __init__(self) -> None:
        self.sessions: dict[Session, Tracked] = {}
        self._readers: dict[bytes, dict[Session, None]] = {}

    def start(self, session: "Session", tracked: Tracked) -> None:
        """Tell a client from now on."""
        self.sessions[session] = session.tracking = tracked

    def stop(self, session: "Session") -> None:
        """Tell a client no more. Repeating it is harmless."""
        if self.sessions.pop(session, None) is not None:
            session.tracking = None
            self._readers = {
                key: others
                for key, readers in self._readers.items()
                if (others := {reader: None for reader in readers if reader is not session})
            }

    def read(self, client: Client, keys: Iterable[bytes]) -> None:
        """A client has read keys."""
        session = cast("Session", client)
        tracked = self.sessions.get(session)
        if tracked is None:
            return
        caching, tracked.caching = tracked.caching, None
        skips = (tracked.mode == "optin" and not caching) or (
            tracked.mode == "optout" and caching is False
        )
        if tracked.broadcasts or skips:
            return
        for key in keys:
            self._readers.setdefault(key, {})[session] = None
        while len(self._readers) > _MOST_KEYS:
            oldest = next(iter(self._readers))
            self.changed([oldest], None)

    def changed(self, keys: Sequence[bytes], by: Client | None) -> None:
        """Tell those who have read keys, or want to hear of all."""
        for key in dict.fromkeys(keys):
            for session in self._readers.pop(key, {}):
                self._tell(session, [key], by)
        for session, tracked in list(self.sessions.items()):
            if tracked.broadcasts:
                prefixes = tuple(tracked.prefixes) or (b"",)
                wanted = [key for key in dict.fromkeys(keys) if key.startswith(prefixes)]
                if wanted:
                    self._tell(session, wanted, by)

    def flushed(self) -> None:
        """Tell everybody that all keys are gone."""
        self._readers.clear()
        for session in list(self.sessions):
            self._tell(session, None, None)

    def _tell(self, session: "Session", keys: list[bytes] | None, by: Client | None) -> None:
        tracked = self.sessions.get(session)
        if tracked is None or (tracked.noloop and by is session):
            return
        listener = session
        if tracked.redirect:
            other = session.server.sessions.get(tracked.redirect)
            if other is None:
                tracked.is_broken = True
                if session.resp == 3:
                    session.push(Push([b"tracking-redir-broken", tracked.redirect]))
                return
            listener = other
        if listener.resp == 3:
            listener.push(Push([b"invalidate", keys]))
        elif tracked.redirect and CHANNEL in listener.channels:
            listener.send(encode([b"message", CHANNEL, keys], 2))
