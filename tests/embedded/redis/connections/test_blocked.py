"""Blocked clients, without connections."""

from collections.abc import Callable

from cachesim.embedded.redis.connections.blocked import Blocked, BlockedClients


def waiting(
    clients: BlockedClients, *keys: bytes, retry: Callable[[bytes | None], None]
) -> Blocked:
    """Add a client that waits for keys."""
    blocked = Blocked(keys, retry, lambda _: None, lambda _: None)
    clients.add(blocked)
    return blocked


def test_served_in_order() -> None:
    """Clients of a changed key are retried in the order in which they came, once they may be."""
    retried: list[str] = []
    may_serve = False
    clients = BlockedClients(lambda: may_serve)
    waiting(clients, b"a", b"b", retry=lambda _: retried.append("first"))
    waiting(clients, b"a", retry=lambda _: retried.append("second"))
    waiting(clients, b"c", retry=lambda _: retried.append("other"))
    clients.changed([b"a", b"none"])
    clients.serve()
    assert not retried
    may_serve = True
    clients.serve()
    clients.serve()
    assert retried == ["first", "second"]


def test_removed_meanwhile() -> None:
    """A client that is removed by the retry of another one is not retried."""
    retried: list[str] = []
    clients = BlockedClients(lambda: True)
    first = waiting(clients, b"a", retry=lambda _: clients.remove(second))
    second = waiting(clients, b"a", retry=lambda _: retried.append("second"))
    clients.changed([b"a"])
    clients.serve()
    assert not retried
    clients.remove(first)
    assert not clients.everyone
    assert not list(clients.keys)


def test_replicas_acknowledged() -> None:
    """Only clients that wait for no key wait for replicas."""
    retried: list[str] = []
    clients = BlockedClients(lambda: True)
    waiting(clients, b"a", retry=lambda _: retried.append("key"))
    waiting(clients, retry=lambda _: retried.append("replicas"))
    clients.replicas_acknowledged()
    assert retried == ["replicas"]
