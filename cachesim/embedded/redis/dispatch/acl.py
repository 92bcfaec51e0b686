"""Access control lists, as Redis 7.0 has them."""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from cachesim.embedded.redis.dispatch.command_table import Command, Flag, Table
from cachesim.embedded.redis.dispatch.selector import Selector, text_of
from cachesim.embedded.redis.keyspace.values import printed
from cachesim.protocols.resp import Error

WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."  # noqa: S105
KEY_DENIED = "NOPERM this user has no permissions to access one of the keys used as arguments"
CHANNEL_DENIED = (
    "NOPERM this user has no permissions to access one of the channels used as arguments"
)


def command_denied(command: Command) -> str:
    """Return the error for a command that a user may not run."""
    return f"NOPERM this user has no permissions to run the '{command.name}' command"


class User:
    """An ACL user. Change it with `rule`.

    Attributes:
        payload: `sanitize-payload` or `skip-sanitize-payload`, which are shown and change nothing
            else; or empty.
        hashes: the SHA-256 of each password, as hexadecimal digits.
        root: the permissions outside selectors.
        is_simple: whether only commands are restricted, not keys or channels.
        allowed: the commands that need no further check; empty unless `is_simple`.
    """

    def __init__(self, name: bytes, table: Table) -> None:
        self.name = name
        self._table = table
        self.enabled = False
        self.nopass = False
        self.payload = ""
        self.hashes: list[str] = []
        self.root = Selector(table)
        self.selectors: list[Selector] = []
        self.settle()

    def settle(self) -> None:
        """Update `is_simple` and `allowed`, which are enough to check most requests."""
        self.is_simple = not self.selectors and self.root.all_keys and self.root.all_channels
        self.allowed = frozenset(self.root.allowed) if self.is_simple else frozenset()

    def rule(self, rule: bytes) -> None:
        """Apply a rule of `ACL SETUSER`. Call `settle` after the last one.

        Raises:
            Error: there is no such rule.
        """
        try:
            if not self._rule(rule) and not self.root.apply(rule):
                raise ValueError("Syntax error")
        except ValueError as error:
            raise Error(f"ERR Error in ACL SETUSER modifier '{printed(rule)}': {error}") from error

    def _rule(self, rule: bytes) -> bool:
        word = rule.lower()
        if not word:
            return True
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word == b"nopass":
            self.nopass, self.hashes = True, []
        elif word == b"resetpass":
            self.nopass, self.hashes = False, []
        elif word == b"reset":
            self.__init__(self.name, self._table)  # type: ignore[misc]  # as new
            self.payload = "sanitize-payload"
        elif word == b"clearselectors":
            self.selectors = []
        elif word in (b"skip-sanitize-payload", b"sanitize-payload"):
            self.payload = word.decode()
        elif rule[:1] == b"(" and rule[-1:] == b")":
            selector = Selector(self._table)
            for part in rule[1:-1].split():
                if not selector.apply(part):
                    raise ValueError("Syntax error")
            self.selectors.append(selector)
        elif rule[:1] in (b">", b"#"):
            digest = _digest(rule[1:]) if rule[:1] == b">" else _checked(rule[1:])
            self.nopass = False
            if digest not in self.hashes:
                self.hashes.append(digest)
        elif rule[:1] in (b"<", b"!"):
            digest = _digest(rule[1:]) if rule[:1] == b"<" else _checked(rule[1:])
            if digest not in self.hashes:
                raise ValueError(
                    "The password you are trying to remove from the user does not exist"
                )
            self.hashes.remove(digest)
        else:
            return False
        return True

    def accepts(self, password: bytes) -> bool:
        """Return whether the user is enabled and the password is right."""
        if not self.enabled:
            return False
        digest = _digest(password)
        known = [hmac.compare_digest(digest, one) for one in self.hashes]
        return self.nopass or any(known)

    def denial(self, command: Command, arguments: Sequence[bytes]) -> tuple[str, str, bytes] | None:
        """Return why a request is denied, or None if it is allowed.

        Returns:
            `command`, `key` or `channel`; the error; and the command, key or channel. If several
            selectors deny the request, the result of the one that passed the most checks.
        """
        if command in self.allowed:
            return None
        worst: tuple[int, tuple[str, str, bytes]] | None = None
        for selector in (self.root, *self.selectors):
            found = _denial(selector, command, arguments)
            if found is None:
                return None
            if worst is None or found[0] > worst[0]:
                worst = found
        return None if worst is None else worst[1]

    @property
    def flags(self) -> list[str]:
        """What ACL GETUSER shows as flags."""
        shown = ["on" if self.enabled else "off", "nopass" if self.nopass else "", self.payload]
        return list(filter(None, shown))

    def describe(self) -> str:
        """Return the line of an ACL file."""
        passwords = [f"#{digest}" for digest in self.hashes]
        words = ["user", text_of(self.name), *self.flags, *passwords]
        selectors = [f"({selector.describe()})" for selector in self.selectors]
        return " ".join([*words, self.root.describe(), *selectors])


def _denial(
    selector: Selector, command: Command, arguments: Sequence[bytes]
) -> tuple[int, tuple[str, str, bytes]] | None:
    if not selector.allows(command, arguments):
        return 0, ("command", command_denied(command), command.name.encode())
    if not selector.all_keys and command.bits & Flag.KEYS:
        for use in command.key_uses(arguments):
            if not selector.allows_key(arguments[use.at], use):
                return 1, ("key", KEY_DENIED, arguments[use.at])
    if not selector.all_channels and command.bits & Flag.PUBSUB:
        channels: Sequence[bytes] = ()
        if command.name in ("publish", "spublish"):
            channels = arguments[1:2]
        elif command.name in ("subscribe", "ssubscribe", "psubscribe"):
            channels = arguments[1:]
        for channel in channels:
            if not selector.allows_channel(channel, pattern=command.name == "psubscribe"):
                return 2, ("channel", CHANNEL_DENIED, channel)
    return None


class AccessControl:
    """The users of a node.

    Args:
        rules: the lines of rules by user name.
        table: the commands of the node.
    """

    def __init__(self, rules: Iterable[tuple[str, str]], table: Table) -> None:
        self._table = table
        self.users: dict[bytes, User] = {}
        for name, line in rules:
            self.set_user(name.encode(), line.encode().split())
        if b"default" not in self.users:
            self.set_user(b"default", [b"on", b"nopass", b"~*", b"&*", b"+@all"])

    def set_user(self, name: bytes, rules: Sequence[bytes]) -> None:
        """Run `ACL SETUSER`: apply all rules, or none.

        Raises:
            Error: a rule is wrong.
        """
        rules = merged(rules)
        draft = User(name, self._table)
        if (present := self.users.get(name)) is not None:
            described = present.describe().encode(errors="surrogateescape").split(b" ")
            for word in merged(described[2 + name.count(b" ") :]):
                draft.rule(word)
        for rule in rules:
            draft.rule(rule)
        draft.settle()
        if present is None:
            self.users[name] = draft
        else:
            # Connections refer to this object, so they get the new permissions.
            present.__dict__.update(draft.__dict__)

    def require_password(self, password: bytes) -> None:
        """Set the only password of the default user, as `requirepass` does; empty for none."""
        self.set_user(b"default", [b"resetpass", b">" + password if password else b"nopass"])

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        """Return the user of a name; None if there is no such user or the password is wrong."""
        user = self.users.get(name)
        return user if user is not None and user.accepts(password) else None

    @property
    def everyone(self) -> User | None:
        """The user of new connections; None if they must authenticate."""
        default = self.users[b"default"]
        return default if default.enabled and default.nopass else None


def merged(rules: Sequence[bytes]) -> list[bytes]:
    """Return rules with the words of each selector, in parentheses, as one rule.

    Raises:
        Error: a selector does not end.
    """
    found: list[bytes] = []
    begun: bytes | None = None
    first = b""
    for rule in rules:
        if begun is None and rule[:1] == b"(":
            begun = first = rule
        elif begun is not None:
            begun += b" " + rule
        else:
            found.append(rule)
            continue
        if rule[-1:] == b")":
            found.append(begun)
            begun = None
    if begun is not None:
        raise Error(f"ERR Unmatched parenthesis in acl selector starting at '{text_of(first)}'.")
    return found


def _digest(password: bytes) -> str:
    return hashlib.sha256(password).hexdigest()


def _checked(digest: bytes) -> str:
    if len(digest) != 64 or set(digest) - set(b"0123456789abcdef"):
        raise ValueError(
            "The password hash must be exactly 64 characters and contain only lowercase "
            "hexadecimal characters"
        )
    return digest.decode()
