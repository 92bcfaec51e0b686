"""A client: a connection, a script, or the stream that a node replays."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachesim.embedded.redis.connections.tracking import Tracked
from cachesim.embedded.redis.dispatch.command_table import ANY, Command
from cachesim.protocols.resp import Error, Push, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.acl import User
    from cachesim.embedded.redis.dispatch.entry import Entry
    from cachesim.embedded.redis.server import Server


class _NoReply:
    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""Returned by a command that is answered later or never."""
Answer = Reply | _NoReply


@dataclass
class Transaction:
    """The requests that were queued since MULTI.

    Attributes:
        bits: the flags of all queued commands.
        broken: whether a request was refused, so that EXEC fails.
    """

    queue: list[tuple["Entry", list[bytes]]] = field(default_factory=list)
    bits: int = 0
    broken: bool = False


class Client:
    """The state of a client. `Session` is a client with a connection.

    Attributes:
        user: the ACL user; None if authentication is still needed.
        allowed: the commands that need no permission check, whatever their arguments.
        guarded_flags: the flags of commands that are checked before they run, because of the state
            of this client; see `guards`.
        resp: the version of the protocol, 2 or 3.
        address: `host:port`; empty without a connection.
        is_replaying: whether it replays requests of the primary or of the append-only file, which
            are not checked.
        is_readonly: whether it has sent READONLY, so that a replica serves its reads.
        may_block: whether its commands may be answered later.
        is_monitor: whether it has sent MONITOR.
        in_script: whether it is a script.
        watched: the watched keys, and whether each had expired, but was there, when WATCH came.
        watch_failed: whether a watched key has changed, so that EXEC fails.
        written_offset: the offset in the replication stream after its last write.
        caller: the client whose script it runs; None for other clients.
        tracking: its options of CLIENT TRACKING, if that is on.
        is_due: whether the time is up for which a fault delays its present request; None: there is
            no such delay.
    """

    def __init__(
        self, server: "Server", user: "User | None", *, is_replaying: bool = False
    ) -> None:
        self.server = server
        self.store = server.store
        self.guarded_flags = 0
        self.authenticate_as(user)
        self.resp = 2
        self.id = 0
        self.name = b""
        self.address = ""
        self.is_replaying = is_replaying
        self.is_readonly = False
        self.may_block = False
        self.is_monitor = False
        self.in_script = False
        self.transaction: Transaction | None = None
        self.watched: dict[bytes, bool] = {}
        self.watch_failed = False
        self.written_offset = 0
        self.caller: Client | None = None
        self.tracking: Tracked | None = None
        self.is_due: bool | None = None
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}

    def authenticate_as(self, user: "User | None") -> None:
        """Set the user; None: the client has to authenticate."""
        self.user = user
        self.allowed: frozenset[Command] = frozenset() if user is None else user.allowed

    def update_guards(self) -> None:
        """Set `guarded_flags`: all in MULTI and MONITOR, subscribed, or after CLIENT CACHING."""
        busy = self.transaction is not None or self.is_subscribed or self.is_monitor
        if self.tracking is not None and self.tracking.caching is not None:
            busy = True
        self.guarded_flags = ANY if busy else 0

    def begin_transaction(self) -> None:
        """Queue requests from now on (MULTI)."""
        self.transaction = Transaction()
        self.update_guards()

    def discard_transaction(self) -> None:
        """Drop the queued requests, and stop watching keys."""
        self.transaction = None
        self.update_guards()
        self.server.watched_keys.remove(self)

    @property
    def subscriptions(self) -> int:
        """The number of subscribed channels and patterns, without those of the shard."""
        return len(self.channels) + len(self.patterns)

    @property
    def is_subscribed(self) -> bool:
        """Whether there is any subscription."""
        return bool(self.channels or self.patterns or self.shard_channels)

    def push(self, message: Push) -> None:
        """Send a push message, which answers no request."""

    def postpone(self, seconds: float | None = None) -> bool:  # noqa: ARG002  # see `Session`
        """Postpone the present request. Return whether the client can do that.

        Args:
            seconds: for how long; None: until others let it go on.
        """
        return False

    def wait_for_script(self) -> None:
        """Block the client until `answer` is called.

        Raises:
            Error: the client can't wait.
        """
        raise Error("ERR This Redis command is not allowed here")

    def answer(self, answer: Answer) -> None:
        """Send the answer that `wait_for_script` waits for."""

    def describe(self) -> str:
        """Return the client's line in CLIENT LIST."""
        return ""
