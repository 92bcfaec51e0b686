"""Faults: which links and nodes they are on, that they begin whole or not at all, and end."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachesim.errors import CachesimError, FaultError, InvalidFault, NotRunning
from cachesim.faults.appliers import EVERYSEC
from cachesim.faults.catalogue import Isolate, Kill, Partition, Pause
from cachesim.simulator.faults import Fault, Faults
from cachesim.topology import CLIENT, NodeState, Service
from cachesim.toxiproxy.toxics import Latency, LimitData, SlowClose, Stream
from tests.fakes import Call
from tests.faults.rig import Rig

UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM
STALLED = ["stall"]
ALL_BETWEEN_A_AND_B = {
    "a-to-redis-b", "a-to-redis-b-bus", "a-to-memcached-b",
    "b-to-redis-a", "b-to-redis-a-bus", "b-to-memcached-a",
}  # fmt: skip


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology without a fault."""
    rig = Rig()
    yield rig
    rig.links.close()


# --- on links -------------------------------------------------------------------------------


def test_latency(rig: Rig) -> None:
    """A latency is added to the round trip once: to what comes back."""
    rig.faults.latency("client-to-redis-a", 100, jitter=20)
    assert rig.toxics() == {("client-to-redis-a", DOWN): ["latency"]}
    assert rig.attributes("client-to-redis-a") == [{"latency": 100, "jitter": 20}]


def test_bandwidth(rig: Rig) -> None:
    """A bandwidth limits both streams."""
    rig.faults.bandwidth("client-to-redis-a", 64)
    assert rig.attributes("client-to-redis-a") == [{"rate": 64}] * 2
    assert {stream for _, stream in rig.toxics()} == {UP, DOWN}


@pytest.mark.parametrize("kb_s", [0, -1])
def test_no_bandwidth(rig: Rig, kb_s: int) -> None:
    """A bandwidth of nothing is a mistake: that is a blackhole."""
    with pytest.raises(ValueError, match="at least 1 KB/s, got"):
        rig.faults.bandwidth("client-to-redis-a", kb_s)
    assert rig.is_whole()


def test_loss(rig: Rig) -> None:
    """A loss is a latency of both streams, whose draws are above 0 for that share of the data."""
    rig.faults.loss("client-to-redis-a", 0.05, ms=200)
    assert rig.attributes("client-to-redis-a") == [{"latency": -3600, "jitter": 4000}] * 2
    assert {stream for _, stream in rig.toxics()} == {UP, DOWN}


@pytest.mark.parametrize("toxicity", [0, -0.1, 1.1, 1e-7, float("nan"), True])
def test_no_toxicity(rig: Rig, toxicity: float) -> None:
    """A share of the connections that is none of them, or more than all, is a mistake."""
    with pytest.raises(ValueError, match=r"toxicity must be from 0\.000001 to 1, got"):
        rig.faults.toxic("client-to-redis-a", Latency(5), toxicity=toxicity)
    assert rig.is_whole()


def test_toxics_without_effect(rig: Rig) -> None:
    """A toxic that does nothing, or works on no stream, is a mistake."""
    with pytest.raises(ValueError, match="must be at least 1 ms"):
        rig.faults.latency("client-to-redis-a", 0)
    with pytest.raises(ValueError, match="must be at least 1 ms"):
        rig.faults.toxic("client-to-redis-a", SlowClose(0))
    with pytest.raises(ValueError, match="streams must have at least one of upstream, downstream"):
        rig.faults.toxic("client-to-redis-a", Latency(5), [])
    assert rig.is_whole()


@pytest.mark.parametrize("seconds", [0, 0.0001, -1, float("nan"), float("inf"), 10**10, True])
def test_no_replication_lag(rig: Rig, seconds: float) -> None:
    """A lag that would be none, or more than Toxiproxy counts, is a mistake."""
    with pytest.raises(ValueError, match=r"seconds must be from 0\.001 to 9223372036, got"):
        rig.faults.replication_lag(seconds)
    assert rig.is_whole()


def test_blackhole(rig: Rig) -> None:
    """A blackhole stalls both streams and keeps connections open."""
    rig.faults.blackhole("client-to-redis-a")
    assert rig.toxics() == {("client-to-redis-a", stream): STALLED for stream in Stream}


def test_refuse(rig: Rig) -> None:
    """A refusal disables the proxy."""
    rig.faults.refuse("client-to-redis-a")
    assert not rig.servers["a"].is_enabled("client-to-redis-a")
    assert not rig.toxics()


def test_reset(rig: Rig) -> None:
    """A reset is a reset_peer at once."""
    rig.faults.reset("client-to-redis-a")
    assert rig.toxics() == {("client-to-redis-a", UP): ["reset_peer"]}
    assert rig.attributes("client-to-redis-a") == [{"timeout": 0}]


def test_any_toxic(rig: Rig) -> None:
    """Any toxic can be a fault, on a share of the connections."""
    fault = rig.faults.toxic("client-to-redis-a", LimitData(512), [UP], toxicity=0.25)
    (toxic,) = rig.servers["a"].proxies()["client-to-redis-a"]["toxics"]
    assert (toxic["type"], toxic["stream"], toxic["toxicity"]) == ("limit_data", UP, 0.25)
    assert fault.kind == "limit_data"


def test_several_links(rig: Rig) -> None:
    """Links are given one or several, by name or themselves."""
    rig.faults.latency(["b-to-redis-a", rig.links["c-to-redis-a"]], 10)
    assert set(rig.toxics()) == {("b-to-redis-a", DOWN), ("c-to-redis-a", DOWN)}


def test_unknown_link(rig: Rig) -> None:
    """An unknown link is an error that lists the links there are."""
    with pytest.raises(KeyError, match="no link 'nowhere': there are client-to-redis-a"):
        rig.faults.latency("nowhere", 10)
    assert rig.is_whole()


def test_no_links(rig: Rig) -> None:
    """A fault on no link at all is a mistake, not a fault."""
    with pytest.raises(ValueError, match="no links were chosen"):
        rig.faults.blackhole([])


def test_replication_lag(rig: Rig) -> None:
    """A replication lag delays what replicas receive, and nothing that clients or the bus use."""
    rig.faults.replication_lag(1.5)
    expected = {
        (link.name, DOWN): ["latency"]
        for link in rig.topology.links
        if link.service is Service.REDIS and link.source != CLIENT
    }
    assert rig.toxics() == expected
    assert len(expected) == 6
    assert rig.attributes("b-to-redis-a") == [{"latency": 1500, "jitter": 0}]


def test_replication_lag_of_one_replica(rig: Rig) -> None:
    """A single replica lags, whichever of the others is the primary."""
    rig.faults.replication_lag(1, replicas=["redis-b"])
    assert set(rig.toxics()) == {("b-to-redis-a", DOWN), ("b-to-redis-c", DOWN)}


def test_replication_lag_of_an_unknown_replica(rig: Rig) -> None:
    """An unknown replica is an error that lists the nodes there are."""
    with pytest.raises(ValueError, match=r"no Redis node 'redis-d': .* redis-b, redis-c\. Did"):
        rig.faults.replication_lag(1, replicas=["redis-d"])


@pytest.mark.parametrize(
    ("replicas", "message"),
    [
        ([], "replicas: no Redis nodes were chosen: name at least one"),
        (["memcached-b"], "replicas: no Redis node 'memcached-b': there are redis-a, redis-b, r"),
        (["redis-b", "memcached-b"], "replicas: no Redis node 'memcached-b': there are redis-a, "),
    ],
)
def test_replication_lag_of_what_is_no_replica(rig: Rig, replicas: list[str], message: str) -> None:
    """A replication lag of no replica, or of a node that has none, is a mistake."""
    with pytest.raises(ValueError, match=message):
        rig.faults.replication_lag(1, replicas)
    assert rig.is_whole()
    assert rig.faults.active == []


# --- on zones -------------------------------------------------------------------------------


@pytest.mark.parametrize("zones", [("a", "b"), ("b", "a"), ("az-a", "b")])
def test_partition(rig: Rig, zones: tuple[str, str]) -> None:
    """A partition stalls both streams of all links between two zones, and no others."""
    rig.faults.partition(*zones)
    assert rig.toxics() == {
        (link, stream): STALLED for link in ALL_BETWEEN_A_AND_B for stream in Stream
    }


def test_one_way_partition(rig: Rig) -> None:
    """One way, data from the first to the second zone vanishes, whichever side connected."""
    rig.faults.partition("a", "b", one_way=True)
    assert rig.toxics() == {
        (link, UP if link.startswith("a-") else DOWN): STALLED for link in ALL_BETWEEN_A_AND_B
    }


def test_partition_from_itself(rig: Rig) -> None:
    """A partition of a zone from itself is a mistake."""
    with pytest.raises(ValueError, match="between two zones, not az-a and itself"):
        rig.faults.partition("a", "az-a")


def test_partition_from_an_unknown_zone(rig: Rig) -> None:
    """An unknown zone is an error that lists the zones there are."""
    with pytest.raises(ValueError, match="no zone 'd': there are a, b, c"):
        rig.faults.partition("a", "d")


def test_overlapping_partitions(rig: Rig) -> None:
    """Healing one of two overlapping faults leaves the other."""
    isolation = rig.faults.isolate("a")
    partition = rig.faults.partition("a", "b")
    isolation.heal()
    assert {link for link, _ in rig.toxics()} == ALL_BETWEEN_A_AND_B
    partition.heal()
    assert rig.is_whole()


def test_isolate(rig: Rig) -> None:
    """An isolated zone is cut off from the other zones and from clients, and from nothing else."""
    rig.faults.isolate("a")
    cut = {link.name for link in rig.topology.links if "a" in (link.source, link.target_zone)}
    assert len(cut) == 14
    assert rig.toxics() == {(link, stream): STALLED for link in cut for stream in Stream}


def test_az_power(rig: Rig) -> None:
    """A loss of power stops all of a zone at once, and with the power back all of it runs.

    Before that its links stall: links to a frozen process can't be changed.
    """
    fault = rig.faults.az_power("az-a")
    *stalls, pause = rig.calls
    assert {(verb, effect) for verb, _, effect in stalls} == {("add", "stall")}
    assert pause == ("pause", "memcached-a", "redis-a")
    dark = rig.toxics()
    fault.heal()
    assert rig.is_whole()
    rig.faults.isolate("az-a")
    assert rig.toxics() == dark


def test_az_power_asks_for_the_size_afterwards(rig: Rig) -> None:
    """Writes until the node is frozen count: they may have been acknowledged."""
    before: list[Call] = []
    asked = rig.sizes.aof_size

    def aof_size(node: str, ago: float) -> tuple[float, int] | None:
        before.extend(rig.calls)
        return asked(node, ago)

    rig.sizes.aof_size = aof_size  # type: ignore[method-assign]
    rig.faults.az_power("a")
    assert before[-1] == ("pause", "memcached-a", "redis-a")


def test_az_power_loses_the_tail(rig: Rig) -> None:
    """With the power back, what had not reached the disk is not there any more."""
    rig.faults.az_power("a").heal()
    assert ("truncate_aof", "redis-a", "4096") in rig.calls


def test_az_power_with_an_unknown_size(rig: Rig) -> None:
    """An append-only file whose size is not known is left as it is."""
    rig.faults.az_power("c").heal()
    assert not [call for call in rig.calls if call[0] == "truncate_aof"]


def lost_seconds(seed: str) -> float:
    """How many seconds of writes a loss of power costs."""
    rig = Rig(seed)
    rig.faults.az_power("a").heal()
    rig.links.close()
    (ago,) = rig.sizes.asked
    return ago


def test_az_power_is_drawn_from_the_seed() -> None:
    """How much is lost is drawn from the seed, up to what everysec can lose."""
    assert 0 <= lost_seconds("7") <= EVERYSEC
    assert lost_seconds("7") == lost_seconds("7")
    assert lost_seconds("7") != lost_seconds("8")


def test_reseed(rig: Rig) -> None:
    """With the same seed anew, the same losses are drawn again."""
    for _ in range(2):
        rig.injector.reseed("9")
        rig.faults.az_power("a").heal()
    first, second = rig.sizes.asked
    assert first == second


# --- on nodes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "state"),
    [
        pytest.param(Faults.kill, NodeState.STOPPED, id="kill"),
        pytest.param(Faults.stop, NodeState.STOPPED, id="stop"),
        pytest.param(Faults.pause, NodeState.PAUSED, id="pause"),
    ],
)
def test_on_nodes(rig: Rig, begin: Callable[..., Fault], state: NodeState) -> None:
    """A fault on nodes is on those alone, and healing it lets them run."""
    fault = begin(rig.faults, "redis-a", "memcached-b")
    hit = {node for node, is_now in rig.backend.states.items() if is_now is state}
    assert hit == {"redis-a", "memcached-b"}
    fault.heal()
    assert rig.is_whole()


@pytest.mark.parametrize("begin", [Faults.kill, Faults.stop, Faults.pause])
def test_fault_on_a_node_that_was_replaced(rig: Rig, begin: Callable[..., Fault]) -> None:
    """A node with a new process has no fault any more; the other nodes of the fault have."""
    fault = begin(rig.faults, "redis-a", "redis-b")
    rig.nodes.replace("redis-a")
    assert rig.faults.active == [fault]
    rig.nodes.replace("redis-b")
    assert rig.faults.active == []
    assert rig.is_whole()


def test_unknown_node(rig: Rig) -> None:
    """An unknown node is an error that lists the nodes there are, and no node is hit."""
    with pytest.raises(ValueError, match="no node 'redis-d': there are redis-a"):
        rig.faults.kill("redis-a", "redis-d")
    assert rig.is_whole()


def test_no_node(rig: Rig) -> None:
    """A fault on no node at all is a mistake that lists the nodes there are."""
    with pytest.raises(ValueError, match=r"kill which node\? There are redis-a"):
        rig.faults.kill()


# --- values ---------------------------------------------------------------------------------


def test_apply_a_value(rig: Rig) -> None:
    """A fault of the catalogue, or the same as JSON, does what its method does."""
    rig.faults.partition("a", "b", one_way=True)
    expected = rig.toxics()
    rig.faults.heal_all()
    for fault in (
        Partition("a", "b", one_way=True),
        {"fault": "partition", "a": "az-a", "b": "b", "one_way": True},
    ):
        with rig.faults.apply(fault) as applied:
            assert rig.toxics() == expected
            assert applied.spec == Partition("a", "b", one_way=True)
    assert rig.is_whole()


def test_patterns_of_links(rig: Rig) -> None:
    """A pattern stands for all links that match it, for methods too."""
    fault = rig.faults.latency("client-to-redis-*", 10)
    assert {link for link, _ in rig.toxics()} == {f"client-to-redis-{zone}" for zone in "abc"}
    assert repr(fault) == "<latency of 10 ms on client-to-redis-a and 2 more>"


def test_apply_a_list(rig: Rig) -> None:
    """A list of faults is applied in its order, and each can be healed alone."""
    applied = rig.faults.apply([Kill(("redis-b",)), {"fault": "isolate", "zone": "a"}])
    assert rig.faults.active == applied
    assert [kind for _, _, kind in rig.told()] == ["kill", "isolate"]
    applied[0].heal()
    assert rig.faults.active == applied[1:]
    assert rig.backend.states["redis-b"] is NodeState.RUNNING


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Kill(("redis-d",)), "fault 2 of 2: kill: nodes: no node 'redis-d': there are redis-a, "),
        ({"fault": "kill"}, "fault 2 of 2: kill: nodes is missing"),
        ({"fault": "heal_all"}, "fault 2 of 2: no fault 'heal_all': there are latency, "),
    ],
)
def test_list_with_a_mistake(rig: Rig, wrong: Any, message: str) -> None:
    """A list with a mistake is not applied at all."""
    with pytest.raises(ValueError, match=message):
        rig.faults.apply([Kill(("redis-a",)), wrong])
    assert not rig.calls
    assert not rig.events


def test_list_that_fails(rig: Rig) -> None:
    """If a fault of a list can't be applied, those before it are healed, and others stay."""
    stays = rig.faults.refuse("client-to-redis-b")
    rig.servers["c"].broken["c-to-redis-b"] = 500
    with pytest.raises(FaultError, match="told to fail"):
        rig.faults.apply([Kill(("redis-a",)), Isolate("a"), Partition("b", "c"), Isolate("b")])
    rig.servers["c"].broken.clear()
    assert rig.faults.active == [stays]
    assert [kind for kind, _, _ in rig.told()] == ["fault", "fault", "fault", "heal", "heal"]
    stays.heal()
    assert rig.is_whole()


def test_list_that_can_not_be_healed_either(rig: Rig) -> None:
    """A fault that could not be healed again stays active, and the first error is raised."""
    rig.backend.failing.add("start_node")
    rig.backend.failing.add("pause")
    with pytest.raises(FaultError, match="pause was told to fail"):
        rig.faults.apply([Kill(("redis-a",)), Pause(("redis-b",))])
    (left,) = rig.faults.active
    rig.backend.failing.clear()
    left.heal()
    assert rig.is_whole()


def test_list_that_fails_by_the_engine(rig: Rig) -> None:
    """An engine's own error does not keep the faults before it either."""
    rig.backend.failing.update(("pause", "start_node"))
    rig.backend.error = OSError
    with pytest.raises(CachesimError, match="pause was told to fail"):
        rig.faults.apply([Kill(("redis-a",)), Isolate("b"), Pause(("redis-c",))])
    (left,) = rig.faults.active  # the only one that needs the engine
    rig.backend.failing.clear()
    left.heal()
    assert rig.is_whole()


@pytest.mark.parametrize("nothing", [[], "kill", None, {"fault": "reseed", "seed": "1"}])
def test_apply_what_is_no_fault(rig: Rig, nothing: Any) -> None:
    """Anything but a fault is an error, and so is an empty list."""
    with pytest.raises(InvalidFault):
        rig.faults.apply(nothing)


# --- beginning and ending -------------------------------------------------------------------


def test_context_manager(rig: Rig) -> None:
    """A fault ends with its block."""
    with rig.faults.blackhole("client-to-redis-a") as fault:
        assert rig.faults.active == [fault]
        assert rig.toxics()
    assert rig.faults.active == []
    assert rig.is_whole()


def test_context_manager_with_an_exception(rig: Rig) -> None:
    """A fault ends with its block also when that fails, and does not hide the failure."""
    with pytest.raises(LookupError), rig.faults.kill("redis-a"):
        raise LookupError
    assert rig.is_whole()


def test_heal_twice(rig: Rig) -> None:
    """Healing what is healed does nothing and tells nothing."""
    fault = rig.faults.kill("redis-a")
    fault.heal()
    rig.calls.clear()
    mark = rig.events.mark()
    fault.heal()
    assert not rig.calls
    assert not rig.events.since(mark)


def test_equal_by_its_id(rig: Rig) -> None:
    """Each answer has new objects: faults are equal by their id, and not by what they are."""
    one, other = rig.faults.isolate("a"), rig.faults.isolate("a")
    assert rig.faults.active == [one, other]
    assert one != other
    assert {one, *rig.faults.active} == {one, other}
    elsewhere = Rig()
    assert elsewhere.faults.isolate("a") != one
    elsewhere.links.close()
    assert one != "1"


def test_heal_by_another(rig: Rig) -> None:
    """Whoever lists the faults can heal them."""
    fault = rig.faults.kill("redis-a")
    (found,) = Faults(rig.topology, rig.connection).active
    found.heal()
    assert rig.is_whole()
    assert rig.faults.active == []
    fault.heal()
    assert len(rig.events.of("heal")) == 1


def test_after_the_end(rig: Rig) -> None:
    """After the end of the topology a fault can be healed and left, but none can be applied."""
    with rig.faults.kill("redis-a") as fault:
        rig.connection.is_over = True
    fault.heal()
    rig.calls.clear()
    with pytest.raises(NotRunning):
        rig.faults.pause("redis-b")
    with pytest.raises(NotRunning):
        rig.faults.pause()
    with pytest.raises(NotRunning):
        rig.faults.apply([{"fault": "no such"}])
    with pytest.raises(NotRunning):
        _ = rig.faults.active
    with pytest.raises(NotRunning):
        rig.faults.heal_all()
    assert not rig.calls


def test_after_the_death_of_its_process(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault whose process has died can't be healed, which does not hide a test's own error."""

    def die(*_arguments: object, **_more: object) -> None:
        raise NotRunning("has ended without taking it down")

    fault = rig.faults.kill("redis-a")
    monkeypatch.setattr(rig.connection, "call", die)
    with pytest.raises(NotRunning, match="has ended"):
        fault.heal()
    with pytest.raises(NotRunning, match="has ended"), fault:
        pass
    with pytest.raises(LookupError, match="its own"), fault:
        raise LookupError("its own")


def test_fault_and_heal_are_told(rig: Rig) -> None:
    """The event log has every fault and its end, with what it is on."""
    with rig.faults.partition("a", "b"):
        pass
    with rig.faults.partition("a", "b", one_way=True), rig.faults.kill("redis-a", "redis-b"):
        pass
    assert rig.told() == [
        ("fault", "az-a|az-b", "partition"),
        ("heal", "az-a|az-b", "partition"),
        ("fault", "az-a>az-b", "partition"),
        ("fault", "redis-a, redis-b", "kill"),
        ("heal", "redis-a, redis-b", "kill"),
        ("heal", "az-a>az-b", "partition"),
    ]


def test_when_a_fault_began_is_told(rig: Rig) -> None:
    """It has its effect before its entry in the log."""
    before = time.monotonic()
    rig.faults.kill("redis-a")
    (event,) = rig.events
    assert before <= event.data["begun"] <= time.monotonic()


def test_many_links_are_told_shortly(rig: Rig) -> None:
    """Of several links the log names the first and counts the rest."""
    fault = rig.faults.latency(["b-to-redis-a", "c-to-redis-a", "b-to-redis-c"], 10)
    assert rig.told() == [("fault", "b-to-redis-a and 2 more", "latency of 10 ms")]
    assert repr(fault) == "<latency of 10 ms on b-to-redis-a and 2 more>"


def test_fault_that_a_link_does_not_take(rig: Rig) -> None:
    """A fault that fails on one link raises; nothing of it remains or is in the log."""
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError, match="told to fail"):
        rig.faults.partition("a", "b")
    rig.servers["a"].broken.clear()
    assert rig.is_whole()
    assert rig.faults.active == []
    assert not rig.events


@pytest.mark.parametrize("verb", ["kill", "shut_down", "pause"])
def test_fault_that_a_node_does_not_take(rig: Rig, verb: str) -> None:
    """A fault that fails in the backend raises; nothing of it remains or is in the log."""
    rig.backend.failing.add(verb)
    begin = {"kill": rig.faults.kill, "shut_down": rig.faults.stop, "pause": rig.faults.pause}
    with pytest.raises(FaultError, match=f"{verb} was told to fail"):
        begin[verb]("redis-a")
    rig.backend.failing.clear()
    assert rig.is_whole()
    assert rig.faults.active == []
    assert not rig.events


def test_pause_of_a_dead_node(rig: Rig) -> None:
    """A fault on a node that can't have it raises, and the fault that is there stays."""
    kill = rig.faults.kill("redis-a")
    with pytest.raises(FaultError, match="it is not running"):
        rig.faults.pause("redis-a")
    assert rig.faults.active == [kill]
    assert rig.backend.states["redis-a"] is NodeState.STOPPED


def test_heal_that_fails(rig: Rig) -> None:
    """A fault that could not be healed raises, is still there, and may be healed again."""
    fault = rig.faults.blackhole("b-to-redis-a")
    rig.servers["b"].broken["b-to-redis-a"] = 500
    with pytest.raises(FaultError):
        fault.heal()
    assert rig.faults.active == [fault]
    assert rig.events.of("heal") == []


def test_repeated_heal(rig: Rig) -> None:
    """A heal that failed can be repeated, and is in the log when it succeeds."""
    fault = rig.faults.latency("b-to-redis-a", 100)
    rig.servers["b"].broken["b-to-redis-a"] = 500
    with pytest.raises(FaultError):
        fault.heal()
    rig.servers["b"].broken.clear()
    fault.heal()
    assert rig.is_whole()
    assert rig.faults.active == []
    assert len(rig.events.of("heal")) == 1


def test_heal_all(rig: Rig) -> None:
    """Healing all ends every fault, tells so, and leaves nothing."""
    rig.faults.partition("a", "b")
    rig.faults.refuse("client-to-memcached-c")
    rig.faults.kill("redis-b")
    rig.faults.pause("redis-c")
    rig.faults.az_power("a")
    rig.faults.heal_all()
    assert rig.is_whole()
    assert rig.faults.active == []
    assert len(rig.events.of("heal")) == 5


def test_heal_all_does_what_it_can(rig: Rig) -> None:
    """A node that can't be started keeps nobody else down, and no link."""
    rig.faults.kill("redis-a")
    rig.faults.pause("redis-b")
    rig.faults.refuse("client-to-redis-c")
    rig.backend.failing.add("start_node")
    with pytest.raises(FaultError):
        rig.faults.heal_all()
    assert rig.backend.states["redis-b"] is NodeState.RUNNING
    assert rig.servers["c"].proxies()["client-to-redis-c"]["enabled"]
    rig.backend.failing.clear()
    rig.faults.heal_all()
    assert rig.is_whole()


def test_heal_all_takes_away_what_was_done_by_hand(rig: Rig) -> None:
    """Healing all also ends what others did to the proxies."""
    rig.servers["a"].set_enabled("client-to-redis-a", False)
    rig.faults.heal_all()
    assert rig.is_whole()


def test_heal_after_heal_all(rig: Rig) -> None:
    """Healing a fault after all were healed does nothing."""
    fault = rig.faults.pause("redis-a")
    rig.faults.heal_all()
    rig.calls.clear()
    fault.heal()
    assert not rig.calls


def test_heal_all_nodes_before_toxics(rig: Rig) -> None:
    """Nodes go on before toxics are changed: a stuck receiver would freeze its Toxiproxy."""
    rig.faults.blackhole("client-to-redis-b")
    rig.faults.kill("memcached-c")
    rig.faults.pause("redis-b")
    rig.calls.clear()
    rig.faults.heal_all()
    verbs = [call[0] for call in rig.calls]
    first_toxic = verbs.index("lift")
    assert max(verbs.index("resume"), verbs.index("start_node")) < first_toxic


def test_faults_on_one_node_overlap(rig: Rig) -> None:
    """A node that two faults keep down runs when both are healed."""
    one, other = rig.faults.kill("redis-a"), rig.faults.az_power("a")
    one.heal()
    assert rig.backend.states["redis-a"] is not NodeState.RUNNING
    other.heal()
    assert rig.is_whole()


# --- on servers -----------------------------------------------------------------------------


def test_limits_of_servers(rig: Rig) -> None:
    """Memory and connections are limited, the strictest limit counts, and healing ends its own."""
    full = rig.faults.memory_fill("redis-a", "memcached-b")
    fuller = rig.faults.memory_fill("redis-a", to=1.5)
    few = rig.faults.connection_limit("redis-a", most=20)
    rig.faults.connection_limit("redis-a", most=100)
    assert rig.limited.limits == {
        ("redis-a", "memory"): 1.5,
        ("memcached-b", "memory"): 1.0,
        ("redis-a", "connections"): 20,
    }
    fuller.heal()
    few.heal()
    assert rig.limited.limits["redis-a", "memory"] == 1.0
    assert rig.limited.limits["redis-a", "connections"] == 100
    full.heal()
    assert rig.limited.limits == {("redis-a", "connections"): 100}
    rig.faults.heal_all()
    assert rig.is_whole()


def test_limits_need_a_node_that_runs(rig: Rig) -> None:
    """The limits of a node that does not run can't be changed; nothing of the fault remains."""
    rig.faults.pause("redis-b")
    with pytest.raises(FaultError, match="limits of redis-b can't be changed: it does not run"):
        rig.faults.memory_fill("redis-a", "redis-b")
    rig.limited.failing.add("redis-c")
    with pytest.raises(FaultError, match="limits of redis-c could not be changed"):
        rig.faults.connection_limit("redis-a", "redis-c", most=5)
    rig.limited.failing.clear()
    assert rig.limited.limits == {}


def test_limits_end_with_the_process(rig: Rig) -> None:
    """A node that is down is not asked for its limits: its next process has its own."""
    fault = rig.faults.memory_fill("redis-a")
    rig.faults.kill("redis-a")
    rig.limited.failing.add("redis-a")
    fault.heal()
    assert fault not in rig.faults.active


def test_limits_of_a_paused_node_stay(rig: Rig) -> None:
    """A fault whose node is paused can't be healed, and is healed with all others."""
    fault = rig.faults.memory_fill("redis-a")
    rig.faults.pause("redis-a")
    with pytest.raises(FaultError, match="limits of redis-a can't be restored: it is paused"):
        fault.heal()
    assert fault in rig.faults.active
    rig.faults.heal_all()
    assert rig.is_whole()
    assert rig.faults.active == []
