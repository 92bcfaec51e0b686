"""The control plane's decisions, with time, evidence and nodes that the tests make up."""

import random
from collections.abc import Callable

import pytest

from cachesim.clock import ManualClock
from cachesim.control_plane import failover
from cachesim.control_plane.actions import Branch
from cachesim.control_plane.detection import RECONNECTING
from cachesim.control_plane.evidence import INTERVAL
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.states import TRANSITIONS, Signal, State
from cachesim.control_plane.timing import Timing
from cachesim.errors import FaultError
from cachesim.events import Event, EventLog
from cachesim.topology import Role, production
from tests.fakes import FakeShard

GROUP = "sessions"
DETECTION, PROMOTION, REPLACEMENT = (10.0, 20.0), (5.0, 10.0), (30.0, 60.0)
MOMENT = 0.01  # seconds


class Play:
    """A control plane over a made-up shard, at a time that stands still."""

    def __init__(self, *, seed: str = "7", speed: float = 1.0, node_timeout: float = 15.0) -> None:
        topology = production()
        self.clock = ManualClock(100.0)
        self.events = EventLog(self.clock)
        self.shard = FakeShard(topology, self.clock)
        timing = Timing(DETECTION, PROMOTION, REPLACEMENT, node_timeout, speed)
        self.plane = ControlPlane(
            topology,
            self.shard,
            self.shard,
            timing,
            self.events,
            seed=seed,
            group=GROUP,
            clock=self.clock,
        )
        self.tick()

    def tick(self, seconds: float = INTERVAL, *, look: bool = True) -> None:
        """Let time pass, probe all nodes (or not), and let the control plane decide."""
        self.clock.advance(seconds)
        if look:
            self.shard.look()
        self.plane.tick()

    def until(self, moment: float) -> None:
        """Tick at exactly that moment."""
        self.tick(moment - self.clock.now)

    def until_state(self, state: State, limit: float = 200.0) -> None:
        """Tick until the shard is in a state."""
        end = self.clock.now + limit
        while self.plane.state is not state:
            assert self.clock.now < end, f"never {state}:\n{self.events}"
            self.tick()

    def until_failover(self, limit: float = 200.0) -> None:
        """Tick until one more failover is completed."""
        before, end = self.plane.failovers, self.clock.now + limit
        while self.plane.failovers == before:
            assert self.clock.now < end, f"no failover:\n{self.events}"
            self.tick()

    def run(self, seconds: float) -> None:
        """Tick for a while."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.tick()

    def down(self, *nodes: str) -> None:
        """Let nodes answer no more."""
        for node in nodes:
            self.shard.nodes[node].up = False
        self.tick()

    def up(self, *nodes: str) -> None:
        """Let nodes answer again, as what they were."""
        for node in nodes:
            self.shard.nodes[node].up = True
        self.tick()

    def cut_off(self, *listeners: str, speaker: str = "redis-a") -> None:
        """Let nodes hear nothing of another from now on."""
        for listener in listeners:
            self.shard.silent[listener, speaker] = self.clock.now

    def state(self) -> State:
        """Where the shard is now."""
        return self.plane.state

    def detecting(self) -> Event:
        """The last event that tells of a lost primary."""
        return self.events.of("detecting")[-1]

    def fail_over(self) -> None:
        """Kill the primary and wait for the promotion of another."""
        self.down(self.plane.primary)
        self.until_state(State.REPLACING)

    def kinds(self) -> list[str]:
        """The kinds of all events, in order."""
        return [event.kind for event in self.events]


@pytest.fixture
def play() -> Play:
    """A healthy shard under a control plane at production's speed."""
    return Play()


def lose_link(play: Play, *replicas: str) -> None:
    """Let replicas say that their links to the primary are down."""
    for replica in replicas:
        play.shard.nodes[replica].link_down_since = play.clock.now


# --- detection ------------------------------------------------------------------------------


def test_all_is_well(play: Play) -> None:
    """As long as everything answers, nothing is done and nothing told."""
    play.run(60)
    assert play.state() is State.AVAILABLE
    assert not play.events
    assert not play.shard.calls


def test_detection_begins_at_once(play: Play) -> None:
    """A primary that does not answer is told of with the durations drawn for its failover."""
    play.down("redis-a")
    event = play.detecting()
    assert play.state() is State.DETECTING
    assert event.source == "redis-a"
    assert event.data["lost_at"] == play.clock.now
    assert DETECTION[0] <= event.data["detection"] <= DETECTION[1]
    assert PROMOTION[0] <= event.data["promotion"] <= PROMOTION[1]
    total = event.data["detection"] + event.data["promotion"]
    assert event.data["promised_at"] == pytest.approx(play.clock.now + total)


def test_detection_takes_the_drawn_time(play: Play) -> None:
    """A primary is held for dead when it has not answered for the drawn time, not before."""
    play.down("redis-a")
    detected_at = play.clock.now + play.detecting().data["detection"]
    play.until(detected_at - MOMENT)
    assert play.state() is State.DETECTING
    play.until(detected_at + MOMENT)
    assert play.state() is State.PROMOTING
    assert play.events.of("promoting")[0].source == "redis-a"


def test_detection_at_speed() -> None:
    """At a speed of 30 the same draws take a thirtieth."""
    play, fast = Play(), Play(speed=30)
    play.down("redis-a")
    fast.down("redis-a")
    for phase in ("detection", "promotion"):
        slow = play.detecting().data[phase]
        assert fast.detecting().data[phase] == pytest.approx(slow / 30)


def test_longest_failover() -> None:
    """The longest failover is the longest detection and the longest promotion, at that speed."""
    assert Timing(DETECTION, PROMOTION, REPLACEMENT, 15.0, 10.0).longest_failover == 3.0


@pytest.mark.parametrize(("speed", "timeout"), [(1, 0.25), (20, 0.25), (100, 0.05)])
def test_probe_timeout(speed: float, timeout: float) -> None:
    """A probe's timeout is a quarter of a second, or half of the shortest detection."""
    assert Timing(DETECTION, PROMOTION, REPLACEMENT, 15.0, speed).probe_timeout == timeout


def test_primary_back_while_detecting(play: Play) -> None:
    """A primary that answers again in time stays the primary."""
    play.down("redis-a")
    play.run(5)
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert play.kinds() == ["detecting", "available"]
    play.run(60)
    assert play.plane.primary == "redis-a"
    assert not play.shard.calls


def test_primary_back_while_promoting(play: Play) -> None:
    """A primary that answers again before the promotion stays the primary, without a fence."""
    play.down("redis-a")
    play.until_state(State.PROMOTING)
    play.shard.nodes["redis-a"].up = True
    play.until_state(State.AVAILABLE)
    assert play.plane.primary == "redis-a"
    assert play.kinds()[-1] == "available"
    assert not play.shard.calls


def test_both_replicas_deaf(play: Play) -> None:
    """A primary that answers the control plane but neither replica is lost, since it fell mute."""
    play.cut_off("redis-b", "redis-c")
    mute_since = play.clock.now
    play.tick(1)
    assert play.state() is State.DETECTING
    assert play.detecting().data["lost_at"] == mute_since


def test_one_deaf_replica(play: Play) -> None:
    """A primary that one of two replicas hears is not lost."""
    play.cut_off("redis-b")
    lose_link(play, "redis-b")
    play.run(60)
    assert play.state() is State.AVAILABLE
    assert not play.events


def test_both_links_down(play: Play) -> None:
    """A primary is lost when both replicas say that their links to it are down."""
    lose_link(play, "redis-b", "redis-c")
    lost_at = play.clock.now
    play.run(RECONNECTING + 1)
    assert play.state() is State.DETECTING
    assert play.detecting().data["lost_at"] == lost_at


def test_links_of_a_restarted_primary(play: Play) -> None:
    """A primary is not lost while replicas have had no time to connect to it again."""
    lose_link(play, "redis-b", "redis-c")
    play.run(RECONNECTING - MOMENT - INTERVAL)
    assert play.state() is State.AVAILABLE
    assert not play.events


def test_loading_primary(play: Play) -> None:
    """A primary that loads its data is not lost, though nobody can follow it."""
    play.shard.nodes["redis-a"].is_loading = True
    play.cut_off("redis-b", "redis-c")
    play.run(60)
    assert play.state() is State.AVAILABLE


def test_loading_replica_is_not_promoted(play: Play) -> None:
    """A replica that loads its data can't take over, whatever offset it says."""
    play.shard.nodes["redis-b"].offset += 1000
    play.shard.nodes["redis-b"].is_loading = True
    play.fail_over()
    assert play.plane.primary == "redis-c"


def test_silence_that_shrinks(play: Play) -> None:
    """Since when a silent primary is lost comes later by time that does not count."""
    play.down("redis-a")
    detected_at = play.clock.now + play.detecting().data["detection"]
    play.shard.postpone("redis-a", 7.0)
    play.until(detected_at + 7.0 - MOMENT)
    assert play.state() is State.DETECTING
    play.until(detected_at + 7.0 + MOMENT)
    assert play.kinds()[:2] == ["detecting", "promoting"]


def test_replacement_after_time_that_does_not_count(play: Play) -> None:
    """A silent node is replaced later by the time that did not count."""
    play.down("memcached-a")
    play.shard.postpone("memcached-a", 70.0)
    play.run(DETECTION[1] + REPLACEMENT[1])
    assert not play.shard.calls
    play.run(70.0)
    assert play.shard.calls == [("replace", "memcached-a")]


def test_lost_since_the_majority_is_deaf(play: Play) -> None:
    """With replicas deaf one after the other, the primary is lost since the later one is."""
    play.cut_off("redis-b")
    play.run(5)
    play.cut_off("redis-c")
    deaf_since = play.clock.now
    play.tick(1)
    assert play.detecting().data["lost_at"] == deaf_since


def test_dead_replicas_are_no_witnesses(play: Play) -> None:
    """Replicas that do not answer themselves say nothing of the primary."""
    play.cut_off("redis-b", "redis-c")
    play.down("redis-b", "redis-c")
    play.run(5)
    assert play.state() is State.AVAILABLE


def test_hearing_again_while_detecting(play: Play) -> None:
    """A primary that a replica hears again in time stays the primary."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    del play.shard.silent["redis-b", "redis-a"]
    play.tick()
    assert play.state() is State.AVAILABLE


def test_machine_that_stood_still(play: Play) -> None:
    """Time in which nothing was probed does not count for detection."""
    play.down("redis-a")
    play.tick(1000, look=False)
    assert play.state() is State.DETECTING
    play.tick()
    assert play.state() is not State.DETECTING


def test_machine_that_stood_still_with_a_live_primary(play: Play) -> None:
    """After a long standstill one answer of the primary is enough to go on as before."""
    play.down("redis-a")
    play.tick(1000, look=False)
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert not play.shard.calls


# --- promotion ------------------------------------------------------------------------------


def test_promotion_at_the_promised_moment(play: Play) -> None:
    """A replica is promoted at the moment promised when the primary was lost, not before."""
    play.down("redis-a")
    promised_at = play.detecting().data["promised_at"]
    play.until_state(State.PROMOTING)
    play.until(promised_at - MOMENT)
    assert play.state() is State.PROMOTING
    assert not play.shard.calls
    play.until(promised_at + MOMENT)
    assert play.state() is State.REPLACING
    assert play.plane.failovers == 1


@pytest.mark.parametrize("ahead", ["redis-b", "redis-c"])
def test_least_lag_is_promoted(play: Play, ahead: str) -> None:
    """The replica that is furthest in the replication stream becomes the primary."""
    play.shard.nodes[ahead].offset += 1
    play.fail_over()
    assert play.plane.primary == ahead
    assert play.shard.calls == [("promote", ahead)]


def test_dead_replica_is_not_promoted(play: Play) -> None:
    """The replica that answers becomes the primary, whatever the other last said."""
    play.shard.nodes["redis-b"].offset += 1000
    play.tick()
    play.down("redis-b")
    play.fail_over()
    assert play.plane.primary == "redis-c"


@pytest.mark.parametrize(
    ("node_timeout", "delay"),
    [
        pytest.param(0.1, 0.5, id="at-least-half-a-second"),
        pytest.param(2.0, 2.0, id="the-node-timeout"),
        pytest.param(15.0, 5.0, id="at-most-five-seconds"),
    ],
)
def test_promised_moment_after_a_rejoin(node_timeout: float, delay: float) -> None:
    """A replica whose cluster_state is fail takes over earlier: it refuses writes at first."""
    play = Play(node_timeout=node_timeout)
    for replica in ("redis-b", "redis-c"):
        play.shard.nodes[replica].state_ok = False
    play.down("redis-a")
    takeover_at = play.detecting().data["promised_at"] - delay
    play.until_state(State.PROMOTING)
    play.until(max(play.clock.now, takeover_at - MOMENT))
    assert play.state() is State.PROMOTING
    play.until(takeover_at + MOMENT)
    assert play.state() is State.REPLACING


def test_fence_before_promotion(play: Play) -> None:
    """An old primary that answers is made to refuse writes before another takes over."""
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    assert play.shard.calls[:2] == [("fence", "redis-a"), ("promote", "redis-b")]


def test_dead_primary_is_not_fenced(play: Play) -> None:
    """An old primary that does not answer is not waited for."""
    play.fail_over()
    assert play.shard.calls == [("promote", "redis-b")]


def test_failover_is_told_in_elasticaches_words(play: Play) -> None:
    """A failover is told twice: of the new primary and of the replication group."""
    play.fail_over()
    message = "Failover from primary node redis-a to replica node redis-b completed"
    told = [(e.source, e.data["source_type"], e.message) for e in play.events.of("failover")]
    assert told == [
        ("redis-b", "cache-cluster", message),
        (GROUP, "replication-group", message),
    ]


def test_lost_bytes_of_a_fenced_primary(play: Play) -> None:
    """What the fenced primary took and its successor never had is told in bytes."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    play.shard.nodes["redis-a"].offset = 1250
    play.until_failover()
    assert [event.data["lost_bytes"] for event in play.events.of("failover")] == [250, 250]
    (lost,) = play.events.of("lost")
    assert lost.source == "redis-a"
    assert lost.data["lost_bytes"] == 250
    assert "250 bytes" in lost.message


def test_lost_bytes_of_a_dead_primary(play: Play) -> None:
    """Of a dead primary counts what it last said that it had."""
    play.shard.nodes["redis-a"].offset = 1030
    play.tick()
    play.fail_over()
    (lost,) = play.events.of("lost")
    assert lost.data["lost_bytes"] == 30


def test_nothing_lost(play: Play) -> None:
    """A replica that had everything leaves nothing lost to tell."""
    play.fail_over()
    assert [event.data["lost_bytes"] for event in play.events.of("failover")] == [0, 0]
    assert not play.events.of("lost")


def test_no_candidate(play: Play) -> None:
    """Without a replica that answers nobody is promoted, which is told once."""
    play.down("redis-b", "redis-c", "redis-a")
    play.until_state(State.PROMOTING)
    play.run(5)
    told = [e.message for e in play.events.of("waiting")]
    assert told == ["no replica of shard 0001 can be promoted"]
    assert play.state() is State.PROMOTING


def test_candidate_that_comes_late(play: Play) -> None:
    """A replica that answers only after the promised moment is promoted then."""
    play.shard.unpowered.update("abc")
    play.down("redis-b", "redis-c", "redis-a")
    play.until(play.detecting().data["promised_at"] + 20)
    play.up("redis-c")
    assert play.state() is State.REPLACING
    assert play.plane.primary == "redis-c"


def test_next_replica_after_a_failed_promotion(play: Play) -> None:
    """A replica that could not be promoted is told of, and the next one becomes the primary."""
    play.shard.nodes["redis-b"].offset += 1
    play.shard.unpromotable.add("redis-b")
    play.fail_over()
    assert play.plane.primary == "redis-c"
    assert play.shard.calls == [("promote", "redis-b"), ("promote", "redis-c")]
    assert [event.source for event in play.events.of("waiting")] == ["redis-b"]


def test_failed_promotion_is_tried_again(play: Play) -> None:
    """When no replica could be promoted, which is told once of each, all are tried again."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.down("redis-a")
    play.until(play.detecting().data["promised_at"] - MOMENT)
    play.run(2)
    tried = [node for verb, node in play.shard.calls if verb == "promote"]
    assert tried[:4] == ["redis-b", "redis-c"] * 2
    assert play.state() is State.PROMOTING
    assert play.plane.failovers == 0
    told = [e.source for e in play.events.of("waiting") if e.source != GROUP]
    assert told == ["redis-b", "redis-c"]
    play.shard.unpromotable.clear()
    play.until_failover(limit=1)


def test_fenced_zombie_is_no_candidate(play: Play) -> None:
    """An old primary that still says that it is one is not promoted, however far it is."""
    play.shard.nodes["redis-a"].knows = False
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    play.shard.silent.clear()
    play.shard.nodes["redis-a"].offset = 5000
    play.down("redis-b")
    play.until_failover()
    assert play.plane.primary == "redis-c"
    assert ("promote", "redis-a") not in play.shard.calls


def test_failover_called_off_after_a_fence(play: Play) -> None:
    """A primary that was fenced takes writes again when its failover is called off."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.cut_off("redis-b", "redis-c")
    while ("fence", "redis-a") not in play.shard.calls:
        play.tick()
    play.shard.silent.clear()
    play.until_state(State.AVAILABLE, limit=1)
    assert play.plane.primary == "redis-a"
    assert play.shard.calls[-1] == ("unfence", "redis-a")
    assert play.shard.calls.count(("unfence", "redis-a")) == 1


def test_second_failover(play: Play) -> None:
    """A new primary that dies while the old one is being replaced is replaced too."""
    play.fail_over()
    play.down("redis-b")
    assert play.state() is State.DETECTING
    play.until_state(State.REPLACING)
    assert play.plane.failovers == 2
    assert play.plane.primary == "redis-c"


def test_detection_called_off_while_an_old_primary_is_away(play: Play) -> None:
    """A new primary that was lost for a moment does not make the old one be forgotten."""
    play.shard.unpowered.add("a")
    play.fail_over()
    play.down("redis-b")
    assert play.state() is State.DETECTING
    play.up("redis-b")
    assert play.state() is State.REPLACING
    play.run(REPLACEMENT[1])
    assert play.state() is State.REPLACING
    play.shard.unpowered.clear()
    play.until_state(State.AVAILABLE)
    assert [event.source for event in play.events.of("recovered")] == ["redis-a"]


# --- replacement ----------------------------------------------------------------------------


def test_old_primary_recovers(play: Play) -> None:
    """The old primary comes back as a replica, told in ElastiCache's words, and all is well."""
    play.fail_over()
    play.until_state(State.AVAILABLE)
    recovery = [e for e in play.events if e.kind in ("recovering", "recovered")]
    assert [(e.source, e.message) for e in recovery] == [
        ("redis-a", "Recovering cache nodes redis-a"),
        ("redis-a", "Finished recovery for cache nodes redis-a"),
    ]
    assert play.shard.calls[-2:] == [("replace", "redis-a"), ("unfence", "redis-a")]


def test_not_available_before_the_old_primary_is_in_sync(play: Play) -> None:
    """An old primary that lags behind is not recovered, and keeps its fence."""
    play.shard.unsynced.add("redis-a")
    play.fail_over()
    play.run(REPLACEMENT[1] + 20)
    assert play.state() is State.REPLACING
    assert not play.events.of("recovered")
    assert ("unfence", "redis-a") not in play.shard.calls
    play.shard.unsynced.clear()
    play.tick()
    assert play.state() is State.AVAILABLE


def test_old_primary_that_comes_back_by_itself(play: Play) -> None:
    """An old primary that answers as a replica recovers without a new process."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert [e.kind for e in play.events][-2:] == ["recovering", "recovered"]
    assert ("replace", "redis-a") not in play.shard.calls


def test_old_primary_is_replaced_after_the_drawn_time(play: Play) -> None:
    """A dead old primary gets a new process some time after the promotion, not before."""
    play.fail_over()
    promoted_at = play.clock.now
    while ("replace", "redis-a") not in play.shard.calls:
        play.tick()
    took = play.clock.now - promoted_at
    assert REPLACEMENT[0] <= took <= REPLACEMENT[1] + INTERVAL + MOMENT


@pytest.mark.parametrize("node", ["redis-b", "memcached-c"])
def test_dead_node_is_replaced(play: Play, node: str) -> None:
    """Any dead node is found after the time of a detection and replaced after another."""
    play.down(node)
    died_at = play.clock.now
    while ("replace", node) not in play.shard.calls:
        play.tick()
    took = play.clock.now - died_at
    assert DETECTION[0] + REPLACEMENT[0] <= took
    assert took <= DETECTION[1] + REPLACEMENT[1] + INTERVAL + MOMENT
    play.run(1)
    assert play.kinds() == ["recovering", "recovered"]
    assert play.state() is State.AVAILABLE


def test_node_that_comes_back_is_not_replaced(play: Play) -> None:
    """A node that answers again in time is left alone, and the count begins anew."""
    play.down("memcached-a")
    play.run(35)
    play.up("memcached-a")
    play.down("memcached-a")
    play.run(35)
    assert not play.shard.calls


def test_dead_primary_is_not_replaced_before_a_promotion(play: Play) -> None:
    """A dead primary gets no new process while a replica can take over from it."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.down("redis-a")
    play.run(DETECTION[1] + REPLACEMENT[1] + 30)
    assert ("replace", "redis-a") not in play.shard.calls


def test_all_nodes_dead(play: Play) -> None:
    """With no replica left the primary gets a new process like any other node."""
    play.down("redis-b", "redis-c", "redis-a")
    play.run(DETECTION[1] + REPLACEMENT[1] + 1)
    assert {("replace", f"redis-{zone}") for zone in "abc"} <= set(play.shard.calls)


def test_recovery_of_the_primary(play: Play) -> None:
    """A primary that was itself given a new process, with no replica left, is told as recovered."""
    play.shard.unpowered.update("bc")
    play.down("redis-b", "redis-c", "redis-a")
    play.until_state(State.AVAILABLE)
    play.tick()
    assert play.plane.primary == "redis-a"
    recovery = [e for e in play.events if e.source == "redis-a" and e.kind.startswith("recover")]
    assert [event.kind for event in recovery] == ["recovering", "recovered"]
    assert recovery[-1].message == "Finished recovery for cache nodes redis-a"


def test_no_power(play: Play) -> None:
    """A node in a zone without power is waited for, told once, and replaced with the power."""
    play.shard.unpowered.add("c")
    play.down("memcached-c")
    play.run(DETECTION[1] + REPLACEMENT[1] + 30)
    assert [(e.kind, e.source) for e in play.events] == [("waiting", "memcached-c")]
    assert "no power" in play.events.of("waiting")[0].message
    play.shard.unpowered.clear()
    play.tick()
    play.tick()
    assert play.kinds()[-2:] == ["recovering", "recovered"]


def test_new_process_gets_its_time(play: Play) -> None:
    """What was silent before it was replaced is not replaced again before it was asked."""
    play.down("memcached-c")
    while not play.events.of("recovering"):
        play.tick()
    play.shard.nodes["memcached-c"].up = False
    replaced = play.shard.calls.count(("replace", "memcached-c"))
    for _ in range(10):
        play.plane.tick()
    play.run(DETECTION[0] + REPLACEMENT[0] - 1)
    assert play.shard.calls.count(("replace", "memcached-c")) == replaced == 1
    play.run(DETECTION[1] + REPLACEMENT[1])
    assert play.shard.calls.count(("replace", "memcached-c")) == 2


def test_nothing_is_replaced_for_what_was_before_a_restart(play: Play) -> None:
    """After a reset, silence from before it says nothing."""
    play.down("memcached-c")
    play.run(DETECTION[0] + REPLACEMENT[0] - 1)
    play.plane.restart("redis-a", "8")
    play.clock.advance(REPLACEMENT[1] + DETECTION[1])
    play.plane.tick()
    assert not play.shard.calls


def test_zombie_is_fenced(play: Play) -> None:
    """An old primary that slept through its replacement is fenced as soon as it answers."""
    play.fail_over()
    play.shard.calls.clear()
    play.shard.nodes["redis-a"].offset = 1400
    play.up("redis-a")
    assert play.shard.calls == [("fence", "redis-a")]
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 400)
    assert play.state() is State.REPLACING


def test_zombie_is_fenced_once(play: Play) -> None:
    """While it goes on answering it is not fenced again; after another absence it is."""
    play.fail_over()
    play.shard.calls.clear()
    play.up("redis-a")
    play.run(1)
    assert play.shard.calls == [("fence", "redis-a")]
    play.down("redis-a")
    play.up("redis-a")
    assert play.shard.calls == [("fence", "redis-a")] * 2


def test_failed_fence_of_a_zombie_is_tried_again(play: Play) -> None:
    """A zombie that could not be fenced is fenced when it can be, and its losses are told then."""
    play.fail_over()
    play.shard.nodes["redis-a"].offset = 1400
    play.shard.unfenceable.add("redis-a")
    play.up("redis-a")
    assert not play.events.of("lost")
    play.shard.unfenceable.clear()
    play.shard.calls.clear()
    play.run(1)
    assert play.shard.calls == [("fence", "redis-a")]
    assert [event.data["lost_bytes"] for event in play.events.of("lost")] == [400]


@pytest.mark.parametrize(
    ("offset", "told"),
    [pytest.param(1100, [100], id="no-surplus"), pytest.param(1140, [100, 40], id="surplus")],
)
def test_loss_is_told_once(play: Play, offset: int, told: list[int]) -> None:
    """Of a primary that comes back only those losses are told that were not told before."""
    play.shard.nodes["redis-a"].offset = 1100
    play.tick()
    play.fail_over()
    play.shard.nodes["redis-a"].offset = offset
    play.up("redis-a")
    assert [event.data["lost_bytes"] for event in play.events.of("lost")] == told
    play.down("redis-a")
    play.up("redis-a")
    assert len(play.events.of("lost")) == len(told)


def test_fenced_at_the_promotion_is_not_fenced_again(play: Play) -> None:
    """An old primary that was fenced before the promotion and has answered since is fenced."""
    play.shard.nodes["redis-a"].knows = False
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    play.run(5)
    assert play.shard.calls.count(("fence", "redis-a")) == 1


def test_loss_of_a_zombie_that_was_told_by_its_peers(play: Play) -> None:
    """One that became a replica before it could be fenced tells in its log what it had taken."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.asked["redis-a", play.shard.history] = 1381
    play.up("redis-a")
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 381)
    assert lost.data["offsets"] == (1000, 1381)
    assert play.kinds()[-2:] == ["lost", "recovered"]


def test_loss_of_a_zombie_that_is_promoted_again(play: Play) -> None:
    """What it had dropped is told, though it is no old primary any more."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.nodes["redis-a"].offset = 5000
    play.shard.asked["redis-a", play.shard.history] = 1381
    play.shard.unsynced.add("redis-a")
    play.up("redis-a")
    assert not play.events.of("lost")
    play.fail_over()
    assert play.plane.primary == "redis-a"
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 381)
    assert "redis-b never received" in lost.message


def test_two_that_took_over_unseen_by_each_other(play: Play) -> None:
    """Where peers decide for a former primary, it is the primary again, without its fence.

    What the other one took meanwhile is lost, and told.
    """
    play.fail_over()
    play.shard.branches["redis-a"] = Branch("shared", 990, "of redis-a")
    play.up("redis-a")
    assert play.shard.calls[-1] == ("fence", "redis-a")
    play.shard.nodes["redis-b"].role = Role.REPLICA
    play.shard.asked["redis-b", "of redis-b"] = 1250
    play.tick()
    play.tick()
    assert play.plane.primary == "redis-a"
    assert ("unfence", "redis-a") in play.shard.calls
    assert play.state() is State.AVAILABLE
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-b", 250)


def test_change_of_roles_loses_nothing_that_the_other_had(play: Play) -> None:
    """One that went on from where the former primary was has all that it took."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.up("redis-a")
    play.until_state(State.AVAILABLE)
    play.shard.branches["redis-c"] = Branch("of redis-b", 1250, "of redis-c")
    play.shard.nodes["redis-b"].role = Role.REPLICA
    play.shard.nodes["redis-c"].role = Role.PRIMARY
    play.shard.asked["redis-b", "of redis-b"] = 1250
    play.tick()
    play.until_state(State.AVAILABLE)
    assert play.plane.primary == "redis-c"
    assert not play.events.of("lost")


def test_ping_is_no_loss(play: Play) -> None:
    """A primary that went on alone sends its replicas a PING in the stream: no write is lost."""
    play.fail_over()
    play.shard.nodes["redis-a"].offset = 1014
    play.up("redis-a")
    assert not play.events.of("lost")


def test_loss_of_another_failover_is_not_told_again(play: Play) -> None:
    """What a log tells of another history than the old primary's is nothing of this failover."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.asked["redis-a", "another"] = 1381
    play.up("redis-a")
    assert not play.events.of("lost")


def test_zombie_without_a_surplus(play: Play) -> None:
    """A zombie that took nothing more than its successor has lost nothing."""
    play.fail_over()
    play.up("redis-a")
    assert not play.events.of("lost")


# --- TestFailover ---------------------------------------------------------------------------


def test_requested_failover(play: Play) -> None:
    """A requested failover takes a promotion's time, without a detection."""
    called_at = play.clock.now
    play.plane.failover()
    assert play.state() is State.PROMOTING
    play.until(called_at + PROMOTION[0] - MOMENT)
    assert play.state() is State.PROMOTING
    play.until(called_at + PROMOTION[1] + MOMENT)
    assert play.plane.primary == "redis-b"
    assert play.plane.failovers == 1


def test_requested_failover_is_told_in_elasticaches_words(play: Play) -> None:
    """The events of a TestFailover are ElastiCache's, in its order."""
    play.plane.failover()
    play.until_state(State.AVAILABLE)
    completed = "Failover from primary node redis-a to replica node redis-b completed"
    assert [(event.source, event.message) for event in play.events] == [
        (GROUP, "Test Failover API called for node group 0001"),
        ("redis-b", completed),
        (GROUP, completed),
        ("redis-a", "Recovering cache nodes redis-a"),
        ("redis-a", "Finished recovery for cache nodes redis-a"),
    ]


def test_requested_failover_fences(play: Play) -> None:
    """The old primary of a requested failover is fenced first, and unfenced as a replica."""
    play.plane.failover()
    play.until_state(State.AVAILABLE)
    assert play.shard.calls == [
        ("fence", "redis-a"),
        ("promote", "redis-b"),
        ("unfence", "redis-a"),
    ]


@pytest.mark.parametrize("zone", ["c", "az-c"])
def test_requested_failover_to_a_zone(play: Play, zone: str) -> None:
    """The zone's replica is promoted, though another lags less."""
    play.shard.nodes["redis-b"].offset += 500
    play.plane.failover(to=zone)
    play.until_failover()
    assert play.plane.primary == "redis-c"


def test_requested_failover_to_the_primarys_zone(play: Play) -> None:
    """The primary can't be promoted."""
    with pytest.raises(ValueError, match="redis-a is the primary already"):
        play.plane.failover(to="a")
    assert play.state() is State.AVAILABLE


def test_requested_failover_to_no_zone(play: Play) -> None:
    """An unknown zone is an error that names the zones there are."""
    with pytest.raises(ValueError, match="no zone 'd': there are a, b, c"):
        play.plane.failover(to="d")
    assert not play.events


def test_requested_failover_to_a_dead_replica(play: Play) -> None:
    """A replica that does not answer can't be asked for, and nothing is begun."""
    play.down("redis-c")
    with pytest.raises(
        FaultError, match="redis-c can't be promoted: it does not answer as a replica"
    ):
        play.plane.failover(to="c")
    assert play.state() is State.AVAILABLE
    assert not play.events


def test_requested_failover_during_a_failover(play: Play) -> None:
    """A failover is refused while another is under way."""
    play.down("redis-a")
    with pytest.raises(FaultError, match="in progress already: the shard is detecting"):
        play.plane.failover()
    play.until_state(State.PROMOTING)
    with pytest.raises(FaultError, match="the shard is promoting"):
        play.plane.failover()


# --- draws, restarts and what is no evidence ------------------------------------------------


def drawn(play: Play) -> tuple[float, float]:
    """Lose the primary, and see how long its failover is to take."""
    play.down(play.plane.primary)
    return play.detecting().data["detection"], play.detecting().data["promotion"]


def test_same_seed_same_draws() -> None:
    """What a failover takes depends on the seed, and on nothing else."""
    assert drawn(Play(seed="7")) == drawn(Play(seed="7"))
    assert drawn(Play(seed="7")) != drawn(Play(seed="8"))


def test_draws_are_independent() -> None:
    """What was drawn for other nodes' replacements changes nothing for a failover."""
    undisturbed, disturbed = Play(), Play()
    disturbed.down("memcached-b", "redis-c")
    disturbed.run(DETECTION[1] + REPLACEMENT[1] + 1)
    assert ("replace", "memcached-b") in disturbed.shard.calls
    assert drawn(undisturbed) == drawn(disturbed)


def test_replacement_draws_are_independent() -> None:
    """When a node is replaced does not depend on which others are dead too."""

    def replaced_after(play: Play) -> float:
        died_at = play.clock.now
        while ("replace", "memcached-a") not in play.shard.calls:
            play.tick()
        return play.clock.now - died_at

    alone, together = Play(), Play()
    together.shard.unpowered.add("b")
    together.down("memcached-a", "memcached-b", "redis-b")
    alone.down("memcached-a")
    assert replaced_after(alone) == pytest.approx(replaced_after(together))


def test_restart_forgets(play: Play) -> None:
    """After a restart nothing that was under way goes on, and the draws begin anew."""
    first = drawn(play)
    play.until_state(State.REPLACING)
    for node in play.shard.nodes.values():
        node.up, node.role = True, Role.REPLICA
    play.shard.nodes["redis-a"].role = Role.PRIMARY
    play.shard.calls.clear()
    mark = play.events.mark()
    play.plane.restart("redis-a", "7")
    assert (play.state(), play.plane.primary) == (State.AVAILABLE, "redis-a")
    assert play.plane.failovers == 0
    play.run(REPLACEMENT[1] + 30)
    assert not play.shard.calls
    assert not play.events.since(mark)
    assert drawn(play) == first


def test_restart_during_a_failover(play: Play) -> None:
    """A failover that was under way is given up."""
    play.plane.failover()
    play.plane.restart("redis-a", "7")
    play.run(PROMOTION[1] + 5)
    assert play.plane.primary == "redis-a"
    assert not play.shard.calls


def test_evidence_from_before_a_restart(play: Play) -> None:
    """What was probed before a restart says nothing of the primary after it."""
    play.down("redis-a")
    play.clock.advance(1)
    play.plane.restart("redis-a", "7")
    play.tick(look=False)
    assert play.state() is State.AVAILABLE


def test_silence_from_before_a_restart(play: Play) -> None:
    """What was not heard before a restart does not count after it."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    play.plane.restart("redis-a", "7")
    play.tick(look=False)
    assert play.state() is State.AVAILABLE


def test_roles_from_before_a_restart(play: Play) -> None:
    """Roles that were probed before a restart are not taken for a change by hand."""
    play.clock.advance(1)
    play.plane.restart("redis-b", "7")
    play.tick(look=False)
    assert play.plane.primary == "redis-b"


def test_evidence_from_before_a_promotion(play: Play) -> None:
    """A new primary is not lost because its replicas heard nothing before it was one."""
    play.cut_off("redis-a", "redis-c", speaker="redis-b")
    play.plane.failover(to="b")
    play.until_failover()
    play.tick(look=False)
    assert not play.events.of("detecting")


def test_roles_changed_by_hand(play: Play) -> None:
    """A primary that someone else has made is the primary; nothing is done about it."""
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.nodes["redis-c"].role = Role.PRIMARY
    play.tick()
    assert play.plane.primary == "redis-c"
    assert [(e.kind, e.source) for e in play.events] == [("role", "redis-c")]
    assert not play.shard.calls


def test_error_in_the_thread_is_told() -> None:
    """A control plane whose tick fails says so in the event log, once, and goes on."""
    play = Play()

    def fail(node: str) -> None:
        raise RuntimeError(f"no {node}")

    play.shard.probe = fail  # type: ignore[method-assign]
    play.plane.start()
    assert play.events.wait(lambda: bool(play.events), timeout=10)
    play.plane.stop()
    (event,) = play.events
    assert (event.kind, event.source) == ("error", GROUP)
    assert "no redis-a" in event.message


def test_suspended(play: Play) -> None:
    """While it is suspended nothing is decided, and afterwards it is."""
    play.plane.start()
    with play.plane.suspended():
        play.shard.nodes["redis-a"].up = False
        play.clock.advance(1)
        play.shard.look()
        assert play.state() is State.AVAILABLE
    assert play.events.wait(lambda: bool(play.events.of("detecting")), timeout=10)
    play.plane.stop()


# --- the table ------------------------------------------------------------------------------


def detecting(play: Play) -> None:
    """Lose the primary."""
    play.down(play.plane.primary)


def promoting(play: Play) -> None:
    """Lose the primary for as long as a detection takes."""
    detecting(play)
    play.until_state(State.PROMOTING)


def replacing(play: Play) -> None:
    """Lose the primary for good."""
    detecting(play)
    play.until_state(State.REPLACING)


def detecting_again(play: Play) -> None:
    """Lose the new primary too, while the old one is away."""
    replacing(play)
    detecting(play)


def nothing(play: Play) -> None:
    """Leave all as it is."""


def primary_back(play: Play) -> None:
    """Let the primary answer again, and wait for what is due."""
    play.up(play.plane.primary)
    play.run(PROMOTION[1])


def wait(play: Play) -> None:
    """Wait until the shard is in another state."""
    before = play.state()
    while play.state() is before:
        play.tick()


def request(play: Play) -> None:
    """Call TestFailover."""
    play.plane.failover()


WAYS: dict[tuple[State, Signal], tuple[Callable[[Play], None], Callable[[Play], None]]] = {
    (State.AVAILABLE, Signal.PRIMARY_LOST): (nothing, detecting),
    (State.AVAILABLE, Signal.REQUESTED): (nothing, request),
    (State.AVAILABLE, Signal.STILL_REPLACING): (detecting_again, primary_back),
    (State.DETECTING, Signal.PRIMARY_BACK): (detecting, primary_back),
    (State.DETECTING, Signal.DETECTED): (detecting, wait),
    (State.PROMOTING, Signal.PRIMARY_BACK): (promoting, primary_back),
    (State.PROMOTING, Signal.PROMOTED): (promoting, wait),
    (State.REPLACING, Signal.PRIMARY_LOST): (replacing, detecting),
    (State.REPLACING, Signal.REQUESTED): (replacing, request),
    (State.REPLACING, Signal.REPLACED): (replacing, wait),
}
"""How to come near a transition, and then how to bring it about."""


class Table(dict[tuple[State, Signal], State]):
    """The table, which notes what is looked up.

    Attributes:
        taken: the transitions, in order: a tick may make several.
    """

    def __init__(self) -> None:
        super().__init__(TRANSITIONS)
        self.taken: list[tuple[State, Signal]] = []

    def __getitem__(self, key: tuple[State, Signal]) -> State:
        self.taken.append(key)
        return super().__getitem__(key)


@pytest.mark.parametrize(("state", "signal"), TRANSITIONS)
def test_transition(
    play: Play, monkeypatch: pytest.MonkeyPatch, state: State, signal: Signal
) -> None:
    """Every transition of the table can be brought about, and leads where the table says."""
    table = Table()
    reach, give = WAYS[state, signal]
    reach(play)
    monkeypatch.setattr(failover, "TRANSITIONS", table)
    give(play)
    assert table.taken[-1] == (state, signal)
    assert play.state() is TRANSITIONS[state, signal]


def test_every_state_is_reached_and_left() -> None:
    """From every state every other can be reached."""
    for start in State:
        reached = {start}
        for _ in State:
            reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
        assert reached == set(State)


@pytest.mark.parametrize("seed", range(30))
def test_no_signal_outside_the_table(seed: int) -> None:
    """Whatever happens to the nodes, a tick never comes upon a transition that is not there."""
    chance = random.Random(seed)
    play = Play(seed=str(seed), speed=30)
    redis = ["redis-a", "redis-b", "redis-c"]
    for _ in range(400):
        node = play.shard.nodes[chance.choice(list(play.shard.nodes))]
        match chance.randrange(8):
            case 0:
                node.up = False
            case 1 | 2:
                node.up = True
            case 3:
                play.shard.silent.clear()
            case 4:
                play.cut_off(*redis, speaker=play.plane.primary)
            case 5:
                node.knows = not node.knows
            case 6:
                play.shard.unpowered ^= {chance.choice("abc")}
            case 7 if play.state() in (State.AVAILABLE, State.REPLACING):
                play.plane.failover()
        play.tick(chance.uniform(0.0, 0.5), look=chance.random() < 0.9)
        assert play.state() in State
