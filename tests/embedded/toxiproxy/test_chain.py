"""The toxic chain, in virtual time: several toxics, their order, changes and memory."""

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesim.embedded.toxiproxy.chain import Chain
from cachesim.embedded.toxiproxy.stages import Ending, Noop
from cachesim.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from tests.embedded.toxiproxy.chains import FOR_EVER, Rig, applied, near

# --- without a toxic, and with one that does nothing ------------------------------------------


@pytest.mark.parametrize("toxics", [(), (Noop(),), (Latency(0),), (SlowClose(50),)], ids=repr)
def test_nothing_happens(toxics: Sequence[Toxic]) -> None:
    """Data comes out at once, unchanged and in order."""
    rig = Rig(*toxics)
    rig.feed(b"a", b"b")
    rig.until(1).feed(b"c")
    assert rig.out == [(0, b"a"), (0, b"b"), (1, b"c")]
    assert rig.chain.ending is None
    assert rig.chain.deadline == math.inf


def test_end_without_toxics() -> None:
    """The source's end comes out after its data, and nothing comes after it."""
    rig = Rig()
    rig.feed(b"a")
    rig.end()
    rig.feed(b"b")
    assert rig.data == b"a"
    assert rig.chain.ending is Ending.EOF


# --- several toxics, and toxicity -------------------------------------------------------------


def test_late_timers_do_not_add_up() -> None:
    """Data that is polled late at one stage is not late at the next."""
    rig = Rig(Latency(100), Latency(100))
    rig.feed(b"a")
    assert rig.chain.poll(0.19) == []
    assert rig.chain.deadline == pytest.approx(0.2)
    assert rig.chain.poll(0.2001) == [b"a"]


def test_toxic_is_added_to_a_stalled_stream() -> None:
    """An added toxic lets nothing through that is held before it."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a")
    rig.add(Latency(100))
    rig.until(5)
    assert rig.out == []
    rig.change(0, Latency(0))
    assert rig.until(6).times == near(5.1)


def test_order() -> None:
    """Data, and the endings that toxics make, pass the toxics in the order they were added."""
    rig = Rig(LimitData(3), Latency(100))
    rig.feed(b"abcde", b"f")
    rig.until(1)
    assert rig.data == b"abc"
    assert rig.times == near(0.1)
    assert rig.ended_at == pytest.approx(0.1)
    assert rig.chain.ending is Ending.CLOSE


def test_middle_is_removed() -> None:
    """What the first toxic holds stays held; what the removed one held goes to the next."""
    rig = Rig(Latency(100), FOR_EVER, Latency(100))
    rig.feed(b"a")
    rig.until(0.2).feed(b"b")
    rig.until(0.25).remove(1)
    rig.until(1)
    assert rig.data == b"ab"
    assert rig.times == near(0.35, 0.4)


def test_toxicity() -> None:
    """A toxic works on its share of connections, and always on the same ones."""

    def works(seed: int) -> bool:
        rig = Rig(applied(Latency(100), toxicity=0.3), seed=seed)
        rig.feed(b"a")
        rig.until(1).feed(b"b")
        rig.until(2)
        assert rig.times in ([0, 1], near(0.1, 1.1))
        return rig.times != [0, 1]

    assert 240 < sum(map(works, range(1000))) < 360


def test_toxicity_zero() -> None:
    """A toxic of toxicity 0 works on no connection, whatever is drawn."""

    class Lowest(Random):
        def random(self) -> float:
            return 0.0

    chain = Chain(Lowest())
    chain.set(0, [applied(FOR_EVER, toxicity=0)])
    chain.feed(0, b"a")
    assert chain.poll(0) == [b"a"]


def test_toxicity_is_changed() -> None:
    """A toxic that begins to work holds new data; one that ceases to passes on what it held."""
    rig = Rig(applied(FOR_EVER, toxicity=0))
    rig.feed(b"a")
    rig.change(0, toxicity=1.0)
    rig.feed(b"b")
    rig.until(5)
    assert rig.data == b"a"
    rig.change(0, toxicity=0.0)
    assert rig.out == [(0, b"a"), (5, b"b")]


def test_raised_toxicity_only_adds() -> None:
    """With a raised toxicity it still works on the same connections: each draws once."""
    for seed in range(50):
        rig = Rig(applied(Latency(100), toxicity=0.3), seed=seed)
        rig.feed(b"a")
        rig.until(1).change(0, toxicity=0.6)
        rig.feed(b"b")
        rig.until(2)
        was_hit, is_hit = rig.times[0] > 0, rig.times[1] > 1
        assert is_hit or not was_hit


@pytest.mark.parametrize(
    ("toxic", "toxicity", "stalls"),
    [
        (FOR_EVER, 1.0, True),
        (Bandwidth(0), 1.0, True),
        (FOR_EVER, 0.5, False),
        (Latency(24 * 3600 * 1000), 1.0, True),
        (Latency(24 * 3600 * 1000 - 1), 1.0, False),
        (Latency(60_000), 1.0, False),
        (Latency(10**9, 10**9), 1.0, False),
        (Bandwidth(1), 1.0, False),
        (Timeout(0), 1.0, False),
    ],
    ids=repr,
)
def test_stalls(toxic: Toxic, toxicity: float, stalls: bool) -> None:
    """A toxic stalls if it holds all data of all connections, and loses none."""
    assert applied(toxic, toxicity).stalls is stalls


# --- memory, and everything at once -----------------------------------------------------------


def test_idle() -> None:
    """A chain is idle without toxics, data and an ending."""
    chain = Chain(Random(0))
    assert chain.is_idle
    chain.set(0, [applied(Latency(0))])
    assert not chain.is_idle
    chain.set(0, [])
    assert chain.is_idle
    chain.feed(0, b"a")
    assert not chain.is_idle
    chain.poll(0)
    assert chain.is_idle
    chain.end(0)
    assert not chain.is_idle


def test_held() -> None:
    """`held` counts the bytes, and what each piece takes beside them."""
    rig = Rig(FOR_EVER)
    rig.feed(b"x" * 1000)
    assert rig.chain.held >= 1000
    rig.feed(*[b"y"] * 1000)
    assert rig.chain.held > 100_000
    rig.remove(0)
    assert rig.chain.held == 0
    assert rig.chain.is_idle


@pytest.mark.parametrize("toxic", [Timeout(0), LimitData(0), ResetPeer(10**9)], ids=repr)
def test_what_is_dropped_is_not_held(toxic: Toxic) -> None:
    """Toxics that drop data hold none of it."""
    rig = Rig(toxic)
    for _ in range(1000):
        rig.feed(b"x" * 1000)
    assert rig.chain.held < 1000


harmless = st.one_of(
    st.builds(Latency, st.integers(0, 50), st.integers(0, 20)),
    st.builds(Bandwidth, st.integers(0, 20)),
    st.builds(SlowClose, st.integers(0, 100)),
    st.integers(1, 20).flatmap(
        lambda n: st.builds(Slicer, st.just(n), st.integers(0, n - 1), st.integers(0, 1000))
    ),
    st.just(Noop()),
)
steps = st.one_of(
    st.tuples(st.just("feed"), st.binary(min_size=1, max_size=300)),
    st.tuples(st.just("wait"), st.floats(0, 0.2)),
    st.tuples(st.just("add"), harmless, st.sampled_from([0.0, 0.5, 1.0])),
    st.tuples(st.just("change"), st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0])),
    st.tuples(st.just("remove"), st.integers(0, 9)),
)


@given(st.lists(steps, max_size=30), st.integers(0, 9))
def test_nothing_is_lost(history: list[tuple[object, ...]], seed: int) -> None:
    """With any delays added and removed, all data comes out in order, then the end."""
    rig = Rig(seed=seed)
    sent = b""
    for step in history:
        match step:
            case ("feed", bytes(data)):
                rig.feed(data)
                sent += data
            case ("wait", float(seconds)):
                rig.until(rig.now + seconds)
            case ("add", Toxic() as toxic, float(toxicity)):
                rig.add(applied(toxic, toxicity))
            case ("change", int(index), float(toxicity)) if rig.toxics:
                rig.change(index % len(rig.toxics), toxicity=toxicity)
            case ("remove", int(index)) if rig.toxics:
                rig.remove(index % len(rig.toxics))
        assert sent.startswith(rig.data)
        assert rig.chain.deadline > rig.now or rig.chain.held
    rig.end()
    rig.set()
    assert rig.data == sent
    assert rig.chain.ending is Ending.EOF
    assert rig.chain.held == 0
