"""Node verbs: who wants which node down, paused or without power, and what comes of it."""

from collections.abc import Callable, Iterator

import pytest

from cachesim.errors import FaultError, NoPower
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.topology import Link, NodeState, production
from cachesim.toxiproxy.toxics import BOTH, Latency, Stream
from tests.fakes import Call, FakeBackend, toxiproxies

RUNNING, PAUSED, STOPPED = NodeState.RUNNING, NodeState.PAUSED, NodeState.STOPPED
ZONE_A = ("memcached-a", "redis-a")


SYNCED_AT = 7.5


def unknown(_node: str) -> None:
    """Return that it is not known which bytes reached a node's disk."""


def reached(size: int) -> Callable[[str], tuple[float, int] | None]:
    """Return when which bytes of redis-a reached the disk."""
    return {"redis-a": (SYNCED_AT, size), "memcached-a": None}.__getitem__


class Rig:
    """Nodes and links in memory; `calls` has what was done to both."""

    def __init__(self) -> None:
        self.topology = production()
        self.calls: list[Call] = []
        self.backend = FakeBackend(self.topology, self.calls)
        self.servers = toxiproxies(self.topology, self.calls)
        self.events = events = EventLog()
        self.links = Links(
            self.topology,
            self.servers,
            events,
            lambda node: self.nodes.is_frozen(node),
            self.backend.renew_toxiproxy,
        )
        self.nodes = Nodes(self.topology, self.backend, self.links, events)

    def did(self) -> list[Call]:
        """Return the calls about nodes since this was last called."""
        of_links = ("add", "set", "lift", "remove", "disable", "enable")
        did = [call for call in self.calls if call[0] not in of_links]
        self.calls.clear()
        return did

    def refused(self) -> set[Link]:
        """The links that are refused."""
        return {
            link
            for link in self.topology.links
            if not self.servers[link.home].is_enabled(link.name)
        }

    def links_to(self, *nodes: str) -> set[Link]:
        """All links to nodes."""
        return {link for link in self.topology.links if link.target in nodes}


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Nodes that all run."""
    rig = Rig()
    yield rig
    rig.links.close()


# --- down -----------------------------------------------------------------------------------


def test_kill(rig: Rig) -> None:
    """Killed nodes are killed at once, and every link to them refuses."""
    rig.nodes.kill("f", ["redis-a", "memcached-b"])
    assert rig.did() == [("kill", "memcached-b", "redis-a")]
    assert rig.nodes.state("redis-a") is STOPPED
    assert rig.nodes.state("redis-b") is RUNNING
    assert rig.refused() == rig.links_to("redis-a", "memcached-b")


def test_stop(rig: Rig) -> None:
    """Stopped nodes end in an orderly way, and every link to them refuses."""
    rig.nodes.stop("f", ["redis-a", "redis-b"])
    assert sorted(rig.did()) == [("shut_down", "redis-a"), ("shut_down", "redis-b")]
    assert rig.refused() == rig.links_to("redis-a", "redis-b")


def test_release_of_a_kill(rig: Rig) -> None:
    """A node that nobody wants down any more is started, and its links are open."""
    rig.nodes.kill("f", ["redis-a"])
    rig.did()
    rig.nodes.release("f")
    assert rig.did() == [("start_node", "redis-a")]
    assert rig.nodes.state("redis-a") is RUNNING
    assert not rig.refused()


def test_started_before_the_links_open(rig: Rig) -> None:
    """Links to a dead node are opened when it runs again, not before."""
    rig.nodes.kill("f", ["memcached-a"])
    rig.calls.clear()
    rig.nodes.release("f")
    verbs = [call[0] for call in rig.calls]
    assert verbs == ["start_node", "enable", "enable", "enable"]


def test_overlapping_kills(rig: Rig) -> None:
    """A node that two want down is killed once, and started when the second lets go."""
    rig.nodes.kill("one", ["redis-a"])
    rig.nodes.kill("other", ["redis-a", "redis-b"])
    rig.nodes.release("one")
    assert rig.did() == [("kill", "redis-a"), ("kill", "redis-b")]
    assert rig.refused() == rig.links_to("redis-a", "redis-b")
    rig.nodes.release("other")
    assert sorted(rig.did()) == [("start_node", "redis-a"), ("start_node", "redis-b")]
    assert not rig.refused()


def test_release_is_idempotent(rig: Rig) -> None:
    """Releasing again, or what holds nothing, does nothing."""
    rig.nodes.kill("f", ["redis-a"])
    rig.nodes.release("f")
    rig.calls.clear()
    rig.nodes.release("f")
    rig.nodes.release("nobody")
    assert not rig.calls


def test_kill_of_a_paused_node(rig: Rig) -> None:
    """A kill ends every pause: the new process is not paused."""
    rig.nodes.pause("pause", ["redis-a"])
    rig.nodes.kill("kill", ["redis-a"])
    assert not rig.nodes.is_frozen("redis-a")
    rig.did()
    rig.nodes.release("pause")
    assert rig.did() == []
    rig.nodes.release("kill")
    assert rig.did() == [("start_node", "redis-a")]


# --- paused ---------------------------------------------------------------------------------


def test_pause(rig: Rig) -> None:
    """A paused node is frozen; its links stay as they are."""
    rig.nodes.pause("f", ["redis-a", "redis-b"])
    assert rig.did() == [("pause", "redis-a", "redis-b")]
    assert rig.nodes.state("redis-a") is PAUSED
    assert rig.nodes.is_frozen("redis-a")
    assert not rig.refused()


def test_release_of_a_pause(rig: Rig) -> None:
    """A node that nobody wants paused any more goes on."""
    rig.nodes.pause("f", ["redis-a"])
    rig.did()
    rig.nodes.release("f")
    assert rig.did() == [("resume", "redis-a")]
    assert not rig.nodes.is_frozen("redis-a")


def test_overlapping_pauses(rig: Rig) -> None:
    """A node that two want paused goes on when the second lets go."""
    rig.nodes.pause("one", ["redis-a"])
    rig.nodes.pause("other", ["redis-a"])
    rig.did()
    rig.nodes.release("one")
    assert rig.did() == []
    rig.nodes.release("other")
    assert rig.did() == [("resume", "redis-a")]


def test_resume_ends_every_pause(rig: Rig) -> None:
    """A resumed node goes on, whoever wanted it paused."""
    rig.nodes.pause("one", ["redis-a"])
    rig.nodes.pause("other", ["redis-a"])
    rig.did()
    rig.nodes.resume("redis-a")
    assert rig.did() == [("resume", "redis-a")]
    assert not rig.nodes.is_frozen("redis-a")


def test_resume_is_of_one_node(rig: Rig) -> None:
    """Another node that the same holder paused stays paused, until the holder is released."""
    rig.nodes.pause("fault", ["redis-a", "redis-b"])
    rig.did()
    rig.nodes.resume("redis-a")
    assert (rig.did(), rig.nodes.is_frozen("redis-b")) == ([("resume", "redis-a")], True)
    rig.nodes.release("fault")
    assert rig.did() == [("resume", "redis-b")]


def test_resume_that_fails_is_repeated(rig: Rig) -> None:
    """A node that could not be resumed is still paused, and is resumed the next time."""
    rig.nodes.pause("fault", ["redis-a"])
    rig.did()
    rig.backend.failing.add("resume")
    with pytest.raises(FaultError):
        rig.nodes.resume("redis-a")
    rig.backend.failing.clear()
    rig.nodes.resume("redis-a")
    assert rig.did() == [("resume", "redis-a")]
    assert not rig.nodes.is_frozen("redis-a")


def test_pause_of_a_dead_node(rig: Rig) -> None:
    """A node that does not run can't be paused, and then no other is either."""
    rig.nodes.kill("kill", ["redis-a"])
    rig.did()
    with pytest.raises(FaultError, match="redis-a can't be paused: it is not running"):
        rig.nodes.pause("pause", ["redis-b", "redis-a"])
    assert rig.did() == []
    assert not rig.nodes.is_frozen("redis-a")


def test_pause_of_a_node_that_has_ended_by_itself(rig: Rig) -> None:
    """It does not run either, though no fault holds it down."""
    rig.backend.kill("redis-a")
    with pytest.raises(FaultError, match="redis-a can't be paused: it is not running"):
        rig.nodes.pause("pause", ["redis-a"])
    assert not rig.nodes.is_frozen("redis-a")


def test_power_cut_of_a_node_that_has_ended_by_itself(rig: Rig) -> None:
    """The others of its zone are frozen, and all are started with the power."""
    rig.backend.kill("redis-a")
    rig.did()
    rig.nodes.cut_power("f", "a", unknown)
    assert rig.did() == [("pause", "memcached-a")]
    rig.nodes.release("f")
    assert rig.nodes.state("redis-a") is rig.nodes.state("memcached-a") is RUNNING


def test_release_of_a_pause_settles_the_links(rig: Rig) -> None:
    """Changes of links that a paused node postponed are made when it is resumed."""
    link = rig.links["client-to-redis-a"]
    rig.nodes.pause("pause", ["redis-a"])
    rig.links.hold_toxic("slow", [link], Latency(100), [Stream.UPSTREAM])
    assert rig.servers["a"].does(link.name, Stream.UPSTREAM) == []
    rig.nodes.release("pause")
    assert rig.servers["a"].does(link.name, Stream.UPSTREAM) == ["latency"]


@pytest.mark.parametrize("order", [("pause", "kill"), ("kill", "pause")], ids="-then-".join)
def test_kill_of_a_paused_node_settles_the_links(rig: Rig, order: tuple[str, str]) -> None:
    """Changes of links that a paused node postponed are made when it is killed."""
    link = rig.links["b-to-redis-a"]
    rig.nodes.pause("pause", ["redis-b"])
    rig.links.hold_toxic("slow", [link], Latency(100), [Stream.DOWNSTREAM])
    assert rig.servers["b"].does(link.name, Stream.DOWNSTREAM) == []
    rig.nodes.kill("kill", ["redis-b"])
    for holder in order:
        rig.nodes.release(holder)
    assert rig.servers["b"].does(link.name, Stream.DOWNSTREAM) == ["latency"]


# --- without power --------------------------------------------------------------------------


def test_power_cut(rig: Rig) -> None:
    """Without power a zone's nodes are frozen: a dead machine closes and refuses nothing."""
    rig.nodes.cut_power("f", "a", unknown)
    assert rig.did() == [("pause", *ZONE_A)]
    assert not rig.refused()
    assert rig.nodes.is_frozen("redis-a")


def test_state_without_power(rig: Rig) -> None:
    """To anybody else a node without power is stopped."""
    rig.nodes.cut_power("f", "a", unknown)
    assert rig.nodes.state("redis-a") is STOPPED
    assert not rig.nodes.is_up("memcached-a")
    assert rig.nodes.is_up("redis-b")


def test_power_back(rig: Rig) -> None:
    """With the power back the old processes are gone and new ones are started."""
    rig.nodes.cut_power("f", "a", unknown)
    rig.did()
    rig.nodes.release("f")
    killed, *started = rig.did()
    assert killed == ("kill", *ZONE_A)
    assert sorted(started) == [("start_node", node) for node in ZONE_A]
    assert not rig.nodes.is_frozen("redis-a")


def test_power_back_leaves_the_dead_down(rig: Rig) -> None:
    """A node that was killed before the power went stays down when it is back.

    Meanwhile it does not refuse: a dead process does, a dead machine does not.
    """
    rig.nodes.kill("kill", ["redis-a"])
    rig.nodes.cut_power("power", "a", unknown)
    assert not rig.refused()
    rig.did()
    rig.nodes.release("power")
    assert ("start_node", "memcached-a") in rig.calls
    assert ("start_node", "redis-a") not in rig.did()
    assert rig.refused() == rig.links_to("redis-a")
    rig.nodes.release("kill")
    assert rig.did() == [("start_node", "redis-a")]


def test_kill_without_power(rig: Rig) -> None:
    """A node that is killed without power comes up when both have ended."""
    rig.nodes.cut_power("power", "a", unknown)
    rig.nodes.kill("kill", ["redis-a"])
    rig.nodes.release("power")
    assert ("start_node", "redis-a") not in rig.did()
    assert rig.nodes.state("redis-a") is STOPPED
    rig.nodes.release("kill")
    assert rig.did() == [("start_node", "redis-a")]


def test_links_of_a_node_that_was_killed_without_power(rig: Rig) -> None:
    """With the power back, a node that was killed meanwhile refuses until its kill is healed."""
    rig.nodes.cut_power("power", "a", unknown)
    rig.nodes.kill("kill", ["redis-a"])
    assert not rig.refused()
    rig.nodes.release("power")
    assert rig.refused() == rig.links_to("redis-a")
    rig.nodes.release("kill")
    assert not rig.refused()


def test_release_of_a_kill_without_power(rig: Rig) -> None:
    """A node that nobody wants down is not started while its zone has no power."""
    rig.nodes.kill("kill", ["redis-a"])
    rig.nodes.cut_power("power", "a", unknown)
    rig.did()
    rig.nodes.release("kill")
    assert rig.did() == []
    rig.nodes.release("power")
    assert ("start_node", "redis-a") in rig.did()
    assert not rig.refused()


def test_release_of_a_pause_without_power(rig: Rig) -> None:
    """The end of a pause does not bring a node to life that has lost its power."""
    rig.nodes.pause("pause", ["redis-a"])
    rig.nodes.cut_power("power", "a", unknown)
    rig.did()
    rig.nodes.release("pause")
    assert rig.did() == []


def test_pause_without_power(rig: Rig) -> None:
    """A node without power can't be paused."""
    rig.nodes.cut_power("power", "a", unknown)
    with pytest.raises(FaultError, match="not running"):
        rig.nodes.pause("pause", ["redis-a"])


def test_overlapping_power_cuts(rig: Rig) -> None:
    """A zone whose power two have cut is dark until the second lets go."""
    rig.nodes.cut_power("one", "a", unknown)
    rig.nodes.cut_power("other", "a", unknown)
    rig.did()
    rig.nodes.release("one")
    assert rig.did() == []
    rig.nodes.release("other")
    assert ("start_node", "redis-a") in rig.did()


def test_lost_tail(rig: Rig) -> None:
    """The append-only file is cut to what had reached the disk, between the old and the new."""
    rig.nodes.cut_power("f", "a", reached(1234))
    rig.did()
    rig.nodes.release("f")
    did = [call for call in rig.did() if "redis-a" in call]
    assert did == [
        ("kill", *ZONE_A),
        ("truncate_aof", "redis-a", "1234"),
        ("start_node", "redis-a"),
    ]


def test_power_cut_tells_the_last_fsync(rig: Rig) -> None:
    """The log has until when a node's writes are on its disk, if that is known."""
    rig.nodes.cut_power("f", "a", reached(1234))
    (event,) = rig.events.of("power-cut")
    assert (event.source, event.data) == ("redis-a", {"fsynced_at": SYNCED_AT})


def test_tail_that_can_not_be_cut_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the engine refuses it, the power comes back when it does not: no write is kept by that."""

    def refuse(_node: str, _size: int) -> None:
        raise FaultError("no room")

    rig.nodes.cut_power("f", "a", reached(1234))
    with monkeypatch.context() as refusing:
        refusing.setattr(rig.backend, "truncate_aof", refuse)
        with pytest.raises(FaultError, match="no room"):
            rig.nodes.release("f")
    rig.did()
    rig.nodes.release("f")
    assert ("truncate_aof", "redis-a", "1234") in rig.did()


def test_tail_is_lost_once(rig: Rig) -> None:
    """A later start of the same node cuts nothing more."""
    rig.nodes.cut_power("power", "a", reached(1234))
    rig.nodes.release("power")
    rig.nodes.kill("kill", ["redis-a"])
    rig.did()
    rig.nodes.release("kill")
    assert rig.did() == [("start_node", "redis-a")]


def test_killed_before_the_power_went(rig: Rig) -> None:
    """A node that was dead already loses nothing of what it had written."""
    rig.nodes.kill("kill", ["redis-a"])
    rig.nodes.cut_power("power", "a", reached(1234))
    rig.nodes.release("kill")
    rig.nodes.release("power")
    assert not [call for call in rig.did() if call[0] == "truncate_aof"]


def test_first_power_cut_counts(rig: Rig) -> None:
    """A second cut of the same power changes nothing of what was lost."""
    rig.nodes.cut_power("one", "a", reached(1000))
    rig.nodes.cut_power("other", "a", reached(9999))
    rig.nodes.release("one")
    rig.nodes.release("other")
    assert ("truncate_aof", "redis-a", "1000") in rig.did()


def test_power_back_settles_the_links(rig: Rig) -> None:
    """Changes of links that frozen nodes postponed are made when the power is back."""
    link = rig.links["b-to-redis-a"]
    rig.nodes.cut_power("power", "a", unknown)
    rig.links.hold_stall("cut", {link: BOTH})
    rig.nodes.release("power")
    assert rig.servers["b"].does(link.name, Stream.UPSTREAM) == ["stall"]


# --- new processes --------------------------------------------------------------------------


def test_replace_a_dead_node(rig: Rig) -> None:
    """A dead node that is replaced runs, and its links are open."""
    rig.nodes.kill("f", ["redis-a"])
    rig.did()
    rig.nodes.replace("redis-a")
    assert rig.did() == [("start_node", "redis-a")]
    assert not rig.refused()


def test_replaced_node_is_held_by_nobody(rig: Rig) -> None:
    """The end of a fault does nothing to a node that was replaced meanwhile."""
    rig.nodes.kill("kill", ["redis-a"])
    rig.nodes.replace("redis-a")
    rig.did()
    rig.nodes.release("kill")
    assert rig.did() == []


def test_replace_a_paused_node(rig: Rig) -> None:
    """A paused node is killed before it gets a new process."""
    rig.nodes.pause("f", ["redis-a"])
    rig.did()
    rig.nodes.replace("redis-a")
    assert rig.did() == [("kill", "redis-a"), ("start_node", "redis-a")]
    assert not rig.nodes.is_frozen("redis-a")


def test_replace_without_power(rig: Rig) -> None:
    """Nothing is started in a zone without power."""
    rig.nodes.cut_power("f", "a", unknown)
    rig.did()
    with pytest.raises(NoPower, match="redis-a can't be started: az-a has no power"):
        rig.nodes.replace("redis-a")
    assert rig.did() == []


def test_release_all(rig: Rig) -> None:
    """Releasing all lets every node run, whatever was done to it and by whom."""
    rig.nodes.kill("kill", ["redis-a", "redis-b"])
    rig.nodes.pause("pause", ["memcached-b"])
    rig.nodes.cut_power("power", "c", unknown)
    rig.nodes.release_all()
    assert set(rig.backend.states.values()) == {RUNNING}
    assert not rig.refused()


def test_nodes_of_a_zone(rig: Rig) -> None:
    """A zone has one Redis and one Memcached node."""
    assert sorted(rig.nodes.in_zone("a")) == list(ZONE_A)


def test_power_back_ends_a_pause(rig: Rig) -> None:
    """A paused node runs when the power is back, as it has a new process then."""
    rig.nodes.pause("pause", ["redis-a"])
    rig.nodes.cut_power("power", "a", unknown)
    rig.nodes.release("power")
    assert rig.backend.state("redis-a") is RUNNING
    assert not rig.nodes.holds("pause")
    assert not rig.nodes.is_frozen("redis-a")


def test_release_that_fails_can_be_repeated(rig: Rig) -> None:
    """A node that could not be started is still held down, and starts when it can."""
    rig.nodes.kill("kill", ["redis-a"])
    rig.backend.failing.add("start_node")
    with pytest.raises(FaultError):
        rig.nodes.release("kill")
    assert not rig.nodes.is_up("redis-a")
    rig.backend.failing.clear()
    rig.nodes.release("kill")
    assert rig.backend.state("redis-a") is RUNNING
