"""What Redis's command table has is in the fuzzer's grammar, or a known difference."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachesim.embedded.redis.dispatch.command_table import (
    Command,
    Finder,
    UnclearKeysError,
    commands,
    everything,
)
from tests.embedded.redis.alike import name_of
from tests.embedded.redis.differential import KNOWN
from tests.embedded.redis.grammar import Words, drawn, drawn_of_session

TOKENS: dict[str, list[str]] = dict(
    json.loads(Path(__file__).with_name("grammar").joinpath("tokens.json").read_text())
)
"""The words that are options of each command, as Redis 7.0 documents them."""
UNSUPPORTED = {
    name.lower().replace(" ", "|")
    for names, reason in KNOWN
    if reason.startswith("not supported")
    for name in names.split(", ")
}
"""Commands and subcommands that the page of differences says are not supported."""
_SAMPLE = 100_000

Requests = dict[str, list[Words]]


@pytest.fixture(scope="module")
def asked() -> Requests:
    """Requests of the grammar by command."""
    r = random.Random(1)
    requests: Requests = {}
    for _ in range(_SAMPLE):
        for words in (drawn(r), drawn_of_session(r)):
            requests.setdefault(name_of(words), []).append(words)
    return requests


def required() -> Iterator[Command]:
    """Yield the commands and subcommands that the grammar must have."""
    for command in everything(commands()):
        outer = command.name.partition("|")[0]
        if command.name not in UNSUPPORTED and outer not in UNSUPPORTED:
            yield command


def test_commands(asked: Requests) -> None:
    """Each command and subcommand is drawn with a number of arguments that it takes."""
    missing = [
        command.name
        for command in required()
        if not any(command.takes(len(words)) for words in asked.get(command.name, ()))
        and not any(name.startswith(f"{command.name}|") for name in asked)
    ]
    assert not missing


def test_tokens(asked: Requests) -> None:
    """Each option of each command is drawn."""
    names = {command.name for command in required()}
    missing = [
        f"{name} {token}"
        for name in names & TOKENS.keys()
        for token in TOKENS[name]
        if f"{name}|{token.lower()}" not in UNSUPPORTED
        and not any(
            token.lower().encode() in (word.lower() for word in words[1:]) for words in asked[name]
        )
    ]
    assert not missing


def test_forms_of_keys(asked: Requests) -> None:
    """Each way to find keys in a request of a command finds some."""
    missing = [
        f"{command.name}: {number}"
        for command in required()
        for number, (_, find) in enumerate(command.finders)
        if not any(_found(find, words) for words in asked[command.name])
    ]
    assert not missing


def _found(find: Finder, words: Words) -> bool:
    try:
        return bool(list(find(words)))
    except UnclearKeysError:
        return False


def test_all_that_is_unsupported_exists() -> None:
    """The page of differences names commands of Redis."""
    tokens = {f"{name}|{token.lower()}" for name in TOKENS for token in TOKENS[name]}
    assert {command.name for command in everything(commands())} | tokens >= UNSUPPORTED
