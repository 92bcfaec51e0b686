"""The COMMAND commands of the group `server`: the command table."""

from collections.abc import Mapping, Sequence
from typing import Any

from cachesim.embedded.redis.commands.common.help import help_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.command_table import (
    Command,
    asked_keys,
    data,
    everything,
)
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import SYNTAX
from cachesim.protocols.resp import Error, Pairs, Reply, Unordered


def _command_reply(row: Sequence[Any]) -> Reply:
    name, arity, flags, first, last, step, categories, tips, specs, subcommands = row
    return [
        name.encode(),
        arity,
        Unordered(flags),
        first,
        last,
        step,
        Unordered(categories),
        Unordered(tip.encode() for tip in tips),
        Unordered(_key_spec_reply(spec) for spec in specs),
        [_command_reply(sub) for sub in subcommands] if subcommands else Unordered(),
    ]


def _key_spec_reply(flat: Any) -> Reply:
    pairs = Pairs()
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        pairs.append(key.encode())
        if key == "flags":
            pairs.append(Unordered(value))
        elif isinstance(value, list):
            pairs.append(_key_spec_reply(value))
        else:
            pairs.append(value.encode() if isinstance(value, str) else value)
    return pairs


def _find(client: Client, word: bytes) -> Command | None:
    outer, _, inner = word.lower().decode(errors="replace").partition("|")
    command = client.server.table.get(outer)
    return command.subcommands.get(inner) if command is not None and inner else command


def command(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND."""
    return [_command_reply(one.row) for one in client.server.table.values()]


def command_count(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND COUNT."""
    return len(client.server.table)


def command_info(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND INFO [name...]."""
    if len(arguments) == 2:
        return command(client, arguments)
    found = (_find(client, word) for word in arguments[2:])
    return [None if one is None else _command_reply(one.row) for one in found]


def command_docs(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND DOCS [name...]."""
    docs = dict(data("docs.json"))
    if len(arguments) == 2:
        return _docs_reply(docs)
    found = Pairs()
    for one in (_find(client, word) for word in arguments[2:]):
        if one is not None:
            outer, _, inner = one.name.partition("|")
            about = docs.get(outer, {})
            if inner:
                about = about.get("subcommands", {}).get(one.name, {})
            found += [one.name.encode(), _docs_reply(about)]
    return found


def _docs_reply(about: Any) -> Reply:
    """Return what `docs.json` says. It has a set under `~`, and a status under `+`."""
    if isinstance(about, str):
        return about.encode()
    if isinstance(about, int):
        return about
    if isinstance(about, list):
        return [_docs_reply(one) for one in about]
    if "+" in about:
        return str(about["+"])
    if "~" in about:
        return Unordered(_docs_reply(one) for one in about["~"])
    return Pairs(part for key, one in about.items() for part in (key.encode(), _docs_reply(one)))


def command_list(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND LIST [FILTERBY MODULE | ACLCAT | PATTERN x]."""
    if len(arguments) == 2:
        return [one.name.encode() for one in everything(client.server.table)]
    if len(arguments) != 5 or arguments[2].lower() != b"filterby":
        raise Error(SYNTAX)
    kind, word = arguments[3].lower(), arguments[4]
    everyone = everything(client.server.table)
    if kind == b"aclcat":
        category = word.lower().decode(errors="replace")
        return [one.name.encode() for one in everyone if category in one.categories]
    if kind == b"pattern":
        matches = matcher(word.lower())
        return [one.name.encode() for one in everyone if matches(one.name.encode())]
    if kind == b"module":
        return []
    raise Error(SYNTAX)


def _find_asked(client: Client, arguments: list[bytes]) -> tuple[Command, list[bytes]]:
    request = arguments[2:]
    one = _find(client, request[0])
    if one is not None and one.subcommands and len(request) > 1:
        one = one.subcommands.get(request[1].lower().decode(errors="replace"))
    if one is None:
        raise Error("ERR Invalid command specified")
    return one, request


def command_getkeys(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND GETKEYS command argument..."""
    one, request = _find_asked(client, arguments)
    return [request[use.at] for use in asked_keys(one, request)]


def _in_order(flags: frozenset[str]) -> list[str]:
    return sorted(flags, key=lambda flag: (not flag.isupper(), flag))


def command_getkeysandflags(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND GETKEYSANDFLAGS command argument..."""
    one, request = _find_asked(client, arguments)
    return [[request[use.at], Unordered(_in_order(use.flags))] for use in asked_keys(one, request)]


HANDLERS: Mapping[str, Handler] = {
    **help_of("command"),
    "command": command,
    "command|count": command_count,
    "command|docs": command_docs,
    "command|getkeys": command_getkeys,
    "command|getkeysandflags": command_getkeysandflags,
    "command|info": command_info,
    "command|list": command_list,
}
