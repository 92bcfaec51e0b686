"""What is told of nodes while some are added or removed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from cachesim.daemon.scaling import Scaling
from cachesim.errors import FaultError, NoPower, StartError, ToxiproxyTimeout
from cachesim.events import EventLog
from cachesim.topology import Node, Topology, production
from tests.faults.rig import Rig


def scaling(topology: Topology, *coming: str) -> Scaling:
    """What scales a topology, of whose nodes these are just being added."""
    fields: dict[str, Any] = dict.fromkeys(Scaling.__dataclass_fields__)
    del fields["_lock"]
    fields["provision"] = SimpleNamespace(topology=topology, coming={*coming})
    return Scaling(**fields)


def mocked(topology: Topology) -> dict[str, Any]:
    """Return the fields of what scales a topology, all of them mocks but the log."""
    fields: dict[str, Any] = {name: MagicMock() for name in Scaling.__dataclass_fields__}
    fields["provision"].topology, fields["provision"].coming = topology, set()
    fields["events"], fields["_lock"] = EventLog(), threading.RLock()
    return fields


def test_a_node_that_is_being_added_is_left_out() -> None:
    """Until it is wholly there, there is nothing to tell of it."""
    topology = production()
    before = {node.name for node in topology.nodes}
    topology.scale(topology.scaled(4))
    assert set(scaling(topology, "memcached-a2").each(str)) == before


def test_a_node_that_is_removed_meanwhile_is_left_out() -> None:
    """What is told of it can't be had any more."""
    topology = production()
    topology.scale(topology.scaled(4))

    def state(node: str) -> str:
        if node == "memcached-a2":
            topology.scale(topology.scaled(3))
            raise KeyError(node)
        return node

    it = scaling(topology)
    assert len(it.each(state)) == 6


def test_a_node_that_is_removed_is_not_replaced() -> None:
    """The control plane watches it no more when it leaves the topology."""
    topology, known = production(), []
    topology.scale(topology.scaled(4))
    fields = mocked(topology)
    fields["control_plane"]().remove = lambda node: known.append(topology.node(node).name)
    Scaling(**fields).scale(3)
    assert known == ["memcached-a2"]


def test_a_full_disk_does_not_stop_a_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node is wholly removed, and the event log says what `cachesim env` does not know."""
    rig = Rig()
    with closing(rig.links):
        rig.topology.scale(rig.topology.scaled(4))
        fields = mocked(rig.topology)
        fields["provision"] = rig.operations.provision

        def fail(_variables: object) -> None:
            raise StartError("No space left")

        monkeypatch.setattr(rig.files, "save_env", fail)
        Scaling(**fields).scale(3)
        assert ("remove_node", "memcached-a2") in rig.calls
    (event,) = fields["events"].of("error")
    assert event.message == "`cachesim env` has old addresses: No space left"


def test_a_node_whose_links_can_not_be_used_is_not_added() -> None:
    """A Toxiproxy that fails leaves nothing of the node, which a reset would remove in vain."""
    fields = mocked(production())
    provision = fields["provision"]
    fields["links"].add.side_effect = ToxiproxyTimeout("no answer")
    it = Scaling(**fields)
    with pytest.raises(ToxiproxyTimeout):
        it.scale(4)
    assert (it.count, provision.coming) == (3, set())
    provision.backend.remove_node.assert_called_once()
    fields["nodes"].add.assert_not_called()


def test_the_first_error_is_told() -> None:
    """What can't be removed of a node that could not be added does not hide why."""
    fields = mocked(production())
    backend = fields["provision"].backend
    backend.add_node.side_effect = FaultError("no room")
    backend.remove_node.side_effect = KeyError("memcached-a2")
    it = Scaling(**fields)
    with pytest.raises(FaultError, match="no room"):
        it.scale(4)
    assert it.count == 3


@pytest.mark.parametrize("count", [2, 7, 4.5, 4.0, "4"])
def test_no_such_number(count: Any) -> None:
    """What is no number of nodes that there can be is told with those that can."""
    with pytest.raises(FaultError, match=f"there can be 3 to 6 Memcached nodes, not {count!r}"):
        Scaling(**mocked(production())).scale(count)


def test_a_zone_without_power() -> None:
    """No node is added if one is to be in a zone without power."""
    fields = mocked(production())

    def check(node: Node) -> None:
        if node.zone == "b":
            raise NoPower(f"{node} can't be started")

    fields["nodes"].check_power = check
    with pytest.raises(NoPower, match="memcached-b2"):
        Scaling(**fields).scale(5)
    fields["provision"].backend.add_node.assert_not_called()


def test_a_reset_meanwhile() -> None:
    """A call that waits while the topology is reset adds nothing afterwards."""
    fields = mocked(production())
    it, started = Scaling(**fields), threading.Event()
    events, mark = fields["events"], fields["events"].mark

    def begun() -> int:
        found = mark()
        started.set()
        return int(found)

    events.mark = begun
    with ThreadPoolExecutor(1) as pool:
        with it.suspended():
            waiting = pool.submit(it.scale, 4)
            assert started.wait(10)
            it.scale(3)  # as the reset itself does
            events.record("reset", "t", "healed and flushed")
        with pytest.raises(FaultError, match="reset"):
            waiting.result(10)
    assert it.count == 3


def test_other_errors_are_told() -> None:
    """A node that stays is never left out."""
    topology = production()

    def state(node: str) -> str:
        raise KeyError(node)

    with pytest.raises(KeyError):
        scaling(topology).each(state)
