"""Gossip without I/O, on a manual clock."""

from dataclasses import dataclass, field

import pytest

from cachesim.clock import ManualClock
from cachesim.embedded.redis.cluster.gossip import Gossip, Message
from cachesim.embedded.redis.cluster.nodes import Member, NodeTable
from cachesim.embedded.redis.cluster.slots import ALL_SLOTS

TIMEOUT = 2.0  # seconds


@dataclass
class Node:
    """A node's gossip, and the actions that it has asked for."""

    net: "Net"
    name: str
    gossip: Gossip = field(init=False)
    did: list[str] = field(default_factory=list)

    def send(self, node: str, message: Message) -> None:
        """Deliver a message and its answer, unless that way is cut."""
        if (self.name, node) in self.net.cut:
            return
        answer = self.net.nodes[node].gossip.receive(message)
        if answer is not None and (self.name, node) not in self.net.cut_answers:
            self.gossip.receive(answer)

    def become_replica(self, primary: Member) -> None:
        """Record the action."""
        self.did.append(f"follow {primary.name}")

    def become_primary(self) -> None:
        """Record the action."""
        self.did.append("lead")

    def offset(self) -> int:
        """Return 0."""
        return 0

    def changed(self) -> None:
        """Nothing to do."""

    def log(self, text: str, level: str = "*") -> None:
        """Nothing to do."""


class Net:
    """The gossip of three nodes. The first one is the primary."""

    def __init__(self, *, decides_alone: bool = False) -> None:
        self.clock = ManualClock(100.0)
        self.cut: set[tuple[str, str]] = set()
        self.cut_answers: set[tuple[str, str]] = set()
        self.nodes = {name: Node(self, name) for name in "abc"}
        for name, node in self.nodes.items():
            members = {n: Member(n, n, "h", 1, 2, primary=None if n == "a" else "a") for n in "abc"}
            members["a"].slots, members["a"].epoch = ALL_SLOTS, 1
            me = members.pop(name)
            node.gossip = Gossip(
                NodeTable(me, members.values()),
                node,
                timeout=lambda: TIMEOUT,
                clock=self.clock.monotonic,
                current_epoch=1,
                is_formed=True,
                decides_alone=decides_alone,
            )
        self.heal()

    def heal(self) -> None:
        """Restore all ways, and open all links again."""
        self.cut.clear()
        self.cut_answers.clear()
        for node in self.nodes.values():
            for member in node.gossip.nodes.others:
                node.gossip.link_up(member)

    def __getitem__(self, name: str) -> Gossip:
        return self.nodes[name].gossip

    def isolate(self, name: str) -> None:
        """Cut all ways from and to a node."""
        self.cut |= {(name, other) for other in "abc"} | {(other, name) for other in "abc"}

    def wait(self, seconds: float) -> None:
        """Advance the clock in steps of 0.1 s."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            for node in self.nodes.values():
                node.gossip.tick()


def test_formed_at_once() -> None:
    """The cluster is ok from the start, and stays so."""
    net = Net()
    assert all(net[name].is_ok for name in "abc")
    net.wait(3 * TIMEOUT)
    assert all(net[name].is_ok for name in "abc")
    assert all(m.is_reachable for name in "abc" for m in net[name].nodes.others)


def test_takeover_while_all_is_well() -> None:
    """A node whose state is ok stays ok; all others replicate it."""
    net = Net()
    net["b"].take_over()
    assert net["b"].is_ok
    assert net.nodes["a"].did == ["follow b"]
    assert net.nodes["c"].did == ["follow b"]
    assert net["a"].nodes.me.primary == "b"
    assert net["a"].nodes.members["b"].slots == ALL_SLOTS


def test_takeover_after_a_silence() -> None:
    """A node whose state had become fail is ok after the node timeout."""
    net = Net()
    net.isolate("a")
    net.wait(2 * TIMEOUT + 1.5)
    assert not net["b"].is_ok
    assert net["a"].is_ok, "a sole primary goes on"
    assert net["b"].nodes.members["a"].failed_at is None, "which replicas alone can't do"
    assert net["b"].nodes.members["a"].suspected
    net["b"].take_over()
    assert not net["b"].is_ok
    net.wait(TIMEOUT - 0.3)
    assert not net["b"].is_ok
    net.wait(0.5)
    assert net["b"].is_ok


def test_old_primary_is_told() -> None:
    """An old primary learns of the newer configuration, and replicates the new one."""
    net = Net()
    net.isolate("a")
    net["c"].take_over()
    assert net["a"].nodes.me.is_primary
    net.heal()
    net.wait(TIMEOUT)
    assert net.nodes["a"].did == ["follow c"]
    assert net["a"].is_ok
    assert all(net[name].nodes.members["c"].is_primary for name in "abc")


def test_one_way_is_not_enough() -> None:
    """A node whose answers are lost is suspected."""
    net = Net()
    net.cut_answers.add(("b", "a"))
    net.cut.add(("a", "b"))
    net.wait(2 * TIMEOUT + 1.5)
    assert net["b"].nodes.members["a"].suspected
    assert net["c"].is_ok


def test_a_link_that_hangs_from_the_start() -> None:
    """A node that has never reached the primary suspects it, too."""
    net = Net()
    net.isolate("a")
    primary = net["b"].nodes.members["a"]
    primary.linked, primary.pong_received, primary.heard = False, 0.0, 0.0
    net.wait(TIMEOUT)
    assert net["b"].is_ok
    net.wait(0.5)
    assert primary.suspected
    assert not net["b"].is_ok
    net.heal()
    net.wait(0.2)
    assert primary.is_reachable
    assert net["b"].is_ok


def test_a_primary_waits_after_it_has_loaded() -> None:
    """Only from then on the delay counts in which the others may tell it that it is none."""
    net = Net()
    net["a"].is_ok, net["a"].is_loading = False, True
    net.wait(5.0)
    assert not net["a"].is_ok
    net["a"].loaded()
    net.wait(1.9)
    assert not net["a"].is_ok
    net.wait(0.2)
    assert net["a"].is_ok


def test_failed_replica_is_back() -> None:
    """A failed replica that answers again is reachable."""
    net = Net()
    net.isolate("b")
    net.wait(2 * TIMEOUT + 1.5)
    assert net["a"].nodes.members["b"].failed_at is not None
    assert net["c"].nodes.members["b"].failed_at is not None
    net.heal()
    net.wait(2.0)
    assert net["a"].nodes.members["b"].is_reachable
    assert net["c"].nodes.members["b"].is_reachable


@pytest.mark.parametrize("decides_alone", [False, True])
def test_a_sole_primary_that_alone_suspects_a_replica(*, decides_alone: bool) -> None:
    """Before 7.4 it waits until a replica agrees, so that clients are told of both replicas."""
    net = Net(decides_alone=decides_alone)
    net.cut |= {("a", "b"), ("b", "a")}
    net.wait(3 * TIMEOUT)
    replica = net["a"].nodes.members["b"]
    assert not replica.is_reachable
    assert (replica.failed_at is not None) is decides_alone
    net.isolate("b")
    net.wait(3 * TIMEOUT)
    assert replica.failed_at is not None
    assert net["c"].nodes.members["b"].failed_at is not None


def test_two_takeovers_end_with_one_primary() -> None:
    """The node with the higher epoch wins."""
    net = Net()
    net.cut |= {("b", "c"), ("c", "b")}
    net["b"].take_over()
    net.cut |= {("a", "c"), ("c", "a")}
    net["c"].take_over()
    net["c"].take_over()
    net.heal()
    net.wait(2 * TIMEOUT)
    owners = {net[name].nodes.owner(0).id for name in "abc"}  # type: ignore[union-attr]
    assert len(owners) == 1
    nodes = [net[name].nodes.me for name in "abc"]
    assert sum(me.is_primary and bool(me.slots) for me in nodes) == 1


def test_equal_epochs_are_told_apart() -> None:
    """Of two primaries with the same epoch, the one with the lower id takes a new one."""
    net = Net()
    net.cut |= {(one, other) for one in "abc" for other in "abc"}
    net["b"].take_over()
    net["c"].take_over()
    assert net["b"].nodes.me.epoch == net["c"].nodes.me.epoch
    net.heal()
    net.wait(TIMEOUT)
    assert net["b"].nodes.me.is_primary
    assert net["b"].nodes.me.epoch > net["c"].nodes.members["c"].epoch
    assert net.nodes["c"].did[-1] == "follow b"


def test_replica_of_a_replica_follows_the_one_above() -> None:
    """One that heard of its primary's end before it hears of the new one follows that in the end.

    The slots of its primary have gone by then, so nothing of what it served is claimed.
    """
    net = Net()
    net["b"].take_over()
    net.isolate("a")
    net["c"].take_over()
    assert net["a"].nodes.me.primary == "b"
    net.cut = {("a", "c"), ("c", "a")}
    net["b"].ping(net["b"].nodes.members["a"])
    assert net["a"].nodes.members["b"].primary == "c"
    assert net["a"].nodes.me.primary == "b", "it knows nothing of c that it could follow"
    net.heal()
    assert net.nodes["a"].did[-1] == "follow c"
    assert net["a"].nodes.me.primary == "c"


def test_two_that_follow_each_other_do_not_go_round() -> None:
    """A node whose primary follows it stays where it is: somebody has to say who leads."""
    net = Net()
    net["b"].nodes.members["a"].primary = "b"
    net["b"].nodes.members["a"].slots = 0
    news = {"t": "update", "from": "c", "node": "c", "epoch": 9, "slots": f"{ALL_SLOTS:x}"}
    net["b"].receive(news)
    assert net.nodes["b"].did == []


def test_update_about_oneself_is_ignored() -> None:
    """Other nodes can't change which slots a node serves."""
    net = Net()
    news = {"t": "update", "from": "a", "node": "b", "epoch": 9, "slots": f"{ALL_SLOTS:x}"}
    net["b"].receive(news)
    assert not net["b"].nodes.me.slots
    assert net["b"].nodes.me.primary == "a"
