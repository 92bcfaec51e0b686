"""Faults that grow, and faults that come and go."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest

from cachesim.clock import Deadline
from cachesim.errors import CachesimError, FaultError, InvalidFault
from cachesim.faults import injector
from cachesim.faults.appliers import APPLY, Controls
from cachesim.faults.catalogue import Bandwidth, Blackhole, Kill, Latency, Loss, MemoryFill, Pause
from cachesim.faults.courses import LEVELS, Course
from cachesim.runs.calls import Call
from cachesim.topology import NodeState
from cachesim.toxiproxy.toxics import Stream
from tests.faults.rig import Rig

LINK = "client-to-redis-a"
SLOW = Latency((LINK,), 100)
CUT = Blackhole((LINK,))


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology without a fault."""
    rig = Rig()
    yield rig
    rig.faults.heal_all()
    rig.links.close()


# --- what is applied when -------------------------------------------------------------------


def test_stays() -> None:
    """Without a course a fault is there at once, and stays."""
    assert list(Course().stages(SLOW)) == [(0, SLOW)]


def test_grows() -> None:
    """It grows evenly from nothing, then stays."""
    begin, *others = Course(over=10).stages(SLOW)
    assert begin == (0, None)
    assert others == [(n / 2, Latency((LINK,), 5 * n)) for n in range(1, LEVELS + 1)]


def test_flaps() -> None:
    """It comes first, goes, and so on without an end."""
    stages = list(islice(Course(flap=(2, 3)).stages(CUT), 5))
    assert stages == [(0, CUT), (2, None), (5, CUT), (7, None), (10, CUT)]


def test_grows_and_flaps() -> None:
    """It comes back as strong as it would be by then."""
    stages = list(islice(Course(over=20, flap=(1, 9)).stages(SLOW), 8))
    assert stages == [
        (0, None),
        (10, Latency((LINK,), 50)),
        (11, None),
        (20, SLOW),
        (21, None),
        (30, SLOW),
        (31, None),
        (40, SLOW),
    ]


@pytest.mark.parametrize(
    ("fault", "half"),
    [
        (SLOW, Latency((LINK,), 50)),
        (Latency((LINK,), 0, 20), Latency((LINK,), 0, 20)),
        (Loss((LINK,), 0.1), Loss((LINK,), 0.05)),
        (Loss((LINK,), 0.001), None),  # less than has an effect
        (MemoryFill(("redis-a",), 1.0), MemoryFill(("redis-a",), 0.5)),
        (CUT, CUT),
    ],
)
def test_half(fault: Any, half: Any) -> None:
    """A fault at half its strength, and at none."""
    assert fault.grown(0.5) == half
    assert fault.grown(0.0) is None
    assert fault.grown(1.0) == fault


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"over": 0}, "over must be seconds above 0, got 0"),
        ({"over": True}, "over must be seconds above 0, got True"),
        ({"over": "5"}, "over must be seconds above 0, got '5'"),
        ({"flap": (1,)}, "flap must be two times in seconds above 0"),
        ({"flap": (1, 0)}, "flap must be two times in seconds above 0"),
        ({"flap": 5}, "flap must be two times in seconds above 0"),
        ({"flap": "12"}, "flap must be two times in seconds above 0"),
        ({"flap": (1, float("nan"))}, "flap must be two times in seconds above 0"),
    ],
)
def test_mistakes(rig: Rig, given: dict[str, Any], message: str) -> None:
    """A mistake is an error, and nothing is applied."""
    with pytest.raises(InvalidFault, match=message):
        rig.faults.apply(SLOW, **given)
    assert rig.is_whole()


@pytest.mark.parametrize("fault", [CUT, Kill(("redis-a",)), Bandwidth((LINK,), 64)])
def test_what_can_not_grow(rig: Rig, fault: Any) -> None:
    """A fault without a strength can't grow."""
    with pytest.raises(InvalidFault, match=f"{fault.name} can't grow"):
        rig.faults.apply(fault, over=5)
    assert rig.is_whole()


# --- on a topology ---------------------------------------------------------------------------


def until(holds: Any) -> None:
    """Wait until something holds."""
    deadline, pause = Deadline(10), threading.Event()
    while not holds():
        assert not deadline.expired
        pause.wait(0.002)


def test_a_fault_that_grows(rig: Rig) -> None:
    """One fault gets stronger and stronger, and is one in the log and in the list."""
    fault = rig.faults.apply(SLOW, over=0.2)
    until(lambda: rig.attributes(LINK) == [{"latency": 100, "jitter": 0}])
    seen = [call for call in rig.calls if call[0] in ("add", "set")]
    assert len(seen) == LEVELS
    assert rig.faults.active == [fault]
    fault.heal()
    assert rig.is_whole()
    assert [kind for kind, *_ in rig.told()] == ["fault", "heal"]


def test_a_fault_that_flaps(rig: Rig) -> None:
    """A node is killed and started in turn, until the fault is healed."""
    fault = rig.faults.apply(Kill(("redis-a",)), flap=(0.02, 0.02))
    for _ in range(3):
        until(lambda: rig.backend.states["redis-a"] is NodeState.STOPPED)
        until(lambda: rig.backend.states["redis-a"] is NodeState.RUNNING)
    fault.heal()
    assert rig.is_whole()
    until(lambda: not any("cachesim-fault" in it.name for it in threading.enumerate()))
    assert rig.is_whole()


def test_a_fault_that_is_away(rig: Rig) -> None:
    """It is active all the same: it is listed, nobody gets a lease, and it can be healed."""
    fault = rig.faults.apply(Kill(("redis-a",)), flap=(0.02, 60))
    until(lambda: rig.backend.states["redis-a"] is NodeState.STOPPED)
    until(lambda: rig.backend.states["redis-a"] is NodeState.RUNNING)
    assert rig.faults.active == [fault]
    with pytest.raises(CachesimError, match="has faults"):
        rig.connection.call(Call.LEASE, settings={})
    assert [it["id"] for it in rig.connection.call(Call.HEAL, fault=fault.id)] == [fault.id]
    assert rig.faults.active == []


def test_healed_with_all(rig: Rig) -> None:
    """Faults that change end with all others."""
    rig.faults.apply([CUT, SLOW], flap=(0.01, 0.01))
    rig.faults.heal_all()
    until(lambda: not any("cachesim-fault" in it.name for it in threading.enumerate()))
    assert rig.is_whole()
    assert rig.faults.active == []


def test_closed(rig: Rig) -> None:
    """Servers are as before, and nothing comes back: neither what flaps nor a late fault."""
    rig.faults.apply(Pause(("memcached-a",)), flap=(0.01, 0.01))
    rig.faults.memory_fill("redis-b")
    with ThreadPoolExecutor() as pool:
        rig.injector.close()
        late = pool.submit(rig.faults.kill, "redis-c")
        with pytest.raises(TimeoutError):
            late.result(0.1)
        assert rig.is_whole()
        rig.injector._ending.close()
        late.result(10)
    assert not rig.is_whole()


def test_removed_meanwhile(rig: Rig) -> None:
    """A fault goes on with those of its links and nodes that are left, if any are."""
    gone = rig.links["client-to-memcached-c"]
    rig.faults.apply(Blackhole((LINK, gone.name)), flap=(0.01, 0.01))
    rig.faults.apply(Latency((gone.name,), 5), flap=(0.01, 0.01))
    rig.links.remove([gone])
    for _ in range(2):
        until(lambda: rig.toxics().get((LINK, Stream.UPSTREAM)) == ["stall"])
        until(lambda: (LINK, Stream.UPSTREAM) not in rig.toxics())
    assert not rig.events.of("error")


def test_removed_and_added_again_meanwhile(rig: Rig) -> None:
    """A later node of the same name is another one: the fault does not come back on it."""
    node, link = "memcached-c", rig.links["client-to-memcached-c"]
    rig.faults.apply(Blackhole((LINK, link.name)), flap=(0.1, 0.1))
    rig.faults.apply(Kill((node, "redis-a")), flap=(0.1, 0.1))
    rig.nodes.remove(node)
    rig.links.remove([link])
    rig.servers["c"].forget(link.name)
    rig.servers["c"].make({"name": link.name, "listen": "l", "upstream": "u"})
    rig.nodes.add(node)
    rig.links.add([link])
    rig.backend.states[node] = NodeState.RUNNING
    rig.calls.clear()
    for _ in range(2):
        until(lambda: rig.toxics().get((LINK, Stream.UPSTREAM)) == ["stall"])
        until(lambda: rig.backend.states["redis-a"] is NodeState.STOPPED)
        until(lambda: (LINK, Stream.UPSTREAM) not in rig.toxics())
    assert not rig.events.of("error")
    assert not [call for call in rig.calls if {node, link.name} & {*call}]


def test_a_timed_heal_that_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that could not be healed in time is healed when it can be; its error is told once."""
    monkeypatch.setattr(injector, "_HEAL_AGAIN", 0.01)
    release, failures = rig.names.release, [FaultError("not now")] * 3

    def fail(holder: object) -> None:
        if failures:
            raise failures.pop()
        release(holder)

    monkeypatch.setattr(rig.names, "release", fail)
    rig.faults.apply(CUT, heal_after=0.01)
    until(lambda: not rig.faults.active)
    assert rig.is_whole()
    assert [kind for kind, *_ in rig.told()] == ["fault", "error", "heal"]


def test_a_stage_that_fails() -> None:
    """A stage that can't be applied is told, and the next one is tried."""
    tries = 0

    def cut(on: Controls, holder: object, fault: Blackhole) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise FaultError("not now")
        APPLY[Blackhole](on, holder, fault)

    rig = Rig(functions={**APPLY, Blackhole: cut})
    fault = rig.faults.apply(CUT, flap=(0.01, 0.01))
    until(lambda: tries >= 4)
    fault.heal()
    assert ("error", LINK, "blackhole not changed: not now") in rig.told()
    assert rig.is_whole()
    rig.links.close()
