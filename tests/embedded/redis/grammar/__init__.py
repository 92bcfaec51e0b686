"""The grammar of the fuzzer: what it asks of each of Redis's commands.

`values`, `streams` and `server` have requests with one reply each. `sessions` has those after
which a connection gets more than replies, or none for long.
"""

import random

from cachesim.embedded.redis.dispatch.command_table import commands
from tests.embedded.redis.grammar import server, sessions, streams, values
from tests.embedded.redis.grammar.draws import (
    VALUES,
    Draw,
    Grammar,
    either,
    many,
    maybe,
    one,
    seq,
    word,
)

Words = tuple[bytes, ...]


def _request(r: random.Random) -> list[bytes]:
    """Draw a whole request."""
    return list(drawn(r))


COMMAND: Draw = either(
    word("count", "help", "foo"),
    seq(word("info"), maybe(one(b"get", b"xread", b"config|get", b"nosuch", b"sort"), chance=0.9)),
    seq(word("docs"), maybe(many(one(
        b"get", b"SET", b"xread", b"client|kill", b"config", b"geosearch", b"nosuch",
    )), chance=0.9)),
    seq(word("list"), maybe(word("filterby"), either(
        seq(word("aclcat"), word("fast", "scripting", "x")),
        seq(word("pattern"), word("x*", "*|h*", "nosuch")), seq(word("module", "x"), word("x")),
    ), chance=0.9)),
    seq(word("getkeys", "getkeysandflags"), _request),
)  # fmt: skip
COMMANDS: Grammar = {
    **values.COMMANDS, **streams.COMMANDS, **server.COMMANDS, "command": (COMMAND,)
}  # fmt: skip
_OFTEN = ("exec", "exec", "exec", "discard")
"""What ends a transaction is drawn more often, so that most requests run at once."""
_DATA = (*values.COMMANDS, *streams.COMMANDS, *_OFTEN)
_SERVER = tuple(
    name
    for name in (*server.COMMANDS, *server.SCRIPT_COMMANDS, "command")
    for _ in range(1 + len(commands()[name].subcommands) // 2 if name in commands() else 1)
)
"""Commands with many subcommands are drawn more often."""
_SESSIONS = tuple(sessions.COMMANDS)
_WAITING = {"blpop", "brpop", "bzpopmin", "bzpopmax"}
"""Commands for which one more argument is a timeout, perhaps without end."""
_DRAWN = {"spop"}
"""Commands whose choice is random without their last argument, so that it is never left out."""


def drawn(r: random.Random) -> Words:
    """Draw a request with one reply, sometimes with too few or too many arguments."""
    return _drawn(r, r.choice(_DATA if r.random() < 0.75 else _SERVER), COMMANDS)


def drawn_of_session(r: random.Random) -> Words:
    """Draw a request after which a connection may get more than replies."""
    return _drawn(r, r.choice(_SESSIONS), sessions.COMMANDS)


def _drawn(r: random.Random, name: str, grammar: Grammar) -> Words:
    words = [w for draw in grammar[name] for w in draw(r)]
    if r.random() < 0.03 and words and name not in _DRAWN:
        words.pop()
    if r.random() < 0.02 and name not in _WAITING:
        words.append(r.choice(VALUES))
    return ((name.upper() if r.random() < 0.5 else name).encode(), *words)
