"""The handlers of commands, and where they are."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from cachesim.embedded.redis import commands
from cachesim.embedded.redis.dispatch.command_table import commands as table_of
from cachesim.embedded.redis.dispatch.command_table import everything

IN_GROUP: Mapping[str, list[str]] = dict(
    json.loads((Path(__file__).parent / "groups.json").read_text(encoding="utf-8"))
)
"""The commands of each group, as a real Redis 7.0, Redis 8.0 and Valkey 8.1 have them."""

ALL = frozenset({"7.2", "7.4", "8.0", "valkey"})
NOT_SERVED = {"pfdebug", "pfselftest"}


@pytest.mark.parametrize("group", IN_GROUP)
def test_handlers_are_in_the_module_of_their_group(group: str) -> None:
    """A module has the commands of one of Redis's groups, and no others."""
    assert commands.GROUPS[group].keys() <= set(IN_GROUP[group])


def test_every_command_has_a_handler() -> None:
    """All commands of the table are served, but for a few that nobody needs."""
    table = {command.name for command in everything(table_of(ALL)) if not command.subcommands}
    # COMMAND alone is a command of its own besides its subcommands.
    assert commands.handlers().keys() == (table | {"command"}) - NOT_SERVED


def test_modules_are_named_as_their_groups() -> None:
    """A group's handlers are in the module of its name."""
    for group, handlers in commands.GROUPS.items():
        module = getattr(commands, group.replace("-", "_"))
        assert module.HANDLERS is handlers
