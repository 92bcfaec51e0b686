"""The commands of a node: their handlers, how to find them, and their counters."""

from collections.abc import Callable, Iterator, Mapping

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.command_table import Command, Table
from cachesim.embedded.redis.keyspace.values import printed
from cachesim.protocols.resp import Error

Handler = Callable[[Client, list[bytes]], Answer]
"""Runs a command, given all arguments with the command's name. Raises an error reply as `Error`."""


class Entry:
    """A command of a node.

    Attributes:
        subentries: the subcommands by name in lower case, as entries.
        unanswered: the number of runs that did not answer at once, since the start or CONFIG
            RESETSTAT.
        nanoseconds: the total duration of these runs.
        durations: the number of all other runs by the bits of their duration in nanoseconds.
        rejected: the number of requests refused before the command ran.
        failed: the number of runs that ended with an error.
    """

    __slots__ = (
        "arity", "bits", "command", "durations", "failed", "handler", "name", "nanoseconds",
        "rejected", "subentries", "unanswered",
    )  # fmt: skip

    def __init__(
        self, command: Command, handler: Handler | None, subentries: Mapping[bytes, "Entry"]
    ) -> None:
        self.command = command
        self.name = command.name
        self.arity = command.arity
        self.bits = command.bits
        self.handler = handler
        self.subentries = subentries
        self.reset()

    def reset(self) -> None:
        """Set all counts to 0."""
        self.unanswered = self.nanoseconds = self.rejected = self.failed = 0
        self.durations: dict[int, int] = {}

    @property
    def calls(self) -> int:
        """The number of runs."""
        return self.unanswered + sum(self.durations.values())

    def within(self) -> Iterator[tuple[int, int]]:
        """Yield durations in nanoseconds, and how many runs took no longer.

        They are those of Redis's histograms, whose numbers have two digits: 1024 times 2**n, and
        what counts as the same.
        """
        counts: dict[int, int] = {}
        for bits, count in self.durations.items():
            counts[max(bits, 10)] = counts.get(max(bits, 10), 0) + count
        counted = 0
        for bits, count in sorted(counts.items()):
            counted += count
            yield (1 << bits) + (1 << bits) // 128 - 1, counted


class Entries:
    """All commands of a node.

    Args:
        handlers: the handlers by command name: `get`, `client|id`.
        table: the commands of the node's version.

    Attributes:
        by_name: the commands by name, in lower case and in upper case.
        by_command: the commands and subcommands by `Command`.
    """

    def __init__(self, handlers: Mapping[str, Handler], table: Table) -> None:
        self.table = table
        self.by_name: dict[bytes, Entry] = {}
        self.by_command: dict[Command, Entry] = {}
        for command in table.values():
            entry = self._entry(command, handlers)
            self.by_name[command.name.encode()] = entry
            self.by_name[command.name.upper().encode()] = entry

    def _entry(self, command: Command, handlers: Mapping[str, Handler]) -> Entry:
        subentries = {
            name.encode(): self._entry(sub, handlers) for name, sub in command.subcommands.items()
        }
        entry = Entry(command, handlers.get(command.name), subentries)
        self.by_command[command] = entry
        return entry

    def find(self, arguments: list[bytes]) -> Entry:
        """Return the command that a request asks for.

        Raises:
            Error: there is no such command, or the number of arguments is wrong.
        """
        entry = self.by_name.get(arguments[0]) or self.by_name.get(arguments[0].lower())
        if entry is None:
            raise unknown(arguments)
        count = len(arguments)
        if entry.subentries and count > 1:
            subentry = entry.subentries.get(arguments[1].lower())
            if subentry is not None:
                entry = subentry
            else:
                raise Error(
                    f"ERR unknown subcommand '{printed(arguments[1])}'. "
                    f"Try {entry.name.upper()} HELP."
                )
        if entry.handler is None and not entry.subentries:
            raise unknown(arguments)
        arity = entry.arity
        if (count != arity and (arity > 0 or count < -arity)) or entry.handler is None:
            raise wrong_arity(entry)
        return entry

    def named(self, arguments: list[bytes]) -> Entry | None:
        """Return the command that a request names, however many arguments it has."""
        entry = self.by_name.get(arguments[0].lower())
        if entry is not None and entry.subentries and len(arguments) > 1:
            return entry.subentries.get(arguments[1].lower())
        return entry

    def name_of(self, words: list[bytes]) -> str:
        """Return the command that the first words of a request name, or `NULL`."""
        entry = self.named(words) if words else None
        return "NULL" if entry is None else entry.name

    def reset(self) -> None:
        """Set all counts to 0."""
        for entry in self.by_command.values():
            entry.reset()


def wrong_arity(entry: Entry) -> Error:
    """Return the error for a wrong number of arguments."""
    return Error(f"ERR wrong number of arguments for '{entry.name}' command")


def unknown(arguments: list[bytes]) -> Error:
    """Return the error for a command that does not exist."""
    shown, room = "", 128
    for argument in arguments[1:]:
        if len(shown.encode(errors="surrogateescape")) >= room:
            break
        left = room - len(shown.encode(errors="surrogateescape"))
        shown += f"'{printed(argument[:left])}' "
    return Error(
        f"ERR unknown command '{printed(arguments[0][:128])}', with args beginning with: {shown}"
    )
