"""The connections that a Memcached server has."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymemcache.client.base import Client


def clients_of(client: "Client", own: Callable[[], int]) -> int:
    """Return how many connections of clients a server has.

    Args:
        own: returns how many are none of clients.
    """
    found = client.stats("conns")
    states = [state for name, state in found.items() if name.endswith(b":state")]
    return max(0, int(sum(state != b"conn_listening" for state in states)) - own())
