"""Handlers of commands that fakeredis runs, with corrections of its replies.

fakeredis checks the type of a key before the arguments. Redis checks the arguments first, except in
a few commands. Checks of a single command are in the module of its group.
"""

from typing import Any

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import (
    WRONG_TYPE,
)
from cachesim.protocols.resp import Error


def plain(name: str, *, type_first: str | None = None) -> Handler:
    """Return a handler that runs a command with fakeredis, and returns Redis's errors.

    Args:
        name: the name in lower case.
        type_first: the type of the key, for the few commands that check it before their arguments.
    """

    def run(client: Client, arguments: list[bytes]) -> Answer:
        if type_first is not None:
            value_of(client, arguments[1], type_first)
        try:
            return client.store.run(name, arguments[1:], client.resp)
        except Error as error:
            if error.text == WRONG_TYPE and type_first is None:
                # Redis checks the arguments first.
                refusal = client.store.refusal(name, arguments[1:], client.resp)
                if refusal is not None:
                    raise refusal from None
            raise

    return run


def value_of(client: Client, key: bytes, kind: str) -> Any:
    """Return the value of a key, or an empty dict if it is missing.

    Raises:
        Error: the value has another type.
    """
    item = client.store.get(key)
    if item is None:
        return {}
    if client.store.type_name(item.value) != kind:
        raise Error(WRONG_TYPE)
    return item.value
