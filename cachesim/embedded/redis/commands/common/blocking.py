"""Commands that wait for a key: their timeouts and their later answers."""

import math
from collections.abc import Callable
from typing import Any

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.keyspace.values import WRONG_TYPE
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply

Attempt = Callable[[bool], Answer]
"""Returns the answer, or None if there is none yet. The argument is True at the first attempt."""

_SINGLE_POPS = {b"LEFT": b"LPOP", b"RIGHT": b"RPOP", b"MIN": b"ZPOPMIN", b"MAX": b"ZPOPMAX"}


def timeout(text: bytes) -> float:
    """Return a timeout in seconds.

    Raises:
        Error: the text is not a number, or the number is negative or too large.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or text != text.strip() or b"_" in text:
        raise Error("ERR timeout is not a float or out of range")
    if seconds < 0:
        raise Error("ERR timeout is negative")
    if seconds > 2**53:
        raise Error("ERR timeout is out of range")
    return seconds


def answer_or_wait(
    client: Client,
    keys: list[bytes],
    seconds: float,
    attempt: Attempt,
    nothing: Reply = NULL_ARRAY,
) -> Answer:
    """Answer now, or when a key has changed.

    Args:
        seconds: the longest wait; 0: no limit.
        nothing: the answer when the time is up, or when the client may not wait.
    """
    answer = attempt(True)
    if answer is not None:
        return answer
    if not client.may_block or not isinstance(client, Session):
        return nothing
    return client.wait(tuple(dict.fromkeys(keys)), lambda: attempt(False), lambda: nothing, seconds)


def pop_or_wait(client: Client, arguments: list[bytes], pop: str, kind: str) -> Answer:
    """Run BLPOP, BRPOP, BZPOPMIN or BZPOPMAX: `key... timeout`.

    Args:
        pop: the command that takes one element. Replicas run this command.
        kind: the type of the keys.
    """
    keys, seconds = arguments[1:-1], timeout(arguments[-1])
    store = client.store

    def attempt(first: bool) -> Answer:
        for key in keys:
            item = store.get(key)
            if item is None:
                continue
            if store.type_name(item.value) != kind:
                if first:
                    raise Error(WRONG_TYPE)
                continue
            popped = store.run(pop, [key], client.resp)
            client.server.executor.effects = [[pop.upper().encode(), key]]
            return [key, *popped] if isinstance(popped, list) else [key, popped]
        return None

    return answer_or_wait(client, keys, seconds, attempt)


def pop_several(client: Client, arguments: list[bytes], name: str) -> Answer:
    """Run LMPOP or ZMPOP. Replicas run the equivalent LPOP, RPOP, ZPOPMIN or ZPOPMAX.

    Args:
        arguments: `numkeys key... LEFT|RIGHT|MIN|MAX [COUNT n]`.
    """
    popped: Any = client.store.run(name, arguments, client.resp)
    if popped is None:
        return None
    key, elements = popped
    pop = _SINGLE_POPS[arguments[1 + int(arguments[0])].upper()]
    client.server.executor.effects = [[pop, key, b"%d" % len(elements)]]
    return [key, elements]


def pop_several_or_wait(client: Client, arguments: list[bytes], name: str, kind: str) -> Answer:
    """Run BLMPOP or BZMPOP: as `pop_several`, with the timeout as the first argument."""
    seconds = timeout(arguments[1])
    rest = arguments[2:]
    store = client.store

    def attempt(first: bool) -> Answer:
        if not first:
            keys = rest[1 : 1 + int(rest[0])]
            held = (store.get(key) for key in keys)
            if any(i is not None and store.type_name(i.value) != kind for i in held):
                return None
        return pop_several(client, rest, name)

    answer = attempt(True)  # also checks the arguments
    if answer is not None:
        return answer
    return answer_or_wait(client, rest[1 : 1 + int(rest[0])], seconds, attempt)
