"""The backlog of connections: who is admitted, and when."""

import asyncio

from cachesim.embedded.backlog import Backlog


class Transport(asyncio.Transport):
    """A transport that knows whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True

    def pause_reading(self) -> None:
        """Note it."""
        self.is_read = False

    def resume_reading(self) -> None:
        """Note it."""
        self.is_read = True

    def is_closing(self) -> bool:
        """It is open."""
        return False


class Server(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the begin."""
        self.told.append("made")
        assert isinstance(transport, Transport)

    def data_received(self, data: bytes) -> None:
        """Note the data."""
        self.told.append(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self.told.append("lost")
        assert error is None


class Client:
    """A connection through a backlog."""

    def __init__(self, backlog: Backlog) -> None:
        self.server, self.transport = Server(), Transport()
        self._protocol = backlog.wrap(self.server)
        self._protocol.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        """Send data, which may have been on its way when reading was paused."""
        self._protocol.data_received(data)

    def close(self) -> None:
        """Close it."""
        self._protocol.connection_lost(None)

    @property
    def is_served(self) -> bool:
        """Whether the server knows it."""
        return bool(self.server.told)


def test_without_a_limit_all_are_admitted() -> None:
    """At once, and told of all events."""
    backlog = Backlog()
    client = Client(backlog)
    client.send(b"get k")
    client.close()
    assert client.server.told == ["made", b"get k", "lost"]
    assert (backlog.is_accepting, backlog.waits) == (True, 0)


def test_those_beyond_the_limit_wait_in_order() -> None:
    """Until one that was admitted is closed; what they have sent is not lost."""
    backlog = Backlog()
    first = Client(backlog)
    backlog.set_limit(1)
    second, third = Client(backlog), Client(backlog)
    second.send(b"get k")
    assert (second.is_served, second.transport.is_read) == (False, False)
    assert (backlog.is_accepting, backlog.waits) == (False, 2)
    first.close()
    assert second.server.told == ["made", b"get k"]
    assert (second.transport.is_read, third.is_served) == (True, False)
    second.close()
    assert third.is_served
    assert backlog.is_accepting


def test_who_gives_up_leaves_no_trace() -> None:
    """A connection that ends while it waits takes no place, and the server never hears of it."""
    backlog = Backlog()
    backlog.set_limit(1)
    first, second, third = Client(backlog), Client(backlog), Client(backlog)
    second.close()
    first.close()
    assert (second.is_served, third.is_served) == (False, True)


def test_open_connections_stay_and_no_limit_admits_all() -> None:
    """A limit below what is open closes nothing, and without one nobody waits."""
    backlog = Backlog()
    clients = [Client(backlog) for _ in range(3)]
    backlog.set_limit(1)
    late = Client(backlog)
    clients[0].close()
    clients[1].close()
    assert clients[2].server.told == ["made"]
    assert not late.is_served
    backlog.set_limit(None)
    assert late.is_served
