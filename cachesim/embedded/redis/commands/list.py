"""The list commands. fakeredis runs them, after checks that fakeredis lacks."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.blocking import (
    answer_or_wait,
    pop_or_wait,
    pop_several,
    pop_several_or_wait,
    timeout,
)
from cachesim.embedded.redis.commands.common.by_fakeredis import plain
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer
from cachesim.protocols.resp import NULL_ARRAY, Error

_PLAIN = (
    "llen",  # key
    "lpush",  # key element...
    "lpushx",  # key element...
    "lrange",  # key start stop
    "lrem",  # key count element
    "ltrim",  # key start stop
    "rpoplpush",  # source destination
    "rpush",  # key element...
    "rpushx",  # key element...
)
_lpos = plain("lpos")
_pops = {b"lpop": plain("lpop"), b"rpop": plain("rpop")}


def pop(client: Client, arguments: list[bytes]) -> Answer:
    """LPOP key [count], RPOP key [count]."""
    name = arguments[0].lower()
    if len(arguments) > 3:
        raise Error(f"ERR wrong number of arguments for '{name.decode()}' command")
    answer = _pops[name](client, arguments)
    return NULL_ARRAY if answer is None and len(arguments) == 3 else answer


def lmove(client: Client, arguments: list[bytes]) -> Answer:
    """LMOVE source destination LEFT|RIGHT LEFT|RIGHT."""
    if any(word.lower() not in (b"left", b"right") for word in arguments[3:5]):
        raise Error(SYNTAX)
    return client.store.run("lmove", arguments[1:], client.resp)


def linsert(client: Client, arguments: list[bytes]) -> Answer:
    """LINSERT key BEFORE|AFTER pivot element."""
    if arguments[2].lower() not in (b"before", b"after"):
        raise Error(SYNTAX)
    return client.store.run("linsert", arguments[1:], client.resp)


def lpos(client: Client, arguments: list[bytes]) -> Answer:
    """LPOS key element [RANK rank] [COUNT n] [MAXLEN n]."""
    for at in range(3, len(arguments) - 1, 2):
        option = arguments[at].upper()
        if option in (b"COUNT", b"MAXLEN"):
            refusal = f"ERR {option.decode()} can't be negative"
            if integer(arguments[at + 1], refusal) < 0:
                raise Error(refusal)
        elif option == b"RANK" and integer(arguments[at + 1]) == 0:
            # This error comes before a syntax error in later options.
            return _lpos(client, arguments[: at + 2])
    return _lpos(client, arguments)


def lmpop(client: Client, arguments: list[bytes]) -> Answer:
    """LMPOP numkeys key... LEFT|RIGHT [COUNT n]."""
    return pop_several(client, arguments, "list")


# --- blocking commands ----------------------------------------------------------------------


def blpop(client: Client, arguments: list[bytes]) -> Answer:
    """BLPOP key... timeout."""
    return pop_or_wait(client, arguments, "lpop", "list")


def brpop(client: Client, arguments: list[bytes]) -> Answer:
    """BRPOP key... timeout."""
    return pop_or_wait(client, arguments, "rpop", "list")


def blmpop(client: Client, arguments: list[bytes]) -> Answer:
    """BLMPOP timeout numkeys key... LEFT|RIGHT [COUNT n]."""
    return pop_several_or_wait(client, arguments, "list")


def _move_or_wait(
    client: Client, source: bytes, target: bytes, ends: list[bytes], seconds: float
) -> Answer:
    store = client.store

    def attempt(_keys: list[bytes]) -> Answer:
        if store.get(source) is None:
            return None
        value = store.run("lmove", [source, target, *ends], client.resp)
        client.server.executor.effects = [[b"LMOVE", source, target, *ends]]
        return value

    return answer_or_wait(client, [source], "list", seconds, attempt, nothing=None)


def blmove(client: Client, arguments: list[bytes]) -> Answer:
    """BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout."""
    ends = [word.upper() for word in arguments[3:5]]
    if any(end not in (b"LEFT", b"RIGHT") for end in ends):
        raise Error(SYNTAX)
    return _move_or_wait(client, arguments[1], arguments[2], ends, timeout(arguments[5]))


def brpoplpush(client: Client, arguments: list[bytes]) -> Answer:
    """BRPOPLPUSH source destination timeout."""
    ends = [b"RIGHT", b"LEFT"]
    return _move_or_wait(client, arguments[1], arguments[2], ends, timeout(arguments[3]))


HANDLERS: Mapping[str, Handler] = {
    **{name: plain(name) for name in _PLAIN},
    "blmove": blmove,
    "blmpop": blmpop,
    "blpop": blpop,
    "brpop": brpop,
    "brpoplpush": brpoplpush,
    "lindex": plain("lindex", type_first="list"),  # key index
    "linsert": linsert,
    "lmove": lmove,
    "lmpop": lmpop,
    "lpop": pop,
    "lpos": lpos,
    "lset": plain("lset", type_first="list"),  # key index element
    "rpop": pop,
}
