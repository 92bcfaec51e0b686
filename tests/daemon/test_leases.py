"""The lease: who may do what meanwhile, and what comes after it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.errors import CachesimError, FaultError, Leased, NotReady, SettingsError
from cachesim.runs.calls import VERBS, Call
from cachesim.topology import NodeState
from tests.contract.helpers import until
from tests.faults.rig import InProcess, Rig

KILL = {"fault": "kill", "nodes": ["redis-b"]}
ARGUMENTS: dict[Call, dict[str, Any]] = {
    Call.APPLY: {"faults": [KILL]},
    Call.HEAL: {},
    Call.RESUME: {"node": "redis-a"},
    Call.RESTART: {"node": "redis-a"},
    Call.REPLACE: {"node": "redis-b", "new_address": False, "hangs": False},
    Call.ROLL: {"new_addresses": False, "hangs": False},
    Call.SCALE: {"memcached": 4},
    Call.RESET: {},
    Call.FAILOVER: {},
    Call.SET_TIMING: {"timing": Timing((1, 1), (1, 1), (1, 1), 15, 60).as_dict()},
    Call.SUSPEND: {},
    Call.OFFER: {},
    Call.DETACH: {},
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


@pytest.fixture
def other(rig: Rig) -> InProcess:
    """Another client."""
    return rig.connect("another", 8)


def lease(connection: InProcess, **settings: object) -> None:
    """Take the lease."""
    connection.call(Call.LEASE, settings=settings)


def told(rig: Rig) -> list[tuple[str, str]]:
    """The events of the lease."""
    return [(it.kind, it.message) for it in rig.events if it.kind in ("leased", "returned")]


# --- meanwhile ----------------------------------------------------------------------------------


def test_verbs() -> None:
    """The tests below make every call that only the holder may make."""
    assert ARGUMENTS.keys() == VERBS


@pytest.mark.parametrize("call", sorted(VERBS), ids=str)
def test_others_only_look(rig: Rig, other: InProcess, call: Call) -> None:
    """While a client has the lease, another one may not change the topology; then it may."""
    lease(rig.connection)
    timing = rig.control_plane.timing
    mark = rig.events.mark()
    message = r"'t' has been leased by process 7 for \d+ s: wait until that ends, or end it$"
    with pytest.raises(Leased, match=message):
        other.call(call, **ARGUMENTS[call])
    assert rig.did() == []
    assert rig.events.since(mark) == []
    assert rig.control_plane.timing == timing
    assert rig.files.users == []
    rig.connection.call(call, **ARGUMENTS[call])
    rig.connection.call(Call.RETURN)
    other.call(call, **ARGUMENTS[call])


def test_looking(rig: Rig, other: InProcess) -> None:
    """All else is allowed, and tells who has the lease."""
    lease(rig.connection)
    assert other.call(Call.STATUS)["leased_by"] == "process 7"
    for call in (Call.DESCRIBE, Call.EVENTS, Call.FAULTS, Call.LINKS, Call.TIMING, Call.SHARD):
        assert other.call(call) is not None
    assert other.call(Call.LOGS, node="redis-a", lines=1)


def test_all_connections_of_the_holder(rig: Rig) -> None:
    """The holder may use all its connections, and the end of another one changes nothing."""
    lease(rig.connection)
    more = rig.connect()
    more.call(Call.APPLY, faults=[KILL])
    more.hang_up()
    assert rig.answers.describe()
    assert rig.connection.call(Call.STATUS)["leased_by"] == "process 7"
    assert [it.kind for it in rig.faults.active] == ["kill"]


def test_one_holder(rig: Rig, other: InProcess) -> None:
    """A second lease is refused, to others and to the holder itself."""
    lease(rig.connection)
    for connection in (other, rig.connect(), rig.connection):
        with pytest.raises(Leased, match=r"leased by process 7 for \d+ s already: wait until that"):
            lease(connection)
    rig.connection.call(Call.RETURN)
    lease(other)
    assert rig.files.holders == ["process 7", None, "process 8"]


def test_down(rig: Rig, other: InProcess) -> None:
    """Others may not take it down, but by force."""
    lease(rig.connection)
    with pytest.raises(Leased, match=r"end it\. `cachesim down --name t --force` takes the topo"):
        other.call(Call.DOWN)
    assert rig.life.requests == 0
    other.call(Call.DOWN, force=True)
    rig.connection.call(Call.DOWN)
    assert rig.life.requests == 2
    rig.connection.call(Call.RETURN)
    other.call(Call.DOWN)
    assert rig.life.requests == 3


# --- its settings -------------------------------------------------------------------------------


def test_settings(rig: Rig) -> None:
    """The holder chooses how the control plane works; what it leaves open stays."""
    answer = rig.connection.call(Call.LEASE, settings={"speed": 30, "seed": 8, "engine": None})
    assert (answer["settings"]["speed"], answer["seed"]) == (30, 8)
    assert answer["settings"]["node_timeout_seconds"] == 2
    assert rig.connection.call(Call.STATUS)["speed"] == 30
    rig.connection.call(Call.RETURN)
    status = rig.connection.call(Call.STATUS)
    assert (status["speed"], status["seed"]) == (1, 7)


def test_settings_end_with_a_lost_lease(rig: Rig) -> None:
    """They end with the holder, too."""
    lease(rig.connection, speed=30, seed=8)
    rig.connection.call(Call.SET_TIMING, **ARGUMENTS[Call.SET_TIMING])
    rig.connection.hang_up()
    assert rig.control_plane.timing == Timing.of(rig.operations.provision.settings)
    assert (rig.operations.seed, rig.operations.settings.speed) == (7, 1)


@pytest.mark.parametrize(
    ("key", "value"), [("engine", "valkey"), ("memory_scale", 0.5), ("redis_image", "redis:8.0")]
)
def test_settings_of_what_runs(rig: Rig, key: str, value: object) -> None:
    """Settings of running servers can't be changed, and somebody else can have the lease."""
    with pytest.raises(SettingsError, match=rf"{key} = {value!r}: the topology 't' runs with .* L"):
        lease(rig.connection, **{key: value})
    assert rig.connection.call(Call.STATUS)["leased_by"] is None
    lease(rig.connection, engine="redis", backend="auto")


def test_wrong_settings(rig: Rig) -> None:
    """A wrong value is an error, whatever the client has checked."""
    with pytest.raises(CachesimError, match="speed"):
        lease(rig.connection, speed=-1)
    assert rig.connection.call(Call.STATUS)["leased_by"] is None


# --- which can be leased ------------------------------------------------------------------------


def test_faults(rig: Rig) -> None:
    """A topology with faults is not leased, as the holder could not heal them."""
    fault = rig.faults.kill("redis-b")
    with pytest.raises(FaultError, match=r"'t' has faults \(kill on redis-b\): .*heal --name t` f"):
        lease(rig.connection)
    fault.heal()
    lease(rig.connection)


def test_verb_under_way(rig: Rig, other: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease waits for the verbs that others have begun, and refuses new ones meanwhile."""
    began, go_on, apply = threading.Event(), threading.Event(), rig.operations.faults.apply

    def slow(*arguments: Any, **more: Any) -> Any:
        began.set()
        assert go_on.wait(10)
        return apply(*arguments, **more)

    def is_refused() -> bool:
        try:
            other.call(Call.HEAL)
        except Leased:
            return True
        return False

    monkeypatch.setattr(rig.operations.faults, "apply", slow)
    with ThreadPoolExecutor() as threads:
        verb = threads.submit(rig.connect("another", 8).call, Call.APPLY, faults=[KILL])
        assert began.wait(10)
        leased = threads.submit(lease, rig.connection)
        until(is_refused)
        go_on.set()
        verb.result()
        with pytest.raises(FaultError, match=r"'t' has faults \(kill on redis-b\)"):
            leased.result()
    other.call(Call.HEAL)


def test_failover_under_way(rig: Rig) -> None:
    """Nor is one in the middle of a failover."""
    rig.play.fail_over()
    with pytest.raises(FaultError, match=r"'t' is replacing: wait until .* says available, or"):
        lease(rig.connection)
    rig.play.until_state(State.AVAILABLE)
    lease(rig.connection)


def test_suspended_by_another(rig: Rig, other: InProcess) -> None:
    """Nor is one whose control plane another client has suspended: nothing would fail over."""
    other.call(Call.SUSPEND)
    with pytest.raises(FaultError, match=r"process 8 has suspended the control plane of .* 't'"):
        lease(rig.connection)
    assert rig.connection.call(Call.STATUS)["leased_by"] is None
    other.hang_up()
    rig.connect().call(Call.SUSPEND)  # its own is no obstacle
    lease(rig.connection)


def test_caller_that_has_left(rig: Rig) -> None:
    """A client that has gone while it waited for the lease has none, and the data stays."""
    rig.connection.caller.has_hung_up = True
    with pytest.raises(CachesimError):
        lease(rig.connection)
    rig.connection.hang_up()
    assert told(rig) == []
    assert rig.did() == []
    assert rig.connect("another").call(Call.STATUS)["leased_by"] is None


# --- its end ------------------------------------------------------------------------------------


def test_returned(rig: Rig) -> None:
    """A topology that is returned is healed, and keeps its data and its primary."""
    lease(rig.connection)
    rig.faults.latency("client-to-redis-a", 5)
    rig.faults.az_power("c")
    rig.did()
    rig.connection.call(Call.RETURN)
    assert rig.is_whole()
    assert rig.faults.active == []
    assert not [call for call in rig.did() if call[0] == "flush"]
    assert rig.control_plane.shard().primary == "redis-b"  # as the cluster says
    assert told(rig) == [("leased", "by process 7"), ("returned", "by its holder")]
    assert rig.files.holders == ["process 7", None]
    rig.connection.hang_up()
    rig.connection.call(Call.RETURN)
    assert len(told(rig)) == 2


def test_lost(rig: Rig) -> None:
    """A topology whose holder has gone is as new."""
    lease(rig.connection)
    rig.faults.latency("client-to-redis-a", 5)
    rig.faults.pause("redis-c")
    rig.play.fail_over()
    rig.did()
    rig.connection.hang_up()
    assert rig.is_whole()
    assert ("flush", "redis-a") in rig.did()
    assert rig.control_plane.shard().primary == "redis-a"
    assert rig.control_plane.shard().failovers == 0
    assert told(rig) == [("leased", "by process 7"), ("returned", "as its holder has ended")]
    assert rig.files.holders == ["process 7", None]


def test_lost_to_the_end(rig: Rig) -> None:
    """While all is taken down, nothing is restored."""
    lease(rig.connection)
    rig.faults.pause("redis-c")
    rig.did()
    rig.life.requested = True
    rig.connection.hang_up()
    assert rig.did() == []


def test_returned_twice_at_once(rig: Rig) -> None:
    """A client that goes while it returns the topology has returned it."""
    lease(rig.connection)
    converge = rig.cluster.find_primary

    def find_primary() -> str:
        rig.connection.hang_up()
        return converge()

    rig.cluster.find_primary = find_primary  # type: ignore[method-assign]
    rig.connection.call(Call.RETURN)
    assert told(rig)[1:] == [("returned", "by its holder")]
    assert not [call for call in rig.did() if call[0] == "flush"]


def test_others_during_its_end(rig: Rig, other: InProcess) -> None:
    """While the topology is restored nobody else has it, but anybody may take it down."""
    lease(rig.connection)
    found = rig.cluster.find_primary

    def find_primary() -> str:
        with pytest.raises(Leased):
            other.call(Call.APPLY, faults=[KILL])
        with pytest.raises(Leased):
            lease(other)
        other.call(Call.DOWN)
        return found()

    rig.cluster.find_primary = find_primary  # type: ignore[method-assign]
    rig.connection.call(Call.RETURN)
    lease(other)


@pytest.mark.parametrize("how", ["returned", "lost"])
def test_end_that_fails(rig: Rig, other: InProcess, how: str) -> None:
    """If the topology can't be restored, the lease has ended all the same; events tell why."""
    lease(rig.connection)
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 3
    if how == "returned":
        with pytest.raises(NotReady, match="no answer"):
            rig.connection.call(Call.RETURN)
        told_so = "by its holder, but not restored: no answer. `cachesim reset` may help"
    else:
        with pytest.raises(FaultError, match="the reset failed"):
            rig.connection.hang_up()
        told_so = "as its holder has ended, but not restored: the reset failed: no answer"
    assert told(rig)[1][1].startswith(told_so)
    assert other.call(Call.STATUS)["leased_by"] is None
    assert rig.files.holders[-1] is None
    other.call(Call.RESET)
    assert set(rig.backend.states.values()) == {NodeState.RUNNING}


# --- suspensions --------------------------------------------------------------------------------


def test_suspensions(rig: Rig, other: InProcess) -> None:
    """The control plane rests while a connection suspends it, and all else goes on."""
    rig.connection.call(Call.SUSPEND)
    rig.connection.call(Call.SUSPEND)
    other.call(Call.SUSPEND)
    rig.play.down("redis-a")
    rig.play.run(60)
    assert other.call(Call.STATUS)["control_plane"] == "available"
    rig.connection.hang_up()
    rig.play.run(60)
    assert rig.control_plane.shard().state is State.AVAILABLE
    other.hang_up()
    rig.play.until_failover()


def test_suspension_of_a_lost_lease(rig: Rig) -> None:
    """A suspension ends with its connection, even if the lease can't be ended in order."""
    lease(rig.connection)
    rig.connection.call(Call.SUSPEND)
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 3
    with pytest.raises(FaultError):
        rig.connection.hang_up()
    rig.play.fail_over()
