"""Sets of permissions of ACL users, as Redis 7.0 has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cachesim.embedded.redis.dispatch.command_table import (
    Command,
    KeyUse,
    Table,
    everything,
)
from cachesim.embedded.redis.keyspace.globs import matcher

CATEGORIES = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
_UNKNOWN = "Unknown command or category name in ACL"
_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the '{}' flag) is not valid and does not have any "
    "effect. Try '{}' to start with an empty list of {}"
)


def in_category(table: Table, category: str) -> list[Command]:
    """Return the commands and subcommands of a category."""
    if category == "all":
        return list(everything(table))
    return [command for command in everything(table) if category in command.categories]


def find_command(table: Table, name: str) -> Command | None:
    """Return the command or subcommand of a name such as `config|get`, or None."""
    outer, _, inner = name.partition("|")
    command = table.get(outer)
    return command.subcommands.get(inner) if command is not None and inner else command


@dataclass
class Selector:
    """A set of permissions for commands, keys and channels. A user has at least one selector.

    Attributes:
        table: the commands of the node.
        is_open: whether commands of later versions would be allowed: after `+@all`.
        allowed: the commands that are allowed.
        first_arguments: for commands that are not, the first arguments with which they are.
        all_keys: whether every key may be read and written.
        keys: key patterns, each with two flags: whether it allows reads, and writes.
        all_channels: whether every channel may be used.
        channels: channel patterns.
    """

    table: Table = field(repr=False)
    is_open: bool = False
    allowed: set[Command] = field(default_factory=set)
    first_arguments: dict[Command, list[bytes]] = field(default_factory=dict)
    all_keys: bool = False
    keys: dict[bytes, tuple[bool, bool]] = field(default_factory=dict)
    all_channels: bool = False
    channels: list[bytes] = field(default_factory=list)

    def apply(self, rule: bytes) -> bool:
        """Apply a rule. Return False if it is not a rule of selectors.

        Raises:
            ValueError: the rule is wrong, with a reason.
        """
        word = rule.lower()
        if word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
            self.is_open = word in (b"allcommands", b"+@all")
            self.allowed = set(everything(self.table)) if self.is_open else set()
            self.first_arguments = {}
        elif word in (b"allkeys", b"~*", b"resetkeys"):
            self.all_keys, self.keys = word != b"resetkeys", {}
        elif word in (b"allchannels", b"&*", b"resetchannels"):
            self.all_channels, self.channels = word != b"resetchannels", []
        elif rule[:1] in (b"+", b"-"):
            self._apply_command(rule[:1] == b"+", rule[1:])
        elif rule[:1] in (b"~", b"%"):
            return self._add_key(rule)
        elif rule[:1] == b"&":
            return self._add_channel(rule[1:])
        else:
            return False
        return True

    def _add_key(self, rule: bytes) -> bool:
        kinds, _, pattern = rule[1:].partition(b"~") if rule[:1] == b"%" else (b"RW", b"", rule[1:])
        if self.all_keys:
            raise ValueError(_AFTER_ALL.format("allkeys", "resetkeys", "patterns"))
        if not kinds or set(kinds.upper()) - set(b"RW") or (rule[:1] == b"%" and b"~" not in rule):
            return False
        if has_blanks(pattern):
            return False
        reads, writes = self.keys.get(pattern, (False, False))
        self.keys[pattern] = reads or b"R" in kinds.upper(), writes or b"W" in kinds.upper()
        return True

    def _add_channel(self, pattern: bytes) -> bool:
        if self.all_channels:
            raise ValueError(_AFTER_ALL.format("allchannels", "resetchannels", "channels"))
        if has_blanks(pattern):
            return False
        if pattern not in self.channels:
            self.channels.append(pattern)
        return True

    def _apply_command(self, allow: bool, given: bytes) -> None:
        name = given.lower().decode("utf-8", "surrogateescape")
        if name.startswith("@"):
            found = in_category(self.table, name[1:])
        else:
            command = find_command(self.table, name) if name.count("|") < 2 else None
            if command is None and allow and "|" in name:
                self._allow_first_argument(given)
                return
            found = [] if command is None else [command, *command.subcommands.values()]
        if not found:
            raise ValueError(_UNKNOWN)
        if allow:
            self.allowed.update(found)
        else:
            self.allowed.difference_update(found)
        for one in found:
            self.first_arguments.pop(one, None)

    def _allow_first_argument(self, given: bytes) -> None:
        """Apply a rule such as `+select|0`."""
        outer, _, argument = given.rpartition(b"|")
        command = find_command(self.table, outer.lower().decode("utf-8", "surrogateescape"))
        if command is None:
            raise ValueError(_UNKNOWN)
        if "|" in command.name:
            raise ValueError("Allowing first-arg of a subcommand is not supported")
        if not argument:
            raise ValueError("Syntax error")
        if command.subcommands:
            raise ValueError(_UNKNOWN)
        arguments = self.first_arguments.setdefault(command, [])
        if argument.lower() not in (one.lower() for one in arguments):
            arguments.append(argument)

    # --- checks -------------------------------------------------------------------------------

    def allows(self, command: Command, arguments: Sequence[bytes]) -> bool:
        """Return whether a request is allowed, whatever its keys."""
        if command in self.allowed:
            return True
        first = [one.lower() for one in self.first_arguments.get(command, ())]
        return len(arguments) > 1 and arguments[1].lower() in first

    def allows_key(self, key: bytes, use: KeyUse) -> bool:
        """Return whether a key may be used in this way."""
        needs_read = "access" in use.flags
        needs_write = bool({"insert", "delete", "update"} & use.flags)
        return any(
            (read or not needs_read) and (write or not needs_write) and matcher(pattern)(key)
            for pattern, (read, write) in self.keys.items()
        )

    def allows_channel(self, channel: bytes, *, pattern: bool) -> bool:
        """Return whether a channel, or a pattern of channels, may be used."""
        if self.all_channels:
            return True
        if pattern:
            return channel in self.channels
        return any(matcher(allowed)(channel) for allowed in self.channels)

    # --- as text ------------------------------------------------------------------------------

    def command_rules(self) -> str:
        """Return rules that allow these commands: categories that fit best, then exceptions."""
        rules = ["+@all" if self.is_open else "-@all"]
        stated = set(everything(self.table)) if self.is_open else set[Command]()
        left = set(self.allowed)  # without what the categories so far have said
        categories = {name: set(in_category(self.table, name)) for name in CATEGORIES}
        while True:
            best, fewest, most = "", 0, 0
            for name, members in categories.items():
                on = len(members & left)
                differ, agree = len(members) - on, on
                if self.is_open:
                    differ, agree = agree, differ
                if agree > differ and (
                    not best or differ < fewest or (differ == fewest and agree > most)
                ):
                    best, fewest, most = name, differ, agree
            if not best:
                break
            members = categories.pop(best)
            rules.append(f"{'-' if self.is_open else '+'}@{best}")
            stated = stated - members if self.is_open else stated | members
            left = left | members if self.is_open else left - members
        for command in self.table.values():
            for one in (command, *command.subcommands.values()):
                if (one in self.allowed) != (one in stated):
                    rules.append(f"{'+' if one in self.allowed else '-'}{one.name}")
                    change = {one, *one.subcommands.values()}
                    stated = stated | change if one in self.allowed else stated - change
                if one not in self.allowed:
                    rules += [
                        f"+{one.name}|{text_of(first)}"
                        for first in self.first_arguments.get(one, ())
                    ]
        return " ".join(rules)

    def key_rules(self) -> str:
        """Return the rules about keys."""
        if self.all_keys:
            return "~*"
        return " ".join(
            f"{'' if read and write else '%R' if read else '%W'}~{text_of(pattern)}"
            for pattern, (read, write) in self.keys.items()
        )

    def channel_rules(self) -> str:
        """Return the rules about channels."""
        if self.all_channels:
            return "&*"
        return " ".join(f"&{text_of(channel)}" for channel in self.channels)

    def describe(self) -> str:
        """Return all rules."""
        channels = "" if self.all_channels else "resetchannels"
        parts = (self.key_rules(), channels, self.channel_rules(), self.command_rules())
        return " ".join(filter(None, parts))


def has_blanks(text: bytes) -> bool:
    """Return whether a text has blanks or zero bytes."""
    return any(byte in b" \t\n\v\f\r\0" for byte in text)


def text_of(value: bytes) -> str:
    """Return bytes as text; those that are no UTF-8 are escaped as surrogates."""
    return value.decode("utf-8", "surrogateescape")
