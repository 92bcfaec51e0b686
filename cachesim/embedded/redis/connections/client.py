"""Who gives commands: a connection, a script, the primary whose stream is followed."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachesim.embedded.redis.dispatch.command_table import ANY, Command
from cachesim.protocols.resp import Error, Push, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.acl import User
    from cachesim.embedded.redis.dispatch.executor import Entry
    from cachesim.embedded.redis.server import Server


class _NoReply:
    def __repr__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""What a command gives that answers nothing, or later."""
Answer = Reply | _NoReply


@dataclass
class Transaction:
    """What was queued since MULTI.

    Attributes:
        bits: the flags of all queued commands.
        broken: whether a command could not be queued, so that EXEC will refuse.
    """

    queue: list[tuple["Entry", list[bytes]]] = field(default_factory=list)
    bits: int = 0
    broken: bool = False


class Client:
    """One that gives commands. `Session` is the one that has a connection.

    Attributes:
        user: None until it has authenticated.
        allowed: the commands that it may run without a look at its user's permissions.
        attention: flags of commands which need a look before they run, because of what this
            client does; see `Executor`.
        resp: the version of the protocol.
        obeyed: whether it may do what clients may not, as it repeats what was done elsewhere.
        may_block: whether a command may answer later.
        follows: whether READONLY was sent, so that a replica answers.
        asks: whether ASKING was the last command.
    """

    def __init__(self, server: "Server", user: "User | None", *, obeyed: bool = False) -> None:
        self.server = server
        self.store = server.store
        self.attention = 0
        self.be(user)
        self.resp = 2
        self.id = 0
        self.name = b""
        self.obeyed = obeyed
        self.may_block = False
        self.follows = False
        self.asks = False
        self.in_script = False
        self.transaction: Transaction | None = None
        self.watched: set[bytes] = set()
        self.watch_failed = False
        self.written_offset = 0
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}

    def be(self, user: "User | None") -> None:
        """Become a user."""
        self.user = user
        self.allowed: frozenset[Command] = frozenset() if user is None else user.allowed

    def look(self) -> None:
        """Work out which commands need a look."""
        busy = self.transaction is not None or self.subscriptions
        self.attention = ANY if busy else 0

    def begin_transaction(self) -> None:
        """Queue what comes from now on."""
        self.transaction = Transaction()
        self.look()

    def end_transaction(self) -> Transaction | None:
        """Queue no more; gives what was queued."""
        transaction, self.transaction = self.transaction, None
        self.look()
        return transaction

    @property
    def subscriptions(self) -> int:
        """How many channels and patterns it has subscribed to."""
        return len(self.channels) + len(self.patterns)

    def push(self, message: Push) -> None:
        """Tell it something that it did not ask for."""

    def postpone(self) -> bool:
        """Keep a request for later; whether that is possible."""
        return False

    def wait_for_script(self) -> None:
        """Take the answer to the present command later, by `answer`.

        Raises:
            Error: it can't.
        """
        raise Error("ERR This Redis command is not allowed here")

    def answer(self, answer: Answer) -> None:
        """Take what was waited for."""

    def describe(self) -> str:
        """It as a line of CLIENT LIST."""
        return ""
