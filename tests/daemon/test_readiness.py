"""Waiting until nodes answer."""

from types import SimpleNamespace
from typing import cast

import pytest

from cachesim.clock import Deadline
from cachesim.daemon.readiness import wait_for_memcached
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients


class Node:
    """A Memcached node that refuses connections for some calls."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.closed = 0

    def version(self) -> bytes:
        """Answer, or refuse."""
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError("refused")
        return b"1.6"

    def close(self) -> None:
        """Close it."""
        self.closed += 1


def wait(node: Node, seconds: float) -> None:
    """Wait for a node."""
    clients = SimpleNamespace(new_memcached=lambda _name: node)
    wait_for_memcached("memcached-a", cast(NodeClients, clients), Deadline(seconds))


def test_node_that_comes_up() -> None:
    """It is asked again until it answers, each time over a new connection."""
    node = Node(refusals=2)
    wait(node, 60)
    assert (node.refusals, node.closed) == (0, 3)


def test_node_that_does_not_answer() -> None:
    """At the deadline the error names it, and says what its last answer was."""
    with pytest.raises(NotReady, match="memcached-a: does not answer: refused") as caught:
        wait(Node(refusals=9), 0)
    assert caught.value.node == "memcached-a"
