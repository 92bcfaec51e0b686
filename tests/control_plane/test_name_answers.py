"""What a configuration endpoint leads to, at a time that stands still."""

import random

import pytest

from cachesim.clock import ManualClock
from cachesim.control_plane.name_answers import NameAnswers
from cachesim.topology import Endpoint

TTL = 5.0


class Names:
    """Three healthy nodes, and the answers for them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.healthy = {name: Endpoint(name, 1) for name in "abc"}
        self.answers = NameAnswers(
            lambda: self.healthy, lambda: TTL, random.Random(7), clock=self.clock
        )

    def led_to(self) -> set[str]:
        """The hosts that a hundred connections are led to."""
        chosen = [self.answers.choose() for _ in range(100)]
        return {it.host for it in chosen if it is not None}


@pytest.fixture
def names() -> Names:
    """Three healthy nodes."""
    return Names()


def test_all_healthy_nodes(names: Names) -> None:
    """Connections are spread over the healthy nodes."""
    assert names.led_to() == {"a", "b", "c"}


def test_dead_node_until_the_answer_is_old(names: Names) -> None:
    """A node that has just died may still be reached, until the answer's time is over."""
    names.led_to()
    del names.healthy["a"]
    names.clock.advance(TTL - 0.1)
    assert names.led_to() == {"a", "b", "c"}
    names.clock.advance(0.1)
    assert names.led_to() == {"b", "c"}


def test_former_address_until_the_answer_is_old(names: Names) -> None:
    """So may a node's former address."""
    names.led_to()
    names.healthy["a"] = Endpoint("new", 1)
    assert names.led_to() == {"a", "b", "c"}
    names.clock.advance(TTL)
    assert names.led_to() == {"new", "b", "c"}


def test_no_node_is_healthy(names: Names) -> None:
    """While none is healthy, the last answer stays; without any, there is nothing to lead to."""
    names.led_to()
    names.healthy = {}
    names.clock.advance(2 * TTL)
    assert names.led_to() == {"a", "b", "c"}
    empty = Names()
    empty.healthy = {}
    assert empty.answers.choose() is None


def test_held(names: Names) -> None:
    """A held answer is that of the moment, and stays until all its holders have released it."""
    names.led_to()
    del names.healthy["a"]
    names.clock.advance(TTL)
    names.answers.hold("one")
    names.answers.hold("other")
    names.healthy = {"a": Endpoint("a", 1)}
    names.clock.advance(100 * TTL)
    assert names.led_to() == {"b", "c"}
    names.answers.release("one")
    names.answers.release("one")
    assert names.led_to() == {"b", "c"}
    names.answers.release("other")
    assert names.led_to() == {"a"}


def test_forgotten(names: Names) -> None:
    """What is forgotten is answered anew, and held no more."""
    names.answers.hold("one")
    del names.healthy["a"]
    names.answers.forget()
    assert names.led_to() == {"b", "c"}
