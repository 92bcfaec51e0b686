"""Lanes: the chains of toxics that faults on a link make, also where others change them by hand."""

from collections.abc import Iterator

import pytest

from cachesim.toxiproxy.toxics import Bandwidth, Timeout, loss
from tests.faults.links_rig import DOWN, SLOW, UP, LinksRig


@pytest.fixture
def rig() -> Iterator[LinksRig]:
    """Links without a fault."""
    rig = LinksRig()
    yield rig
    rig.links.close()


def test_stall_comes_last(rig: LinksRig) -> None:
    """A toxic that is added together with a stall is added before it."""
    rig.frozen.add("redis-a")
    rig.stall("stall")
    rig.slow("slow")
    rig.frozen.clear()
    rig.links.settle()
    downstream = [call for call in rig.did() if call[2] in rig.does()]
    assert downstream.index(("add", rig.link.name, "latency")) < 2
    assert rig.does() == ["latency", "stall"]


def test_stall_goes_first(rig: LinksRig) -> None:
    """A toxic that is released together with a stall is released after it."""
    rig.links.hold_toxic("f", [rig.link], SLOW, [DOWN])
    rig.links.hold_stall("f", {rig.link: [DOWN]})
    rig.did()
    rig.links.release("f")
    assert rig.did() == [
        ("lift", rig.link.name, "stall"),
        ("lift", rig.link.name, "latency"),
    ]


def test_held_back_data_flows_off(rig: LinksRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the stall and the toxics that go after it, data has time to flow off, once."""
    monkeypatch.setattr(
        "cachesim.faults.lanes.time.sleep", lambda _: rig.calls.append(("sleep", "", ""))
    )
    rig.links.hold_toxic("f", [rig.link], SLOW, [DOWN])
    rig.links.hold_toxic("f", [rig.link], Bandwidth(64), [DOWN])
    rig.links.hold_stall("f", {rig.link: [DOWN]})
    rig.did()
    rig.links.release("f")
    stall, sleep, *others = [call[0] for call in rig.did()]
    assert (stall, sleep, sorted(others)) == ("lift", "sleep", ["lift", "remove"])


def test_toxic_on_a_stalled_link(rig: LinksRig) -> None:
    """A toxic for a stalled link comes when the stall has gone."""
    rig.links.hold_stall("stall", {rig.link: [DOWN]})
    rig.did()
    rig.links.hold_toxic("limit", [rig.link], Bandwidth(64), [DOWN])
    assert rig.did() == []
    rig.links.release("stall")
    assert rig.did() == [
        ("lift", rig.link.name, "stall"),
        ("add", rig.link.name, "bandwidth"),
    ]


def test_release_of_a_toxic_on_a_stalled_link(rig: LinksRig) -> None:
    """A toxic of a stalled link goes when the stall has gone, not before."""
    rig.slow("slow")
    rig.links.hold_stall("stall", {rig.link: [DOWN]})
    rig.did()
    rig.links.release("slow")
    assert rig.did() == []
    assert rig.does() == ["latency", "stall"]
    rig.links.release("stall")
    assert rig.did() == [
        ("lift", rig.link.name, "stall"),
        ("lift", rig.link.name, "latency"),
    ]


def test_toxic_that_came_and_went_during_a_stall(rig: LinksRig) -> None:
    """A toxic that was asked for and released during a stall never comes."""
    rig.links.hold_stall("stall", {rig.link: [DOWN]})
    rig.slow("slow")
    rig.links.release("slow")
    rig.did()
    rig.links.release("stall")
    assert rig.did() == [("lift", rig.link.name, "stall")]


def test_lifted_not_removed(rig: LinksRig) -> None:
    """A toxic that can let everything through is set to: its removal could block Toxiproxy."""
    rig.slow("f")
    rig.links.release("f")
    assert {call[0] for call in rig.did()} == {"add", "lift"}


def test_removed_if_it_can_not_be_lifted(rig: LinksRig) -> None:
    """A toxic that always does something is removed."""
    rig.links.hold_toxic("f", [rig.link], Timeout(0), [DOWN])
    rig.links.release("f")
    assert rig.server.names(rig.link.name) == []


def test_chains_do_not_grow(rig: LinksRig) -> None:
    """A fault that comes again uses the toxic that it left behind."""
    for _ in range(5):
        rig.slow("f")
        assert rig.does() == ["latency"]
        rig.links.release("f")
    assert len(rig.server.names(rig.link.name)) == 1


def test_toxicity_is_not_taken_over(rig: LinksRig) -> None:
    """A toxic on a share of the connections is no use for a fault on all of them."""
    rig.links.hold_toxic("some", [rig.link], SLOW, [DOWN], 0.5)
    rig.links.release("some")
    rig.slow("all")
    (toxic,) = rig.links.toxics(rig.link)
    assert toxic["toxicity"] == 1.0


def test_toxics_that_do_something(rig: LinksRig) -> None:
    """Only toxics with an effect are listed, those added by hand too."""
    rig.slow("f")
    rig.links.release("f")
    rig.server.add_toxic(rig.link.name, "mine", Bandwidth(64), UP)
    assert [toxic["name"] for toxic in rig.links.toxics(rig.link)] == ["mine"]


# --- toxics that others changed by hand ---------------------------------------------------------


def test_removed_by_hand(rig: LinksRig) -> None:
    """A toxic that somebody has removed already is released without an error, and comes again."""
    rig.slow("f")
    (name,) = rig.server.names(rig.link.name)
    rig.server.remove_toxic(rig.link.name, name)
    rig.links.release("f")
    rig.slow("f")
    assert rig.does() == ["latency"]


def test_idle_toxic_removed_by_hand(rig: LinksRig) -> None:
    """A toxic that did nothing and was removed by hand is made anew when it is needed."""
    rig.slow("f")
    rig.links.release("f")
    (name,) = rig.server.names(rig.link.name)
    rig.server.remove_toxic(rig.link.name, name)
    rig.slow("f")
    assert rig.does() == ["latency"]


def test_name_taken_by_hand(rig: LinksRig) -> None:
    """A toxic of somebody's that has the name it would get is not taken for it."""
    rig.slow("f")
    (name,) = rig.server.names(rig.link.name)
    other = LinksRig()
    other.server.add_toxic(other.link.name, name, Bandwidth(64), DOWN)
    other.slow("f")
    assert other.does() == ["bandwidth", "latency"]
    other.links.release("f")
    assert other.does() == ["bandwidth"]
    other.links.reset()
    assert other.is_whole()
    other.links.close()


def effective(rig: LinksRig) -> list[dict[str, int]]:
    """The attributes of the toxics of `rig.link` that do something, in the chain's order."""
    toxics = rig.server.proxy(rig.link.name)["toxics"]
    return [it["attributes"] for it in toxics if any(it["attributes"].values())]


def test_loss_stays_behind_latencies(rig: LinksRig) -> None:
    """A loss makes data look older than it is, so it comes after latencies that begin later."""
    lossy = loss(0.1, 20)
    rig.links.hold_toxic("loss", [rig.link], lossy, [DOWN])
    rig.slow("slow")
    assert effective(rig) == [SLOW.attributes, lossy.attributes]
    rig.slow("slow too")
    assert effective(rig) == [SLOW.attributes, SLOW.attributes, lossy.attributes]
    rig.links.release("slow")
    rig.links.release("loss")
    rig.links.hold_toxic("loss", [rig.link], lossy, [DOWN])
    assert effective(rig) == [SLOW.attributes, lossy.attributes]
    rig.links.release("loss")
    rig.links.release("slow too")
    assert effective(rig) == []
    assert len(rig.server.names(rig.link.name)) == 3


def test_loss_comes_back_after_a_stall(rig: LinksRig) -> None:
    """A latency that comes during a stall is before the loss when the stall has gone."""
    lossy = loss(0.1, 20)
    rig.links.hold_toxic("loss", [rig.link], lossy, [DOWN])
    rig.links.hold_stall("stall", {rig.link: [DOWN]})
    rig.slow("slow")
    rig.links.release("stall")
    assert effective(rig) == [SLOW.attributes, lossy.attributes]
