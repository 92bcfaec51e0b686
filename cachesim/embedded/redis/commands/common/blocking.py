"""Commands that wait for a key: their timeouts and their later answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.keyspace.values import SYNTAX, WRONG_TYPE, integer
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply

Attempt = Callable[[list[bytes]], Answer]
"""Returns the answer for the given keys, or None if there is none yet."""

_LIST_POPS = {b"LEFT": "lpop", b"RIGHT": "rpop"}
_ZSET_POPS = {b"MIN": "zpopmin", b"MAX": "zpopmax"}


def timeout(text: bytes) -> float:
    """Return a timeout in seconds.

    Raises:
        Error: the text is not a number, or the number is negative or too large.
    """
    try:
        is_hexadecimal = b"x" in text.lower()
        seconds = float.fromhex(text.decode()) if is_hexadecimal else float(text)
    except (ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds) or text != text.strip() or b"_" in text:
        raise Error("ERR timeout is not a float or out of range")
    if not 0 <= seconds * 1000 < 2**63:  # Redis has one text for both
        raise Error("ERR timeout is negative")
    return seconds


def answer_or_wait(
    client: Client,
    keys: list[bytes],
    kind: str,
    seconds: float,
    attempt: Attempt,
    *,
    again: Attempt | None = None,
    nothing: Reply = NULL_ARRAY,
    lost: Error | None = None,
) -> Answer:
    """Answer now, or later with the first changed key that gives an answer.

    Args:
        kind: the type of the keys. While a key has another one, it does not end the wait.
        seconds: how long to wait; 0 for ever.
        again: what to do instead of `attempt` when a key has changed.
        nothing: the answer when the client may not wait.
        lost: the answer when a key is deleted or gets another type; None to wait on.
    """
    answer = attempt(keys)
    if answer is not None:
        return answer
    if not client.may_block or not isinstance(client, Session):
        return nothing
    store = client.store

    def retry(key: bytes | None) -> Answer:
        item = None if key is None else store.get(key)
        if key is None or item is None or store.type_name(item.value) != kind:
            return lost
        return (again or attempt)([key])

    return client.wait(tuple(dict.fromkeys(keys)), retry, lambda: NULL_ARRAY, seconds)


def _has(client: Client, key: bytes, kind: str) -> bool:
    """Return whether a key has a value.

    Raises:
        Error: the value has another type.
    """
    item = client.store.get(key)
    if item is not None and client.store.type_name(item.value) != kind:
        raise Error(WRONG_TYPE)
    return item is not None


def pop_or_wait(client: Client, arguments: list[bytes], pop: str, kind: str) -> Answer:
    """Run BLPOP, BRPOP, BZPOPMIN or BZPOPMAX: `key... timeout`.

    Args:
        pop: the command that takes one element. Replicas run this command.
        kind: the type of the keys.
    """
    seconds = timeout(arguments[-1])

    def attempt(keys: list[bytes]) -> Answer:
        for key in keys:
            if _has(client, key, kind):
                popped = client.store.run(pop, [key], client.resp)
                client.server.executor.effects = [[pop.upper().encode(), key]]
                return [key, *popped] if isinstance(popped, list) else [key, popped]
        return None

    return answer_or_wait(client, arguments[1:-1], kind, seconds, attempt)


@dataclass
class SeveralPops:
    """LMPOP or ZMPOP: `numkeys key... LEFT|RIGHT|MIN|MAX [COUNT n]`.

    Attributes:
        kind: the type of the keys.
        pop: the command that takes elements. Replicas run this command.
    """

    client: Client
    kind: str
    keys: list[bytes]
    pop: str
    count: int

    @classmethod
    def parsed(cls, client: Client, words: list[bytes], kind: str) -> "SeveralPops":
        """Return the parsed arguments.

        Raises:
            Error: the arguments are malformed.
        """
        number = _positive(words[0], "numkeys")
        pops = _LIST_POPS if kind == "list" else _ZSET_POPS
        end = words[1 + number].upper() if 1 + number < len(words) else b""
        if end not in pops:
            raise Error(SYNTAX)
        count, options = 1, words[2 + number :]
        if options:
            if len(options) < 2 or options[0].upper() != b"COUNT":
                raise Error(SYNTAX)
            count = _positive(options[1], "count")
            if len(options) > 2:
                raise Error(SYNTAX)
        return cls(client, kind, words[1 : 1 + number], pops[end], count)

    def attempt(self, keys: list[bytes]) -> Answer:
        """Take elements of the first key that has some; return None if no key has any."""
        client = self.client
        for key in keys:
            if _has(client, key, self.kind):
                # fakeredis pairs members and scores only in RESP3; here RESP2 has pairs too.
                popped = client.store.run(self.pop, [key, b"%d" % self.count], 3)
                number = b"%d" % len(cast("list[Reply]", popped))
                client.server.executor.effects = [[self.pop.upper().encode(), key, number]]
                return [key, popped]
        return None


def _positive(text: bytes, name: str) -> int:
    refusal = f"ERR {name} should be greater than 0"
    number = integer(text, refusal)
    if number < 1:
        raise Error(refusal)
    return number


def pop_several(client: Client, arguments: list[bytes], kind: str) -> Answer:
    """Run LMPOP or ZMPOP."""
    pops = SeveralPops.parsed(client, arguments[1:], kind)
    answer = pops.attempt(pops.keys)
    return NULL_ARRAY if answer is None else answer


def pop_several_or_wait(client: Client, arguments: list[bytes], kind: str) -> Answer:
    """Run BLMPOP or BZMPOP: as `pop_several`, with the timeout as the first argument."""
    pops = SeveralPops.parsed(client, arguments[2:], kind)
    seconds = timeout(arguments[1])
    return answer_or_wait(client, pops.keys, kind, seconds, pops.attempt)
