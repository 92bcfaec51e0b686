"""Links: what faults hold of them, and the chains of toxics that come of it."""

from collections.abc import Callable, Iterator

import pytest

from cachesim.errors import FaultError
from cachesim.events import EventLog
from cachesim.links import Links
from cachesim.topology import CLIENT, Link, Topology, production
from cachesim.toxics import BOTH, Latency, Stream
from tests.fakes import Call, FakeToxiproxy, toxiproxies

UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM
STALLED = ["slow_close", "bandwidth"]
"""A stalled stream's chain: no close gets through, and nothing gets as far as that."""
SLOW = Latency(100)


class Rig:
    """The links of the production topology on servers in memory.

    Attributes:
        paused: whether a node is, so that a timeout may end by itself.
    """

    def __init__(self) -> None:
        self.topology: Topology = production()
        self.calls: list[Call] = []
        self.servers = toxiproxies(self.topology, self.calls)
        self.events = EventLog()
        self.paused = False
        self.links = Links(self.topology, self.servers, self.events, lambda: self.paused)
        self.link = self.links["b-to-redis-a"]

    @property
    def server(self) -> FakeToxiproxy:
        """The server of `link`."""
        return self.servers["b"]

    def stall(self, holder: object, *links: Link) -> None:
        """Stall both streams of links, or of `link`."""
        self.links.hold_stall(holder, dict.fromkeys(links or [self.link], BOTH))

    def slow(self, holder: object) -> None:
        """Add a latency to the downstream of `link`."""
        self.links.hold_toxic(holder, [self.link], SLOW, [DOWN])

    def types(self, stream: Stream = DOWN) -> list[str]:
        """The types of the toxics on `link`, in order."""
        return self.server.types(self.link.name, stream)

    def steps(self) -> list[tuple[str, str]]:
        """The toxics added to and removed from `link` since the last call, with the verb."""
        steps = [
            (verb, rest[0].split("_")[0])
            for verb, proxy, *rest in self.calls
            if proxy == self.link.name and verb in ("add", "remove")
        ]
        self.calls.clear()
        return steps

    def between(self, *zones: str) -> list[Link]:
        """The links between two zones."""
        return [link for link in self.topology.links if link.joins(*zones)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Links without a fault."""
    rig = Rig()
    yield rig
    rig.links.close()


def untouched(rig: Rig) -> bool:
    """Whether no proxy has a toxic and all are enabled."""
    proxies = [p for server in rig.servers.values() for p in server.proxies().values()]
    return all(proxy["enabled"] and not proxy["toxics"] for proxy in proxies)


def test_links_by_name(rig: Rig) -> None:
    """The links are a mapping by name, in the topology's order."""
    assert list(rig.links.values()) == list(rig.topology.links)
    assert len(rig.links) == len(rig.topology.links)
    assert rig.links["client-to-memcached-c"].source == CLIENT


def test_unknown_link(rig: Rig) -> None:
    """An unknown name is an error that lists the names there are."""
    with pytest.raises(KeyError, match=r"no link 'x-to-y': there are client-to-redis-a, "):
        rig.links["x-to-y"]


def test_missing_proxy() -> None:
    """Links whose proxies are missing are an error that names them."""
    topology = production()
    servers = toxiproxies(topology, [])
    servers["b"].delete("b-to-redis-a")
    with pytest.raises(FaultError, match="lacks the proxies b-to-redis-a"):
        Links(topology, servers, EventLog(), lambda: False)


def test_toxic(rig: Rig) -> None:
    """A toxic is added as it was asked for, on the server where the link is at home."""
    rig.links.hold_toxic("f", [rig.link], Latency(100, 20), [UP], 0.5)
    (toxic,) = rig.server.proxies()["b-to-redis-a"]["toxics"]
    assert toxic == {
        "name": toxic["name"],
        "type": "latency",
        "stream": UP,
        "toxicity": 0.5,
        "attributes": {"latency": 100, "jitter": 20},
    }


def test_stall(rig: Rig) -> None:
    """A stalled stream lets nothing through, and no close either."""
    rig.stall("f")
    for stream in BOTH:
        assert rig.types(stream) == STALLED
    toxics = {t["type"]: t["attributes"] for t in rig.server.proxies()[rig.link.name]["toxics"]}
    assert toxics["bandwidth"] == {"rate": 0}
    assert toxics["slow_close"]["delay"] >= 24 * 3600 * 1000


def test_stall_of_one_stream(rig: Rig) -> None:
    """A stall of one stream leaves the other alone."""
    rig.links.hold_stall("f", {rig.link: [UP]})
    assert rig.types(UP) == STALLED
    assert rig.types(DOWN) == []


def test_overlapping_stalls(rig: Rig) -> None:
    """Of two overlapping partitions one healed leaves the other as it was."""
    rig.stall("one", *rig.between("a", "b"))
    rig.stall("other", *rig.between("b", "a"), *rig.between("b", "c"))
    rig.links.release("one")
    stalled = {link for link in rig.topology.links if rig.servers[link.home].types(link.name, UP)}
    assert stalled == {*rig.between("a", "b"), *rig.between("b", "c")}
    rig.links.release("other")
    assert untouched(rig)


def test_second_holder_changes_nothing(rig: Rig) -> None:
    """A stall that is there already is not made again."""
    rig.stall("one")
    rig.calls.clear()
    rig.stall("other")
    assert not rig.calls


def test_two_toxics_of_one_type(rig: Rig) -> None:
    """Two faults may add a toxic of the same type to a link; each ends by itself."""
    rig.slow("one")
    rig.links.hold_toxic("other", [rig.link], Latency(300), [DOWN])
    assert rig.types() == ["latency", "latency"]
    rig.links.release("one")
    (toxic,) = rig.server.proxies()[rig.link.name]["toxics"]
    assert toxic["attributes"]["latency"] == 300


def test_release_is_idempotent(rig: Rig) -> None:
    """Releasing again, or what holds nothing, touches nothing."""
    rig.stall("f")
    rig.links.release("f")
    rig.calls.clear()
    rig.links.release("f")
    rig.links.release("nobody")
    assert not rig.calls
    assert untouched(rig)


def test_release_touches_only_what_was_held(rig: Rig) -> None:
    """A release makes no call about links that the holder did not hold."""
    rig.stall("f", rig.links["c-to-redis-a"])
    rig.slow("other")
    rig.calls.clear()
    rig.links.release("f")
    assert {proxy for _, proxy, *_ in rig.calls} == {"c-to-redis-a"}


def test_stall_comes_last_and_goes_first(rig: Rig) -> None:
    """A stall ends its chain, so it is the last toxic to come and the first to go."""
    rig.slow("slow")
    rig.stall("stall")
    assert rig.types() == ["latency", *STALLED]
    rig.calls.clear()
    rig.links.release("stall")
    assert rig.steps() == [
        ("remove", "stall"),
        ("remove", "open"),
        ("remove", "stall"),
        ("remove", "open"),
    ]
    assert rig.types() == ["latency"]


def test_toxic_on_a_stalled_link(rig: Rig) -> None:
    """A toxic for a stalled link comes when the stall has gone."""
    rig.stall("stall")
    rig.calls.clear()
    rig.slow("slow")
    assert not rig.calls
    rig.links.release("stall")
    assert rig.types() == ["latency"]
    steps = rig.steps()
    assert steps[-1] == ("add", "latency")
    assert ("remove", "stall") in steps


def test_release_of_a_toxic_on_a_stalled_link(rig: Rig) -> None:
    """A toxic of a stalled link goes when the stall has gone, not before."""
    rig.slow("slow")
    rig.stall("stall")
    rig.calls.clear()
    rig.links.release("slow")
    assert not rig.calls
    assert rig.types() == ["latency", *STALLED]
    rig.links.release("stall")
    steps = [step for step in rig.steps() if step[1] != "open"]
    assert steps.index(("remove", "stall")) < steps.index(("remove", "latency"))
    assert rig.types() == []


def test_toxic_that_came_and_went_during_a_stall(rig: Rig) -> None:
    """A toxic that was asked for and released during a stall never comes."""
    rig.stall("stall")
    rig.slow("slow")
    rig.links.release("slow")
    rig.calls.clear()
    rig.links.release("stall")
    assert {verb for verb, _ in rig.steps()} == {"remove"}


def test_refused(rig: Rig) -> None:
    """A refused link is disabled, and enabled when it is released."""
    rig.links.hold_refused("f", [rig.link])
    assert not rig.server.is_enabled(rig.link.name)
    rig.links.release("f")
    assert rig.server.is_enabled(rig.link.name)


def test_refused_by_two(rig: Rig) -> None:
    """A link that two refuse is enabled when the second lets go."""
    rig.links.hold_refused("one", [rig.link])
    rig.links.hold_refused("other", [rig.link])
    rig.links.release("one")
    assert not rig.server.is_enabled(rig.link.name)
    rig.links.release("other")
    assert rig.server.is_enabled(rig.link.name)


def test_removed_by_hand(rig: Rig) -> None:
    """A toxic that somebody has removed already is released without an error."""
    rig.slow("f")
    (name,) = rig.server.names(rig.link.name, DOWN)
    rig.server.remove_toxic(rig.link.name, name)
    rig.links.release("f")
    assert untouched(rig)


def test_failing_addition(rig: Rig) -> None:
    """A fault that one of its links does not take is an error, and nothing of it remains."""
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError, match="told to fail"):
        rig.stall("f", *rig.between("a", "b"))
    rig.servers["a"].broken.clear()
    assert untouched(rig)


def test_failing_addition_leaves_other_faults(rig: Rig) -> None:
    """What others hold stays when a fault could not be applied."""
    rig.stall("one")
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError):
        rig.stall("other", *rig.between("a", "b"))
    assert rig.types() == STALLED


def test_after_a_failing_addition(rig: Rig) -> None:
    """What failed once is not tried again by what comes later."""
    rig.server.broken[rig.link.name] = 400
    with pytest.raises(FaultError):
        rig.slow("f")
    rig.server.broken.clear()
    rig.calls.clear()
    rig.links.settle()
    assert not rig.calls


def test_failing_release_may_be_repeated(rig: Rig) -> None:
    """A release that failed is an error, and is made up for later."""
    rig.slow("f")
    rig.server.broken[rig.link.name] = 500
    with pytest.raises(FaultError):
        rig.links.release("f")
    rig.server.broken.clear()
    rig.links.settle()
    assert untouched(rig)


def test_postponed(rig: Rig) -> None:
    """A toxic that a paused receiver keeps off is postponed, told of, and settled later."""
    rig.paused = True
    rig.server.stuck.add(rig.link.name)
    rig.slow("f")
    assert rig.types() == []
    assert [(e.kind, e.source) for e in rig.events] == [("postponed", "b-to-redis-a")]
    rig.paused = False
    rig.server.stuck.clear()
    rig.links.settle()
    assert rig.types() == ["latency"]


def test_postponed_removal(rig: Rig) -> None:
    """A removal that a paused receiver keeps off is settled later."""
    rig.slow("f")
    rig.paused = True
    rig.server.stuck.add(rig.link.name)
    rig.links.release("f")
    assert rig.types() == ["latency"]
    rig.server.stuck.clear()
    rig.links.settle()
    assert rig.types() == []


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_postponed_and_done_by_the_server(rig: Rig, verb: str) -> None:
    """What the server did after its call had timed out is not done twice."""
    if verb == "remove":
        rig.slow("f")
    rig.paused = True
    rig.server.late.add(rig.link.name)
    act: Callable[[object], None] = rig.slow if verb == "add" else rig.links.release
    act("f")
    rig.server.late.clear()
    rig.links.settle()
    assert rig.types() == (["latency"] if verb == "add" else [])


def test_settle_without_a_need(rig: Rig) -> None:
    """Settling what is settled makes no call."""
    rig.slow("f")
    rig.calls.clear()
    rig.links.settle()
    assert not rig.calls


def test_timeout_without_a_paused_node(rig: Rig) -> None:
    """A proxy that is stuck for no receiver's sake is made anew, with what is wanted of it."""
    rig.slow("stays")
    before = rig.server.spec(rig.link.name)
    rig.server.stuck.add(rig.link.name)
    rig.calls.clear()
    rig.stall("f")
    assert [call for call in rig.calls if call[0] in ("delete", "populate")] == [
        ("delete", "b-to-redis-a"),
        ("populate", "b-to-redis-a"),
    ]
    assert rig.server.spec(rig.link.name) == before
    assert rig.types(DOWN) == ["latency", *STALLED]
    assert rig.types(UP) == STALLED
    assert [(e.kind, e.source) for e in rig.events] == [("rebuilt", "b-to-redis-a")]


def test_rebuilt_while_refused(rig: Rig) -> None:
    """A refused proxy that is made anew is refused from the start."""
    rig.links.hold_refused("refused", [rig.link])
    rig.server.stuck.add(rig.link.name)
    rig.calls.clear()
    rig.slow("f")
    assert ("populate", "b-to-redis-a") in rig.calls
    assert not rig.server.is_enabled(rig.link.name)
    rig.links.release("refused")
    assert rig.server.is_enabled(rig.link.name)


def test_released_after_a_rebuild(rig: Rig) -> None:
    """What a proxy was made anew with is taken away like anything else."""
    rig.server.stuck.add(rig.link.name)
    rig.stall("f")
    rig.links.release("f")
    assert untouched(rig)


def test_reset(rig: Rig) -> None:
    """A reset releases everything, whoever holds it."""
    rig.stall("one", *rig.between("a", "b"))
    rig.slow("two")
    rig.links.hold_refused("three", rig.between(CLIENT, "c"))
    rig.links.reset()
    assert untouched(rig)
    rig.calls.clear()
    for holder in ("one", "two", "three"):
        rig.links.release(holder)
    assert not rig.calls


def test_reset_takes_away_what_was_done_by_hand(rig: Rig) -> None:
    """A reset goes to every server, for what others have done there."""
    for server in rig.servers.values():
        proxy = next(iter(server.proxies()))
        server.add_toxic(proxy, "mine", SLOW, UP)
        server.set_enabled(proxy, False)
    rig.links.reset()
    assert untouched(rig)


def test_reset_goes_stall_first(rig: Rig) -> None:
    """A reset takes stalls away before the server's own reset, which would lose their data."""
    rig.slow("slow")
    rig.stall("stall")
    rig.calls.clear()
    rig.links.reset()
    verbs = [verb for verb, proxy, *_ in rig.calls if proxy in (rig.link.name, rig.server.url)]
    assert verbs.index("reset") == len(verbs) - 1 > 0
    downstream = [name for _, _, *name in rig.calls if "downstream" in "".join(name)]
    assert "stall" in downstream[0][0]


def test_reset_that_times_out(rig: Rig) -> None:
    """The proxies of a server whose reset does not come to an end are made anew."""
    rig.slow("f")
    rig.servers["b"].hangs = True
    rig.links.reset()
    rebuilt = {event.source for event in rig.events.of("rebuilt")}
    assert rebuilt == {link.name for link in rig.topology.links if link.home == "b"}
    assert untouched(rig)


def test_reset_that_fails(rig: Rig) -> None:
    """A proxy that can't be reset is an error."""
    rig.slow("f")
    rig.server.broken[rig.link.name] = 500
    with pytest.raises(FaultError):
        rig.links.reset()


def test_server_of_a_link(rig: Rig) -> None:
    """A link is carried by its source's zone, a client's link by its target's."""
    assert rig.links.server(rig.links["b-to-redis-a"]) is rig.servers["b"]
    assert rig.links.server(rig.links["client-to-redis-a"]) is rig.servers["a"]
