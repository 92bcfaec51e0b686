"""A server in this process that answers calls, for tests of both sides."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cachesim.daemon.server import Caller, Handler, Hangup
from cachesim.errors import FaultError
from cachesim.runs.rpc import Channel, Client
from tests.contract.helpers import until

LIMIT = 10.0  # seconds for what happens at once


class Answers(Handler):
    """The handler of the tests' server.

    Attributes:
        error: what `fail` raises.
        callers: the connections that have called, in the order of their first calls.
        left: the connections that have ended, in order.
        entered: how many calls of `wait` have come.
        free: lets all calls of `wait` go on.
        on_wait: called when such a call has come.
    """

    def __init__(self) -> None:
        self.error: Exception = FaultError("no such luck")
        self.callers: list[Caller] = []
        self.left: list[Caller] = []
        self.entered = threading.Semaphore(0)
        self.free = threading.Event()
        self.on_wait: Callable[[], None] = lambda: None

    def answer(self, caller: Caller, operation: str, arguments: dict[str, Any]) -> object:
        """See `Handler.answer`."""
        if caller not in self.callers:
            self.callers.append(caller)
        match operation:
            case "echo":
                return arguments
            case "count":
                for number in range(arguments["to"]):
                    caller.send(number)
                return "done"
            case "wait":
                self.entered.release()
                self.on_wait()
                until(lambda: self.free.is_set() or caller.has_hung_up, LIMIT)
                if not self.free.is_set():
                    raise Hangup
                return "waited"
            case "leave":
                raise Hangup
            case _:
                raise self.error

    def hung_up(self, caller: Caller) -> None:
        """See `Handler.hung_up`."""
        self.left.append(caller)


@contextmanager
def waiting(client: Client, answers: Answers) -> Iterator[Channel]:
    """Yield a connection with a call that waits."""
    channel = client.channel()
    channel.begin("wait")
    assert answers.entered.acquire(timeout=LIMIT)
    yield channel
