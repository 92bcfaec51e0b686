"""SORT and SORT_RO, of the generic commands."""

from collections.abc import Mapping
from typing import Any

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, WRONG_TYPE, integer, real
from cachesim.protocols.resp import Error, Reply

_NO_NUMBER = "ERR One or more scores can't be converted into double"


def _score(element: bytes) -> float:
    """Read an element as C does: up to the first zero byte, after blanks."""
    text = element.partition(b"\0")[0]
    return real(text.lstrip(b" \t\n\v\f\r"), _NO_NUMBER) if text else 0.0


def _denied(word: bytes) -> Error:
    return Error(f"ERR {word.decode().upper()} option of SORT denied in Cluster mode.")


def _elements(value: Any, kind: str) -> list[bytes]:
    """Return the elements of a collection, in its order."""
    if kind == "zset":
        return [member for _, member in value.islice_score(0, len(value))]
    return list(value)


def sort(client: Client, arguments: list[bytes]) -> Answer:
    """SORT key [BY x] [LIMIT offset count] [ASC | DESC] [ALPHA] [STORE key], SORT_RO."""
    first, count, target = 0, -1, None
    is_reverse = by_name = keeps_order = False
    may_store = arguments[0].lower() == b"sort"
    at = 2
    while at < len(arguments):
        word, left = arguments[at].lower(), len(arguments) - at - 1
        if word in (b"asc", b"desc"):
            is_reverse = word == b"desc"
        elif word == b"alpha":
            by_name = True
        elif word == b"limit" and left >= 2:
            first, count = integer(arguments[at + 1]), integer(arguments[at + 2])
            at += 2
        elif word == b"store" and left and may_store:
            target = arguments[at + 1]
            at += 1
        elif word == b"by" and left:
            if b"*" in arguments[at + 1].partition(b"\0")[0]:
                raise _denied(word)
            keeps_order = True
            at += 1
        elif word == b"get" and left:
            raise _denied(word)
        else:
            raise Error(SYNTAX)
        at += 1
    found: list[bytes] = []
    item = client.store.get(arguments[1])
    if item is not None:
        kind = client.store.type_name(item.value)
        if kind not in ("list", "set", "zset"):
            raise Error(WRONG_TYPE)
        if keeps_order and kind == "set" and (target is not None or client.in_script):
            keeps_order, by_name = False, True  # a set has no order that replicas share
        found = _elements(item.value, kind)
    if not keeps_order:
        found.sort(key=None if by_name else lambda element: (_score(element), element))
    if is_reverse:
        found.reverse()
    begin = max(0, first)
    found = found[begin : len(found) if count < 0 else begin + count]
    if target is None:
        return list[Reply](found)
    if found:
        client.store.put(target, found)
    else:
        client.store.remove(target)
    return len(found)


HANDLERS: Mapping[str, Handler] = {"sort": sort, "sort_ro": sort}
