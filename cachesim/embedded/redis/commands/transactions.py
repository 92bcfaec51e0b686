"""The commands of transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

from collections.abc import Mapping
from typing import cast

from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply


def multi(client: Client, arguments: list[bytes]) -> Answer:
    """MULTI."""
    if client.transaction is not None:
        raise Error("ERR MULTI calls can not be nested")
    client.begin_transaction()
    return "OK"


def discard(client: Client, arguments: list[bytes]) -> Answer:
    """DISCARD."""
    if client.transaction is None:
        raise Error("ERR DISCARD without MULTI")
    client.discard_transaction()
    return "OK"


def exec_(client: Client, arguments: list[bytes]) -> Answer:
    """EXEC."""
    server, transaction = client.server, client.transaction
    if transaction is None:
        raise Error("ERR EXEC without MULTI")
    # A replica, and a primary that is paused, does not remove what has expired.
    failed = client.watch_failed or any(
        not had_expired and client.store.is_expired(key)
        for key, had_expired in client.watched.items()
    )
    client.discard_transaction()
    if transaction.broken:
        raise Error("EXECABORT Transaction discarded because of previous errors.")
    if failed:
        return NULL_ARRAY
    may_block, client.may_block = client.may_block, False
    is_outermost = server.executor.begin_batch()
    queue = iter(transaction.queue)
    answers: list[Answer] = []

    def go_on() -> Answer:
        """Run the rest of the queue. Return NO_REPLY if a script begins, whose end calls this."""
        for entry, queued in queue:
            answer = server.executor.call(client, entry, queued)
            if (script := server.script_runner.running) is not None:
                script.done = script_is_done
                return NO_REPLY
            answers.append(answer)
        client.may_block = may_block
        if is_outermost:
            server.executor.end_batch(client)
        return cast(Reply, [answer for answer in answers if answer is not NO_REPLY])

    def script_is_done(answer: Answer) -> None:
        answers.append(answer)
        answer = go_on()
        if answer is not NO_REPLY:
            server.monitors.feed(server.wall(), client.address, arguments)
            client.answer(answer)

    return go_on()


def watch(client: Client, arguments: list[bytes]) -> Answer:
    """WATCH key..."""
    if client.transaction is not None:
        raise Error("ERR WATCH inside MULTI is not allowed")
    if client.watch_failed:
        return "OK"
    for key in arguments[1:]:
        has_expired = client.store.is_expired(key)
        client.server.watched_keys.add(client, key, has_expired=has_expired)
    return "OK"


def unwatch(client: Client, arguments: list[bytes]) -> Answer:
    """UNWATCH."""
    client.server.watched_keys.remove(client)
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    "discard": discard,
    "exec": exec_,
    "multi": multi,
    "unwatch": unwatch,
    "watch": watch,
}
