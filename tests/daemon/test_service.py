"""The calls that are answered: values in, values out, and no other method is reached."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from cachesim.control_plane.timing import Timing
from cachesim.daemon import log_following, service, waiting
from cachesim.daemon.server import Hangup
from cachesim.errors import CachesimError, FailoverTimeout, FaultError, InvalidFault, NotRunning
from cachesim.events import Event
from cachesim.runs.calls import Call
from cachesim.runs.owner import Owner
from cachesim.topology import Endpoint
from tests.contract.helpers import until
from tests.fakes import FakeCaller
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


def apply(rig: Rig, *faults: dict[str, Any], **arguments: Any) -> Any:
    """Apply faults."""
    return rig.connection.call(Call.APPLY, faults=list(faults), **arguments)


def heal(rig: Rig, fault: str | None = None) -> Any:
    """Heal a fault, or all."""
    return rig.connection.call(Call.HEAL, fault=fault)


def kill(*nodes: str) -> dict[str, Any]:
    """A fault as JSON."""
    return {"fault": "kill", "nodes": list(nodes)}


def test_fault(rig: Rig) -> None:
    """A fault gets an id, by which it is healed."""
    told = {
        "id": "1",
        "kind": "kill",
        "target": "redis-a",
        "fault": kill("redis-a"),
        "seconds": None,
    }
    assert apply(rig, kill("redis-a")) == [told]
    assert rig.connection.call(Call.FAULTS) == [told]
    assert heal(rig, "1") == [told]
    assert rig.is_whole()
    assert heal(rig, "1") == []


def test_faults(rig: Rig) -> None:
    """Each fault of a list gets an id."""
    answer = apply(rig, kill("redis-a"), kill("redis-b"), seconds=3600)
    assert [(it["id"], it["target"], it["seconds"]) for it in answer] == [
        ("1", "redis-a", 3600),
        ("2", "redis-b", 3600),
    ]
    assert [it["id"] for it in heal(rig)] == ["1", "2"]
    assert rig.is_whole()
    assert heal(rig) == []


def test_one_of_several(rig: Rig) -> None:
    """A fault that is healed by its id leaves the others."""
    apply(rig, kill("redis-a"), kill("redis-b"))
    assert [it["target"] for it in heal(rig, "2")] == ["redis-b"]
    assert [it["target"] for it in rig.connection.call(Call.FAULTS)] == ["redis-a"]


def test_fault_for_a_time(rig: Rig) -> None:
    """A fault is healed after its time."""
    apply(rig, kill("redis-a"), seconds=0.01)
    until(lambda: not rig.faults.active)
    assert rig.is_whole()


def test_fault_that_was_healed_before_its_time(rig: Rig) -> None:
    """When its time has passed, a fault that was healed is not healed again; others stay."""
    apply(rig, kill("redis-a"), kill("redis-b"), seconds=0.2)
    heal(rig, "1")
    (again,) = apply(rig, kill("redis-a"))
    until(lambda: len(rig.faults.active) == 1)
    assert [it["id"] for it in rig.connection.call(Call.FAULTS)] == [again["id"]]
    assert not rig.events.of("error")
    assert len(rig.events.of("heal")) == 2


def test_fault_that_can_not_be_healed_after_its_time(rig: Rig) -> None:
    """If it can't be healed, the event log says so once, and it is healed when that is possible."""
    rig.backend.failing.add("start_node")
    apply(rig, kill("redis-a"), seconds=0.01)
    rig.events.wait(lambda: bool(rig.events.of("error")), 10)
    (event,) = rig.events.of("error")
    assert (event.source, event.message) == (
        "redis-a",
        "kill not healed: start_node was told to fail",
    )
    rig.backend.failing.clear()
    until(lambda: not rig.faults.active)
    assert rig.is_whole()


def test_remaining_time(rig: Rig) -> None:
    """The list of faults tells how much of its time a fault has left."""
    apply(rig, kill("redis-a"), seconds=3600)
    (first,) = rig.connection.call(Call.FAULTS)
    assert 3500 < first["seconds"] < 3600
    until(lambda: rig.connection.call(Call.FAULTS)[0]["seconds"] < first["seconds"])
    heal(rig)


def test_fault_that_comes_and_goes_for_a_time(rig: Rig) -> None:
    """A fault that would flap forever ends with its time."""
    apply(rig, kill("redis-a"), flap=(0.01, 0.01), seconds=0.1)
    until(lambda: not rig.faults.active)
    assert rig.is_whole()


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), [5], 7 * 86400 + 1])
def test_wrong_time(rig: Rig, seconds: object) -> None:
    """A wrong time is an error before the fault is applied."""
    with pytest.raises(
        InvalidFault, match=r"healed must be seconds above 0 and up to 604800 \(7 days\), got "
    ):
        apply(rig, kill("redis-a"), seconds=seconds)
    assert not rig.calls


@pytest.mark.parametrize("name", ["heal_all", "reseed", "apply", "active", "_begin", "__init__"])
def test_nothing_else_is_a_fault(rig: Rig, name: str) -> None:
    """No other method of the injector can be reached."""
    with pytest.raises(InvalidFault, match=f"no fault '{name}': there are latency, "):
        apply(rig, {"fault": name})
    assert not rig.calls


@pytest.mark.parametrize("name", ["hung_up", "_apply", "isolate", "kill", "__init__"])
def test_nothing_else_is_a_call(rig: Rig, name: str) -> None:
    """No other method can be reached; who asks for one may run another version."""
    with pytest.raises(CachesimError, match=f"'t' does not know '{name}': .* another version of"):
        rig.connection.call(f"{name}", node="redis-a")
    assert not rig.calls


@pytest.mark.parametrize(
    ("verb", "state"), [("kill", "stopped"), ("stop", "stopped"), ("pause", "paused")]
)
def test_node(rig: Rig, verb: str, state: str) -> None:
    """What was done to a node is seen in its state, and ends with a call."""
    apply(rig, {"fault": verb, "nodes": ["memcached-a"]})
    assert rig.connection.call(Call.NODE, node="memcached-a") == {
        "name": "memcached-a",
        "zone": "a",
        "role": None,
        "state": state,
        "endpoint": "memcached-a:6379",
    }
    end = Call.RESUME if verb == "pause" else Call.RESTART
    rig.connection.call(end, node="memcached-a")
    assert rig.connection.call(Call.NODE, node="memcached-a")["state"] == "running"
    assert rig.faults.active == []
    assert [it.message for it in rig.events.of("restart")] == ["by hand"] * (end == Call.RESTART)


@pytest.mark.parametrize(
    "call", [Call.NODE, Call.RESUME, Call.RESTART, Call.LOGS], ids=lambda it: it.value
)
def test_no_such_node(rig: Rig, call: Call) -> None:
    """An unknown node is an error with those that there are."""
    more = {"lines": 5} if call is Call.LOGS else {}
    with pytest.raises(CachesimError, match="no node 'redis-d': there are redis-a, redis-b, "):
        rig.connection.call(call, node="redis-d", **more)
    assert not rig.calls


def test_logs(rig: Rig) -> None:
    """The last lines of a node's log, as many as are asked for."""
    assert rig.connection.call(Call.LOGS, node="redis-a", lines=5) == "the last 5 lines of redis-a"


def test_link(rig: Rig) -> None:
    """A link is as its Toxiproxy has it, with what others added there."""
    rig.faults.latency("b-to-redis-a", 100)
    link = rig.connection.call(Call.LINK, link="b-to-redis-a")
    assert (link["name"], link["enabled"]) == ("b-to-redis-a", True)
    assert [it["attributes"] for it in link["toxics"]] == [{"latency": 100, "jitter": 0}]
    rig.faults.refuse("client-to-redis-b")
    links = {it["name"]: it for it in rig.connection.call(Call.LINKS)}
    assert links.keys() == {it.name for it in rig.topology.links}
    assert links["b-to-redis-a"] == link
    assert [it["name"] for it in links.values() if not it["enabled"]] == ["client-to-redis-b"]


def test_seen_from(rig: Rig) -> None:
    """From a zone, nodes of others have other addresses; a zone is known by both its names."""
    seen = rig.connection.call(Call.SEEN_FROM, zone="az-b")
    assert seen == rig.connection.call(Call.SEEN_FROM, zone="b")
    names = {node.name for node in rig.topology.nodes}
    assert seen.keys() == names | {"endpoint-redis", "endpoint-memcached"}
    assert seen["redis-a"] == {"announced": "redis-a:6379", "seen": "redis-a-from-b:6379"}
    assert seen["redis-b"] == {"announced": "redis-b:6379", "seen": "redis-b:6379"}
    assert seen["endpoint-redis"]["seen"] == "endpoint-redis-in-b:1"
    way = rig.operations.provision.configuration.ways["b"]  # type: ignore[attr-defined]
    assert way(Endpoint("redis-a", 6379)) == Endpoint("redis-a-from-b", 6379)
    with pytest.raises(ValueError, match="no zone 'd': there are a, b, c"):
        rig.connection.call(Call.SEEN_FROM, zone="d")


def test_while_a_node_is_being_added(rig: Rig) -> None:
    """Nobody is told of it yet, and nothing fails for its sake."""
    before = {node.name for node in rig.topology.nodes}
    rig.topology.scale(rig.topology.scaled(4))
    rig.operations.provision.coming.add("memcached-a2")
    seen = rig.connection.call(Call.SEEN_FROM, zone="b")
    assert seen.keys() == before | {"endpoint-redis", "endpoint-memcached"}
    way = rig.operations.provision.configuration.ways["b"]  # type: ignore[attr-defined]
    assert way(Endpoint("redis-a", 6379)) == Endpoint("redis-a-from-b", 6379)
    with pytest.raises(CachesimError, match="no node 'memcached-a2'"):
        rig.connection.call(Call.NODE, node="memcached-a2")
    assert {it["name"] for it in rig.connection.call(Call.ROLL)} == before
    assert len(rig.connection.call(Call.SCALE, memcached=3)) == 3


def test_links_while_one_is_removed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that stay are told, and an error of theirs too."""
    (link, *others) = rig.links.values()
    proxy = rig.servers[link.home].proxy

    def removed(name: str) -> Any:
        if name == link.name:
            rig.links.remove([link])
        return proxy(name)

    monkeypatch.setattr(rig.servers[link.home], "proxy", removed)
    rig.servers[link.home].broken[link.name] = 404
    assert {it["name"] for it in rig.connection.call(Call.LINKS)} == {it.name for it in others}
    rig.servers[others[0].home].broken[others[0].name] = 500
    with pytest.raises(CachesimError):
        rig.connection.call(Call.LINKS)


def test_fault_that_fails(rig: Rig) -> None:
    """A fault that fails gets no id."""
    rig.backend.failing.add("kill")
    with pytest.raises(FaultError, match="kill was told to fail"):
        apply(rig, kill("redis-a"))
    assert rig.connection.call(Call.FAULTS) == []


# --- what runs, and its state -------------------------------------------------------------------


def test_description(rig: Rig) -> None:
    """What clients need to know once, secrets included."""
    it = rig.connection.call(Call.DESCRIBE)
    assert (it["name"], it["backend"], it["seed"]) == ("t", "fake", 7)
    assert it["settings"]["node_timeout_seconds"] == 2
    assert it["endpoints"]["redis-a"] == "redis-a:6379"
    assert it["endpoints"].keys() == {node.name for node in rig.topology.nodes}
    assert it["toxiproxy"]["c"] == "http://toxiproxy-c:8474"
    assert (it["ca_file"], it["token"], it["folder"]) == ("/run/ca.pem", "to-ken", "/run")
    assert it["env"] == rig.operations.provision.env()
    assert Owner.parse(it["owner"]) == Owner.parse(str(Owner.current()))
    assert it["events"] == 0
    rig.faults.isolate("a")
    assert rig.connection.call(Call.DESCRIBE)["events"] == 1


def test_status(rig: Rig) -> None:
    """What runs, who has it, and its state."""
    rig.faults.kill("redis-b")
    status = rig.connection.call(Call.STATUS)
    assert status.pop("uptime_seconds") >= 0
    nodes = {node["name"]: node for node in status.pop("nodes")}
    assert status == {
        "name": "t",
        "backend": "fake",
        "folder": None,
        "engine": "redis",
        "speed": 1,
        "seed": 7,
        "pid": os.getpid(),
        "owned_by": "process 7",
        "leased_by": None,
        "control_plane": "available",
        "faults": rig.connection.call(Call.FAULTS),
        "toxiproxy": {zone: f"http://toxiproxy-{zone}:8474" for zone in "abc"},
    }
    assert [nodes[f"redis-{zone}"]["role"] for zone in "abc"] == ["primary", "replica", "replica"]
    assert (nodes["redis-b"]["state"], nodes["redis-c"]["state"]) == ("stopped", "running")
    assert nodes["memcached-c"] == rig.connection.call(Call.NODE, node="memcached-c")


def test_timing(rig: Rig) -> None:
    """The timing can be read and set, and `status` has its speed."""
    timing = Timing((1, 2), (3, 4), (5, 6), 7, 60)
    rig.connection.call(Call.SET_TIMING, timing=timing.as_dict())
    assert rig.control_plane.timing == timing
    assert Timing.from_dict(rig.connection.call(Call.TIMING)) == timing
    assert rig.connection.call(Call.STATUS)["speed"] == 60


def test_reset(rig: Rig) -> None:
    """A reset takes a timing, a seed and a name for the draws."""
    rig.faults.kill("redis-b")
    timing = Timing((1, 2), (3, 4), (5, 6), 7, 60)
    rig.connection.call(Call.RESET, draws="x", timing=timing.as_dict(), seed=8)
    assert rig.is_whole()
    assert rig.control_plane.timing == timing
    rig.faults.az_power("a").heal()
    rig.injector.reseed("8 x")
    rig.faults.az_power("a").heal()
    first, second = rig.sizes.asked
    assert first == second


# --- failovers ----------------------------------------------------------------------------------


def test_failover(rig: Rig) -> None:
    """A failover begins at once; the answer is how the shard was before."""
    before = {"id": "0001", "state": "available", "primary": "redis-a", "failovers": 0}
    assert rig.connection.call(Call.FAILOVER, to="c") == before
    rig.play.until_failover()
    after = rig.connection.call(Call.SHARD)
    assert (after["primary"], after["failovers"]) == ("redis-c", 1)
    assert rig.connection.call(Call.SHARD, shard="0001") == after
    with pytest.raises(ValueError, match="no shard '2': there are 0001"):
        rig.connection.call(Call.SHARD, shard="2")


def wait_for_failover(rig: Rig, after: int = 0, seconds: float | None = None) -> Any:
    """Wait for a failover."""
    return rig.connection.call(
        Call.WAIT, what="failover", shard="0001", after=after, seconds=seconds
    )


def test_wait_for_failover(rig: Rig) -> None:
    """Waiting ends with the failover. One that has been counts, if it was not seen before."""
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(wait_for_failover, rig, 0, seconds) for seconds in (None, 60)]
        rig.play.fail_over()
        for wait in waits:
            assert wait.result(10) == rig.connection.call(Call.SHARD)
    assert wait_for_failover(rig)["failovers"] == 1


def test_wait_for_a_failover_whose_primary_is_lost(rig: Rig) -> None:
    """A failover has not succeeded while its new primary is down."""
    rig.play.fail_over()
    fault = rig.faults.kill("redis-b")
    with pytest.raises(FailoverTimeout):
        wait_for_failover(rig, seconds=0.01)
    fault.heal()
    assert wait_for_failover(rig, seconds=0.01)["primary"] == "redis-b"


def test_wait_for_failover_in_vain(rig: Rig) -> None:
    """The error tells the state of the shard, and what happened."""
    rig.faults.isolate("c")
    with pytest.raises(
        FailoverTimeout, match=r"(?s)0\.01 s: .* available, its .* redis-a.*isolate"
    ):
        wait_for_failover(rig, seconds=0.01)
    with pytest.raises(ValueError, match="timeout must be from 0 to"):
        wait_for_failover(rig, seconds=-1)


def test_default_time_of_a_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, waiting takes as long as a failover may, and 10 s more."""
    given: list[float] = []

    def wait(_condition: object, timeout: float) -> bool:
        given.append(timeout)
        return True

    monkeypatch.setattr(rig.events, "wait", wait)
    monkeypatch.setattr(waiting, "_LOOK", 1e6)
    wait_for_failover(rig)
    assert given == [pytest.approx(rig.control_plane.timing.longest_failover + 10, abs=0.5)]


def test_waits_of_a_caller_that_leaves(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait ends soon after its caller has left."""
    monkeypatch.setattr(waiting, "_LOOK", 0.01)
    with ThreadPoolExecutor() as pool:
        waits = [
            pool.submit(wait_for_failover, rig),
            pool.submit(rig.connection.call, Call.EVENTS, after=0, wait=60),
        ]
        rig.connection.caller.has_hung_up = True
        for wait in waits:
            assert isinstance(error := wait.exception(10), CachesimError)
            assert isinstance(error.__cause__, Hangup)


def test_waits_end_with_the_topology(rig: Rig) -> None:
    """Waits end with an error when there is no more to come."""
    with ThreadPoolExecutor() as pool:
        waits = [
            pool.submit(wait_for_failover, rig),
            pool.submit(rig.connection.call, Call.EVENTS, after=0, wait=60),
            pool.submit(rig.connection.call, Call.FOLLOW_EVENTS),
        ]
        rig.events.end("it was taken down")
        for wait in waits:
            assert isinstance(error := wait.exception(10), NotRunning)
            assert str(error) == "it was taken down"


@pytest.mark.parametrize("call", [Call.SHARD, Call.DOWN])
def test_errors_while_all_is_taken_down(rig: Rig, call: Call) -> None:
    """What fails because the topology ends is no error of the call: its caller finds the end."""
    rig.life.requested = True
    rig.life.problem = FaultError("the engine does not answer")
    wrong: dict[str, Any] = {"shard": "2"} if call is Call.SHARD else {}
    with pytest.raises(CachesimError) as caught:
        rig.connection.call(call, **wrong)
    if call is Call.SHARD:
        assert isinstance(caught.value.__cause__, Hangup)
    else:
        assert str(caught.value) == "the engine does not answer"


# --- the end ------------------------------------------------------------------------------------


def test_fault_of_a_caller_that_is_gone(rig: Rig) -> None:
    """A fault whose caller was interrupted is healed: nobody has anything to heal it by."""
    rig.connection.caller.has_hung_up = True
    with pytest.raises(CachesimError) as caught:
        rig.connection.call(Call.APPLY, faults=[kill("redis-a")])
    assert isinstance(caught.value.__cause__, Hangup)
    assert not rig.faults.active
    assert rig.is_whole()


def test_offer(rig: Rig) -> None:
    """A topology may have an owner, and all the same be one that commands choose by themselves."""
    owner = rig.connection.call(Call.STATUS)["owned_by"]
    rig.connection.call(Call.OFFER)
    assert rig.connection.call(Call.STATUS)["owned_by"] == owner is not None
    assert rig.files.users == [None]


def test_detach(rig: Rig) -> None:
    """A detached topology has no owner."""
    rig.connection.call(Call.DETACH)
    assert rig.connection.call(Call.STATUS)["owned_by"] is None
    assert rig.files.users == [None]


def test_down(rig: Rig) -> None:
    """First the caller is told what goes down, then it does."""
    rig.connection.call(Call.DOWN)
    assert rig.connection.caller.sent == [None]
    assert rig.life.requests == 1


# --- what is followed ---------------------------------------------------------------------------


class Log:
    """A node's log that grows, one line each time that it is read, until it can't be read."""

    def __init__(self, *lines: str, present: int) -> None:
        self._lines = lines
        self._present = present
        self.asked: list[int] = []

    def __call__(self, _node: str, lines: int = 50) -> str:
        """See `Backend.logs`."""
        self.asked.append(lines)
        if self._present > len(self._lines):
            raise FaultError("the end of the test")
        self._present += 1
        return "\n".join(self._lines[: self._present - 1][-lines:])


def test_followed_logs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last lines come at once, then new ones; without any, only now and then an empty part."""
    monkeypatch.setattr(log_following, "_LOOK", 0)
    log = Log("one", "two", "three", "three", present=2)
    monkeypatch.setattr(rig.backend, "logs", log)
    with pytest.raises(FaultError, match="the end of the test"):
        rig.connection.call(Call.LOGS, node="redis-a", lines=1, follow=True)
    assert rig.connection.caller.sent == ["two", "three", "three"]
    assert set(log.asked) == {1000}


def test_followed_logs_of_a_silent_node(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without news something is sent all the same, so that the end of a caller is noticed."""
    monkeypatch.setattr(log_following, "_LOOK", 0)
    monkeypatch.setattr(rig.connection.caller, "send", Leaving(rig.connection.caller, after=3))
    monkeypatch.setattr(log_following, "_HEARTBEAT", -1)
    with pytest.raises(CachesimError) as caught:
        rig.connection.call(Call.LOGS, node="redis-a", lines=7, follow=True)
    assert isinstance(caught.value.__cause__, Hangup)
    assert rig.connection.caller.sent == ["the last 1000 lines of redis-a", "", ""]


class Leaving:
    """Takes some answers, then leaves."""

    def __init__(self, caller: FakeCaller, after: int) -> None:
        self._caller = caller
        self._after = after

    def __call__(self, value: object) -> None:
        """See `Caller.send`."""
        if len(self._caller.sent) == self._after:
            raise Hangup
        self._caller.sent.append(value)


def test_followed_events(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events come as they happen, each once; without any, now and then an empty list."""
    monkeypatch.setattr(rig.connection.caller, "send", Leaving(rig.connection.caller, after=4))
    monkeypatch.setattr(service, "_HEARTBEAT", 0.2)
    rig.faults.kill("redis-a", "redis-b").heal()
    with ThreadPoolExecutor() as pool:
        follow = pool.submit(rig.connection.call, Call.FOLLOW_EVENTS, after=1)
        until(lambda: rig.connection.caller.sent)
        rig.connect().call(Call.APPLY, faults=[kill("redis-c")])
        assert isinstance(error := follow.exception(10), CachesimError)
        assert isinstance(error.__cause__, Hangup)
    first, *more = cast("list[list[Any]]", rig.connection.caller.sent)
    assert [(it["number"], it["kind"]) for it in first] == [(2, "heal")]
    assert [it["number"] for part in more for it in part] == [3]
    assert [] in more


def test_followed_events_at_one_moment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that happens while others are being sent comes once."""
    monkeypatch.setattr(rig.connection.caller, "send", Leaving(rig.connection.caller, after=2))
    following = rig.events.next

    def next_and_one_more(mark: int, timeout: float) -> list[Event]:
        rig.events.record("fault", "t", "")
        events = following(mark, timeout)
        rig.events.record("heal", "t", "")
        return events

    monkeypatch.setattr(rig.events, "next", next_and_one_more)
    with pytest.raises(CachesimError):
        rig.connection.call(Call.FOLLOW_EVENTS)
    parts = cast("list[list[Any]]", rig.connection.caller.sent)
    assert [it["number"] for part in parts for it in part] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([], [], []),
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c", "d"], ["c", "d"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b"], ["c", "d"], ["c", "d"]),
    ],
)
def test_added(before: list[str], now: list[str], expected: list[str]) -> None:
    """New lines are those after what was there, also if the oldest ones are gone."""
    assert log_following.added(before, now) == expected


# --- events -------------------------------------------------------------------------------------


def test_events(rig: Rig) -> None:
    """Events are numbered from 1, and can be read again from any number."""
    for fault in (kill("redis-a"), kill("redis-b"), kill("redis-c")):
        apply(rig, fault)
    events = rig.connection.call(Call.EVENTS)
    assert [(it["number"], it["source"]) for it in events] == [
        (1, "redis-a"),
        (2, "redis-b"),
        (3, "redis-c"),
    ]
    assert rig.connection.call(Call.EVENTS, after=1) == events[1:]
    assert rig.connection.call(Call.EVENTS, after=2, wait=60) == events[2:]
    assert rig.connection.call(Call.EVENTS, after=3) == []
    assert rig.connection.call(Call.EVENTS, after=3, wait=0.01) == []
