"""Redis's command tables: arity, flags, categories, and the positions of keys."""

import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from importlib import resources
from typing import Any

from cachesim.embedded.redis.dispatch.key_finders import (
    CALLBACKS,
    counted,
    mapping,
    migrate_keys,
    sort_store,
)
from cachesim.embedded.redis.keyspace.values import integer
from cachesim.protocols.resp import Error

_NO_KEYS = "ERR The command has no key arguments"
_INVALID = "ERR Invalid arguments specified for command"
_reading = threading.Lock()


class Flag(IntFlag):
    """Redis's flags of commands, and a few about their keys."""

    WRITE = 1
    READONLY = 2
    DENYOOM = 4
    ADMIN = 8
    PUBSUB = 16
    NOSCRIPT = 32
    BLOCKING = 64
    LOADING = 128
    STALE = 256
    SKIP_MONITOR = 512
    ASKING = 1024
    FAST = 2048
    NO_AUTH = 4096
    NO_MULTI = 8192
    NO_MANDATORY_KEYS = 16384
    ALLOW_BUSY = 32768
    NO_ASYNC_LOADING = 65536
    MOVABLEKEYS = 131072
    SKIP_SLOWLOG = 262144
    # Flags that Redis does not have:
    KEYS = 524288
    SEVERAL_KEYS = 1048576
    MAY_WRITE = 2097152
    """Scripts, PFCOUNT and PUBLISH: Redis may replicate them, but does not flag them `write`."""
    SCRIPT = 4194304
    """Runs a script or a function, whose own flags count; see `script_flags`."""

    PLAIN = 8388608
    """Has none of the others."""


ANY = (1 << 24) - 1
_SCRIPTS = {"eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"}
_MAY_WRITE = {"eval", "evalsha", "fcall", "pfcount", "publish", "spublish"}


@dataclass(frozen=True)
class KeyUse:
    """A key among a command's arguments.

    Attributes:
        at: the key's position; the command's name is at 0.
        flags: the uses of the key, such as `RW`, `access`, `delete`.
    """

    at: int
    flags: frozenset[str]


class UnclearKeysError(Exception):
    """Arguments do not fit a key specification."""


Finder = Callable[[Sequence[bytes]], Iterator[int]]


@dataclass(frozen=True, eq=False)
class Command:
    """A command or subcommand.

    Attributes:
        name: the name in lower case; `config|get` for a subcommand.
        arity: the number of arguments with the name; -n: at least n.
        bits: all flags as one number.
        row: the command's entry in the reply of `COMMAND`, as a list in RESP2.
        subcommands: the subcommands by name, without the command's own name.
        counted: finds the keys after a number that key specifications refuse, such as `1.5`.
    """

    name: str
    arity: int
    flags: frozenset[str]
    bits: int
    categories: frozenset[str]
    row: Sequence[Any] = field(repr=False)
    finders: Sequence[tuple[frozenset[str], Finder]] = field(repr=False)
    subcommands: Mapping[str, "Command"] = field(repr=False)
    first_key: int = 0
    last_key: int = 0
    key_step: int = 0
    counted: Callable[[Sequence[bytes]], Iterable[int]] | None = field(default=None, repr=False)

    def takes(self, count: int) -> bool:
        """Return whether a number of arguments, the name included, is allowed."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def key_uses(self, arguments: Sequence[bytes], *, channels: bool = False) -> list[KeyUse]:
        """Find the keys in a request.

        Args:
            channels: include channels of sharded pub/sub, as they belong to slots too.

        If the key specifications don't fit wrong arguments, some commands have another way to find
        their keys.
        """
        try:
            return [
                KeyUse(at, _used(self.name, arguments) if "variable_flags" in flags else flags)
                for flags, find in self.finders
                if channels or "not_key" not in flags
                for at in find(arguments)
            ]
        except UnclearKeysError:
            find_otherwise = CALLBACKS.get(self.name, self.counted)
            if find_otherwise is None:
                return []
            return [KeyUse(at, _NONE) for at in find_otherwise(arguments)]

    def keys(self, arguments: Sequence[bytes]) -> list[bytes]:
        """Return the keys and the sharded pub/sub channels of a request, as both have a slot."""
        if self.first_key and not self.bits & Flag.SEVERAL_KEYS:
            return [arguments[self.first_key]]
        find = CALLBACKS.get(self.name)
        if find is not None:  # Redis finds what has a slot without key specifications
            return [arguments[at] for at in find(arguments)]
        if self.last_key and not self.bits & Flag.MOVABLEKEYS:
            last = self.last_key + (len(arguments) if self.last_key < 0 else 0)
            places = range(self.first_key, last + 1, self.key_step)
            return [arguments[at] for at in places] if last < len(arguments) else []
        return [arguments[use.at] for use in self.key_uses(arguments, channels=True)]


def asked_keys(command: Command, arguments: Sequence[bytes]) -> list[KeyUse]:
    """Return the keys for `COMMAND GETKEYS`.

    Raises:
        Error: there are no keys.
    """
    if all("not_key" in flags for flags, _ in command.finders):
        raise Error(_NO_KEYS)
    if not command.takes(len(arguments)):
        raise Error("ERR Invalid number of arguments specified for command")
    uses = command.key_uses(arguments)
    if not uses and not command.bits & Flag.NO_MANDATORY_KEYS:
        raise Error(_INVALID)
    return uses


_READ, _READ_WRITE = frozenset(("RO", "access")), frozenset(("RW", "access", "update"))
_OVERWRITE = frozenset(("OW", "update"))
_NONE = frozenset[str]()


def _used(name: str, arguments: Sequence[bytes]) -> frozenset[str]:
    """Return what SET or BITFIELD do with their key, as their options tell."""
    words = [word.lower() for word in arguments]
    if name == "set":
        return _READ_WRITE if b"get" in words[3:] else _OVERWRITE
    at, sizes = 2, {b"get": 3, b"overflow": 2}
    while at < len(words) and (size := sizes.get(words[at])) and at + size <= len(words):
        at += size
    return _READ if at >= len(words) else _READ_WRITE


# --- finding keys ---------------------------------------------------------------------------


def _finder(spec: Mapping[str, Any]) -> Finder | None:
    """Return a function that finds keys by a key specification of Redis; None for `unknown`."""
    begin, find = mapping(spec["begin_search"]), mapping(spec["find_keys"])
    where, how = mapping(begin["spec"]), mapping(find["spec"])
    if "unknown" in (begin["type"], find["type"]):
        return None

    def first(arguments: Sequence[bytes]) -> int | None:
        if begin["type"] == "index":
            index = int(where["index"])
            if index >= len(arguments):
                raise UnclearKeysError
            return index
        keyword, start = where["keyword"].encode(), int(where["startfrom"])
        last = len(arguments) - 1
        places = range(start, last) if start > 0 else range(last + 1 + start, 1, -1)
        for at in places:
            if arguments[at].upper() == keyword:
                return at + 1
        return None

    def in_range(arguments: Sequence[bytes]) -> Iterator[int]:
        begun = first(arguments)
        if begun is None:
            return
        last, step, limit = int(how["lastkey"]), int(how["keystep"]), int(how["limit"])
        if last >= 0:
            end = begun + last
        elif limit > 1:
            end = begun + (len(arguments) - begun) // limit + last
        else:
            end = len(arguments) + last
        if not begun <= end < len(arguments):
            raise UnclearKeysError
        yield from range(begun, end + 1, step)

    def by_number(arguments: Sequence[bytes]) -> Iterator[int]:
        begun = first(arguments)
        if begun is None:
            return
        number_at = begun + int(how["keynumidx"])
        step = int(how["keystep"])
        try:
            number = integer(arguments[number_at])
        except (Error, IndexError):
            raise UnclearKeysError from None
        begun += int(how["firstkey"])
        end = begun + (number - 1) * step
        if number < 1 or end >= len(arguments):
            raise UnclearKeysError
        yield from range(begun, end + 1, step)

    return in_range if find["type"] == "range" else by_number


_UNKNOWN_TO_SPECS: Mapping[str, tuple[frozenset[str], Finder]] = {
    "sort": (frozenset({"OW", "update"}), sort_store)
}


# --- reading the data -----------------------------------------------------------------------


def _command(row: Sequence[Any]) -> Command:
    name, arity, names, first, last, step, categories, _tips, specs, subcommands = row
    finders = [
        (frozenset[str](spec["flags"]), find)
        for spec in map(mapping, specs)
        if (find := _finder(spec)) is not None
    ]
    if name in _UNKNOWN_TO_SPECS:
        finders.append(_UNKNOWN_TO_SPECS[name])
    if name == "migrate":  # its specifications are incomplete
        finders = [(finders[0][0], migrate_keys)]
    bits = 0
    for flag in names:
        bits |= Flag[flag.upper()]
    if finders:
        bits |= Flag.KEYS
        if len(finders) > 1 or first != last or "movablekeys" in names:
            bits |= Flag.SEVERAL_KEYS
    if name in _MAY_WRITE:
        bits |= Flag.MAY_WRITE
    if name in _SCRIPTS:
        bits |= Flag.SCRIPT
    return Command(
        name=name,
        arity=arity,
        flags=frozenset(names),
        bits=int(bits) or int(Flag.PLAIN),
        categories=frozenset(category.removeprefix("@") for category in categories),
        row=row,
        finders=finders,
        subcommands={sub[0].partition("|")[2]: _command(sub) for sub in subcommands},
        first_key=first,
        last_key=last,
        key_step=step,
        counted=counted([mapping(spec) for spec in specs]),
    )


def data(name: str) -> Any:
    """Read a file of data that was captured from Redis."""
    text = (
        resources.files("cachesim.embedded.redis")
        .joinpath("data")
        .joinpath(name)
        .read_text(encoding="utf-8")
    )
    return json.loads(text)


Table = Mapping[str, Command]
"""The commands of a server by name."""


def commands(releases: frozenset[str] = frozenset()) -> Table:
    """Return all commands of Redis 7.0, and those of some later releases.

    Args:
        releases: which; see `Version.releases`.
    """
    # Commands are compared by identity, and several threads may ask for the table at once.
    with _reading:
        return _commands(releases)


@functools.cache
def _commands(releases: frozenset[str]) -> Table:
    rows = {row[0]: row for row in data("commands.json")}
    newer = data("newer_commands.json") if releases else {}
    for row in (row for release in sorted(releases) for row in newer[release]):
        outer, _, inner = row[0].partition("|")
        if inner:
            rows[outer] = [*rows[outer][:-1], [*rows[outer][-1], row]]
        else:
            rows[outer] = row
    return {name: _command(row) for name, row in rows.items()}


def everything(table: Table) -> Iterator[Command]:
    """Yield all commands and subcommands of a table."""
    for command in table.values():
        yield command
        yield from command.subcommands.values()
