"""Access control lists, as Redis 7.0 has them."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cachesim.embedded.redis.dispatch.command_table import (
    Command,
    Flag,
    KeyUse,
    commands,
    everything,
)
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.protocols.resp import Error

CATEGORIES = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."  # noqa: S105
KEY_DENIED = "NOPERM this user has no permissions to access one of the keys used as arguments"
CHANNEL_DENIED = (
    "NOPERM this user has no permissions to access one of the channels used as arguments"
)


def command_denied(command: Command) -> str:
    """Return the error for a command that a user may not run."""
    return f"NOPERM this user has no permissions to run the '{command.name}' command"


def in_category(category: str) -> list[Command]:
    """Return the commands and subcommands of a category."""
    if category == "all":
        return list(everything())
    return [command for command in everything() if category in command.categories]


@dataclass
class Selector:
    """A set of permissions for commands, keys and channels. A user has at least one selector.

    Attributes:
        rules: the rules about commands, as in an ACL file.
        allowed: the commands that these rules allow.
        keys: key patterns, each with two flags: whether it allows reads, and writes.
        channels: channel patterns.
    """

    rules: list[str] = field(default_factory=lambda: ["-@all"])
    allowed: set[Command] = field(default_factory=set)
    keys: list[tuple[bytes, bool, bool]] = field(default_factory=list)
    channels: list[bytes] = field(default_factory=list)

    def apply(self, rule: bytes) -> bool:
        """Apply a rule. Return False if it is not a rule of selectors.

        Raises:
            ValueError: there is no such command or category.
        """
        word = rule.lower()
        if word in (b"allcommands", b"+@all"):
            self.rules, self.allowed = ["+@all"], set(everything())
        elif word in (b"nocommands", b"-@all"):
            self.rules, self.allowed = ["-@all"], set()
        elif word in (b"allkeys", b"~*"):
            self.keys = [(b"*", True, True)]
        elif word == b"resetkeys":
            self.keys = []
        elif word in (b"allchannels", b"&*"):
            self.channels = [b"*"]
        elif word == b"resetchannels":
            self.channels = []
        elif rule[:1] in (b"+", b"-"):
            self._apply_command(rule[:1] == b"+", word[1:].decode("utf-8", "surrogateescape"))
        elif rule[:1] == b"~":
            self._add_key(rule[1:], True, True)
        elif rule[:1] == b"%" and b"~" in rule:
            kinds, _, pattern = rule[1:].partition(b"~")
            if not kinds or set(kinds.upper()) - set(b"RW"):
                return False
            self._add_key(pattern, b"R" in kinds.upper(), b"W" in kinds.upper())
        elif rule[:1] == b"&":
            if rule[1:] not in self.channels:
                self.channels.append(rule[1:])
        else:
            return False
        return True

    def _add_key(self, pattern: bytes, read: bool, write: bool) -> None:
        if (pattern, read, write) not in self.keys:
            self.keys.append((pattern, read, write))

    def _apply_command(self, allow: bool, name: str) -> None:
        change: Callable[[Iterable[Command]], None]
        change = self.allowed.update if allow else self.allowed.difference_update
        if name.startswith("@"):
            found = in_category(name[1:])
        else:
            outer, _, inner = name.partition("|")
            command = commands().get(outer)
            if command is not None and inner:
                command = command.subcommands.get(inner)
            found = [] if command is None else [command, *command.subcommands.values()]
        if not found:
            raise ValueError("Unknown command or category name in ACL")
        change(found)
        sign = "+" if allow else "-"
        # A later rule about the same command replaces the earlier one.
        self.rules = [r for r in self.rules if r[1:] != name and r[1:].split("|")[0] != name]
        self.rules.append(f"{sign}{name}")

    @property
    def all_keys(self) -> bool:
        """Whether every key may be read and written."""
        return (b"*", True, True) in self.keys

    @property
    def all_channels(self) -> bool:
        """Whether every channel may be used."""
        return b"*" in self.channels

    def allows_key(self, key: bytes, use: KeyUse) -> bool:
        """Return whether a key may be used in this way."""
        reads = bool({"access"} & use.flags)
        writes = bool({"insert", "delete", "update"} & use.flags)
        return any(
            (read or not reads) and (write or not writes) and matcher(pattern)(key)
            for pattern, read, write in self.keys
        )

    def allows_channel(self, channel: bytes, *, pattern: bool) -> bool:
        """Return whether a channel, or a pattern of channels, may be used."""
        if pattern:
            return self.all_channels or channel in self.channels
        return any(matcher(allowed)(channel) for allowed in self.channels)

    def key_rules(self) -> str:
        """Return the rules about keys."""
        return " ".join(
            f"{'' if read and write else '%R' if read else '%W'}~{_text(pattern)}"
            for pattern, read, write in self.keys
        )

    def channel_rules(self) -> str:
        """Return the rules about channels."""
        return " ".join(f"&{_text(channel)}" for channel in self.channels)

    def describe(self) -> str:
        """Return all rules."""
        channels = (
            self.channel_rules()
            if self.all_channels
            else (f"resetchannels {self.channel_rules()}".strip())
        )
        return " ".join(filter(None, [self.key_rules(), channels, " ".join(self.rules)]))


class User:
    """An ACL user. Change it with `rule`.

    Attributes:
        hashes: the SHA-256 of each password, as hexadecimal digits.
        root: the permissions outside selectors.
        is_simple: whether only commands are restricted, not keys or channels.
        allowed: the commands that need no further check; empty unless `is_simple`.
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.enabled = False
        self.nopass = False
        self.hashes: list[str] = []
        self.root = Selector()
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
            raise Error(f"ERR Error in ACL SETUSER modifier '{_text(rule)}': {error}") from error

    def _rule(self, rule: bytes) -> bool:
        word = rule.lower()
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word == b"nopass":
            self.nopass, self.hashes = True, []
        elif word == b"resetpass":
            self.nopass, self.hashes = False, []
        elif word == b"reset":
            self.__init__(self.name)  # type: ignore[misc]  # as new
        elif word == b"clearselectors":
            self.selectors = []
        elif word in (b"skip-sanitize-payload", b"sanitize-payload"):
            pass
        elif rule[:1] == b"(":
            if rule[-1:] != b")":
                raise ValueError("Syntax error")
            selector = Selector()
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

    def describe(self) -> str:
        """Return the line of an ACL file."""
        passwords = ["nopass"] if self.nopass else [f"#{digest}" for digest in self.hashes]
        words = ["user", _text(self.name), "on" if self.enabled else "off", *passwords]
        selectors = [f"({selector.describe()})" for selector in self.selectors]
        return " ".join([*words, self.root.describe(), *selectors])


def _denial(
    selector: Selector, command: Command, arguments: Sequence[bytes]
) -> tuple[int, tuple[str, str, bytes]] | None:
    if command not in selector.allowed:
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
    """

    def __init__(self, rules: Iterable[tuple[str, str]]) -> None:
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
        draft = User(name)
        if (present := self.users.get(name)) is not None:
            for word in _words(present.describe())[2:]:
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


def _words(line: str) -> list[bytes]:
    """Split a line of rules. A selector is one word."""
    words: list[bytes] = []
    inside = False
    for word in line.encode(errors="surrogateescape").split(b" "):
        if inside:
            words[-1] += b" " + word
        else:
            words.append(word)
        inside = (inside or word.startswith(b"(")) and not word.endswith(b")")
    return words


def _digest(password: bytes) -> str:
    return hashlib.sha256(password).hexdigest()


def _checked(digest: bytes) -> str:
    if len(digest) != 64 or set(digest) - set(b"0123456789abcdef"):
        raise ValueError(
            "The password hash must be exactly 64 characters and contain only lowercase "
            "hexadecimal characters"
        )
    return digest.decode()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
