"""The toxic chain, in virtual time."""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesim.embedded.toxiproxy.chain import AppliedToxic, Chain, Ending, Noop
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

FOR_EVER = Latency(10**9)


class Rig:
    """A chain, and what came out of it and when.

    Attributes:
        now: seconds, moved by `until`.
        out: what came out, with its time.
    """

    def __init__(self, *toxics: Toxic | AppliedToxic, seed: int = 0) -> None:
        self.now = 0.0
        self.out: list[tuple[float, bytes]] = []
        self.ended_at = math.inf
        self.chain = Chain(Random(seed))
        self.toxics: list[AppliedToxic] = []
        self.add(*toxics)

    def add(self, *toxics: Toxic | AppliedToxic) -> None:
        """Add toxics at the end."""
        self.set(*self.toxics, *(t if isinstance(t, AppliedToxic) else applied(t) for t in toxics))

    def set(self, *toxics: AppliedToxic) -> None:
        """Have these toxics."""
        self.toxics = list(toxics)
        self.chain.set(self.now, self.toxics)
        self.poll()

    def change(self, index: int, toxic: Toxic | None = None, toxicity: float | None = None) -> None:
        """Change a toxic."""
        before = self.toxics[index]
        after = replace(
            before,
            toxic=toxic or before.toxic,
            toxicity=before.toxicity if toxicity is None else toxicity,
        )
        self.set(*(after if t is before else t for t in self.toxics))

    def remove(self, index: int) -> None:
        """Remove a toxic."""
        self.set(*(t for t in self.toxics if t is not self.toxics[index]))

    def feed(self, *data: bytes) -> None:
        """Let data come."""
        for piece in data:
            self.chain.feed(self.now, piece)
            self.poll()

    def end(self) -> None:
        """Let the source end."""
        self.chain.end(self.now)
        self.poll()

    def until(self, then: float) -> "Rig":
        """Let time pass, and look whenever the chain wants it."""
        while (deadline := self.chain.deadline) <= then:
            self.now = max(self.now, deadline)
            self.poll()
        self.now = then
        self.poll()
        return self

    def poll(self) -> None:
        """Look what has come out."""
        self.out += ((self.now, data) for data in self.chain.poll(self.now))
        if self.chain.ending and self.ended_at == math.inf:
            self.ended_at = self.now

    @property
    def data(self) -> bytes:
        """All that came out."""
        return b"".join(data for _, data in self.out)

    @property
    def times(self) -> list[float]:
        """When it came out."""
        return [at for at, _ in self.out]


def applied(toxic: Toxic, toxicity: float = 1.0) -> AppliedToxic:
    """A toxic as a proxy has it."""
    return AppliedToxic(toxic.type, toxic, "upstream", toxicity)


def near(*times: float) -> object:
    """These times, but for rounding."""
    return pytest.approx(list(times), abs=1e-6)


# --- without a toxic, and with one that does nothing ------------------------------------------


@pytest.mark.parametrize("toxics", [(), (Noop(),), (Latency(0),), (SlowClose(50),)], ids=repr)
def test_nothing_happens(toxics: Sequence[Toxic]) -> None:
    """Data comes out in order, when and as it came."""
    rig = Rig(*toxics)
    rig.feed(b"a", b"b")
    rig.until(1).feed(b"c")
    assert rig.out == [(0, b"a"), (0, b"b"), (1, b"c")]
    assert rig.chain.ending is None
    assert rig.chain.deadline == math.inf


def test_end_without_toxics() -> None:
    """The source's end comes out after its data, and nothing after it."""
    rig = Rig()
    rig.feed(b"a")
    rig.end()
    rig.feed(b"b")
    assert rig.data == b"a"
    assert rig.chain.ending is Ending.EOF


# --- latency ----------------------------------------------------------------------------------


def test_latency() -> None:
    """Each piece comes out so much later than it came."""
    rig = Rig(Latency(100))
    rig.feed(b"a")
    rig.until(0.05).feed(b"b")
    rig.until(1)
    assert rig.data == b"ab"
    assert rig.times == near(0.1, 0.15)


def test_latency_of_an_end() -> None:
    """An end comes as late as data does."""
    rig = Rig(Latency(100))
    rig.end()
    rig.until(1)
    assert rig.ended_at == pytest.approx(0.1)


def test_jitter() -> None:
    """With jitter the delays are spread over the whole range, and nothing overtakes."""
    rig = Rig(Latency(100, 50))
    delays = []
    for number in range(500):
        rig.feed(b"%d," % number)
        rig.until(number + 1)
        delays.append(rig.times[-1] - number)
    assert 0.05 <= min(delays) < 0.06
    assert 0.14 < max(delays) <= 0.15
    rig = Rig(Latency(100, 50))
    rig.feed(*(b"%d," % number for number in range(100)))
    rig.until(1)
    assert rig.data == b"".join(b"%d," % number for number in range(100))


def test_jitter_is_from_the_seed() -> None:
    """The same seed draws the same delays, another one others."""

    def times(seed: int) -> list[float]:
        rig = Rig(Latency(100, 50), seed=seed)
        rig.feed(b"a", b"b")
        return rig.until(1).times

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_late_timers_do_not_add_up() -> None:
    """Who looks late at one stage is not late by that at the next."""
    rig = Rig(Latency(100), Latency(100))
    rig.feed(b"a")
    assert rig.chain.poll(0.19) == []
    assert rig.chain.deadline == pytest.approx(0.2)
    assert rig.chain.poll(0.2001) == [b"a"]


def test_latency_is_lowered() -> None:
    """What is held by a latency without an end goes on when it is lifted, and then all is quick."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a", b"b")
    rig.until(5)
    assert rig.out == []
    assert rig.chain.deadline > 10**5
    rig.change(0, Latency(0))
    rig.feed(b"c")
    assert rig.out == [(5, b"a"), (5, b"b"), (5, b"c")]


def test_latency_is_raised() -> None:
    """What is held is held by the new latency, from when it came."""
    rig = Rig(Latency(100))
    rig.feed(b"a")
    rig.until(0.05).change(0, Latency(200))
    assert rig.until(1).times == near(0.2)


def test_latency_is_removed() -> None:
    """What it held goes on at once."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a")
    rig.end()
    rig.until(5).remove(0)
    assert rig.out == [(5, b"a")]
    assert rig.chain.ending is Ending.EOF


def test_toxic_is_added_to_a_stalled_stream() -> None:
    """It lets go of nothing."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a")
    rig.add(Latency(100))
    rig.until(5)
    assert rig.out == []
    rig.change(0, Latency(0))
    assert rig.until(6).times == near(5.1)


# --- bandwidth --------------------------------------------------------------------------------


def test_bandwidth() -> None:
    """Data is cut to what may be sent in a tenth of a second, and the rest comes in its time."""
    rig = Rig(Bandwidth(1))
    rig.feed(b"x" * 250)
    rig.until(1)
    assert [len(data) for _, data in rig.out] == [100, 100, 50]
    assert rig.times == near(0.1, 0.2, 0.25)


def test_bandwidth_for_small_pieces() -> None:
    """What is small enough stays whole, and pieces take their time one after the other."""
    rig = Rig(Bandwidth(100))
    rig.feed(b"x" * 1000, b"y" * 1000)
    assert rig.until(1).times == near(0.01, 0.02)


def test_bandwidth_gives_no_credit() -> None:
    """Time without data does not count."""
    rig = Rig(Bandwidth(1))
    rig.until(10).feed(b"x" * 50)
    assert rig.until(11).times == near(10.05)


def test_bandwidth_zero() -> None:
    """A rate of 0 holds everything, the end too, and takes no timer."""
    rig = Rig(Bandwidth(0))
    rig.feed(b"a" * 10)
    rig.end()
    rig.until(1000)
    assert rig.out == []
    assert rig.chain.deadline == math.inf
    rig.change(0, Bandwidth(1))
    assert rig.until(1001).times == near(1000.01)
    assert rig.chain.ending is Ending.EOF


def test_bandwidth_is_removed() -> None:
    """What is left of a piece goes on at once, nothing twice."""
    rig = Rig(Bandwidth(1))
    data = bytes(range(250))
    rig.feed(data, b"more")
    rig.until(0.15).remove(0)
    assert rig.data == data + b"more"
    assert rig.times == near(0.1, 0.15, 0.15)


def test_bandwidth_is_changed() -> None:
    """What is left goes on at the new rate."""
    rig = Rig(Bandwidth(1))
    rig.feed(b"x" * 250)
    rig.until(0.1).change(0, Bandwidth(10))
    assert rig.until(1).times == near(0.1, 0.115)


# --- slow_close -------------------------------------------------------------------------------


def test_slow_close() -> None:
    """Only the end is late."""
    rig = Rig(SlowClose(500))
    rig.feed(b"a")
    rig.end()
    assert rig.times == [0]
    rig.until(1)
    assert rig.ended_at == pytest.approx(0.5)
    assert rig.chain.ending is Ending.EOF


def test_slow_close_is_removed() -> None:
    """An end that it held goes on."""
    rig = Rig(SlowClose(10_000))
    rig.end()
    rig.until(1).remove(0)
    assert rig.ended_at == 1


# --- timeout ----------------------------------------------------------------------------------


def test_timeout() -> None:
    """Data is dropped, and the connection closed when none has come for so long."""
    rig = Rig(Timeout(100))
    rig.until(0.05).feed(b"a")
    rig.until(0.1).feed(b"b")
    rig.until(1)
    assert rig.out == []
    assert rig.ended_at == pytest.approx(0.2)
    assert rig.chain.ending is Ending.CLOSE


def test_timeout_without_data() -> None:
    """An idle connection is closed too."""
    rig = Rig(Timeout(100)).until(1)
    assert rig.ended_at == pytest.approx(0.1)


def test_timeout_zero() -> None:
    """With 0 it never closes; the source's end still does."""
    rig = Rig(Timeout(0))
    rig.feed(b"a")
    rig.until(10**6)
    assert rig.chain.ending is None
    rig.end()
    assert rig.data == b""
    assert rig.chain.ending is Ending.EOF


def test_timeout_is_removed() -> None:
    """The connection is closed: something may be missing in it."""
    rig = Rig(Timeout(0))
    rig.remove(0)
    assert rig.chain.ending is Ending.CLOSE


def test_timeout_is_changed() -> None:
    """The time begins anew."""
    rig = Rig(Timeout(0))
    rig.until(5).change(0, Timeout(100))
    rig.until(6)
    assert rig.ended_at == pytest.approx(5.1)


def test_timeout_that_does_not_work_here_is_removed() -> None:
    """A connection that it left alone stays."""
    rig = Rig(applied(Timeout(0), toxicity=0))
    rig.feed(b"a")
    rig.remove(0)
    rig.feed(b"b")
    assert rig.data == b"ab"
    assert rig.chain.ending is None


# --- reset_peer -------------------------------------------------------------------------------


def test_reset_peer() -> None:
    """A connection is reset so long after its first data, which does not arrive."""
    rig = Rig(ResetPeer(100))
    rig.until(5).feed(b"a")
    rig.until(5.05).feed(b"b")
    rig.until(6)
    assert rig.out == []
    assert rig.ended_at == pytest.approx(5.1)
    assert rig.chain.ending is Ending.RESET


def test_reset_peer_at_once() -> None:
    """With 0 there is no delay; an end counts as data."""
    rig = Rig(ResetPeer())
    rig.end()
    assert rig.chain.ending is Ending.RESET


def test_reset_peer_is_removed() -> None:
    """What it has begun to reset is reset; a connection without data stays."""
    rig = Rig(ResetPeer(1000))
    rig.feed(b"a")
    rig.remove(0)
    assert rig.chain.ending is Ending.RESET
    rig = Rig(ResetPeer(1000))
    rig.remove(0)
    rig.feed(b"a")
    assert rig.data == b"a"


# --- slicer -----------------------------------------------------------------------------------


def test_slicer() -> None:
    """Data comes in pieces of about the average size, none lost, so far apart."""
    rig = Rig(Slicer(50, 20, 1000))
    data = bytes(range(256)) * 4
    rig.feed(data)
    rig.until(10)
    sizes = [len(piece) for _, piece in rig.out]
    assert rig.data == data
    assert max(sizes) <= 70
    assert len(set(sizes)) > 3
    assert rig.times == near(*(n / 1000 for n in range(len(sizes))))


def test_slicer_is_removed() -> None:
    """The rest of a piece goes on in one."""
    rig = Rig(Slicer(10, 0, 1000))
    rig.feed(b"x" * 80, b"end")
    rig.until(0.001).remove(0)
    assert [len(data) for _, data in rig.out] == [10, 10, 60, 3]


def test_slicer_keeps_nobody_waiting() -> None:
    """A large piece in single bytes comes in bounded portions, each when it is looked again."""
    chain = Chain(Random(0))
    chain.set(0, [applied(Slicer(1))])
    chain.feed(0, b"x" * 2000)
    portions: list[int] = []
    while portion := chain.poll(0):
        portions.append(len(portion))
        assert chain.deadline <= 0 or sum(portions) == 2000
    assert sum(portions) == 2000
    assert max(portions) <= 256


# --- limit_data -------------------------------------------------------------------------------


def test_limit_data() -> None:
    """A connection is closed after so many bytes, to the byte."""
    rig = Rig(LimitData(5))
    rig.feed(b"abc")
    assert rig.chain.ending is None
    rig.feed(b"def")
    assert rig.data == b"abcde"
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_is_reached_exactly() -> None:
    """It does not wait for a byte too many."""
    rig = Rig(LimitData(3))
    rig.feed(b"abc")
    assert rig.data == b"abc"
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_zero() -> None:
    """With 0 the first data closes."""
    rig = Rig(LimitData(0))
    assert rig.chain.ending is None
    rig.feed(b"a")
    assert rig.data == b""
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_is_changed() -> None:
    """What has passed counts on."""
    rig = Rig(LimitData(10))
    rig.feed(b"abcd")
    rig.change(0, LimitData(6))
    rig.feed(b"efgh")
    assert rig.data == b"abcdef"
    assert rig.chain.ending is Ending.CLOSE


# --- several toxics, and toxicity -------------------------------------------------------------


def test_order() -> None:
    """Data meets toxics in the order in which they were added; so does what they make."""
    rig = Rig(LimitData(3), Latency(100))
    rig.feed(b"abcde", b"f")
    rig.until(1)
    assert rig.data == b"abc"
    assert rig.times == near(0.1)
    assert rig.ended_at == pytest.approx(0.1)
    assert rig.chain.ending is Ending.CLOSE


def test_middle_is_removed() -> None:
    """What the first holds stays held, what the removed one held meets the next."""
    rig = Rig(Latency(100), FOR_EVER, Latency(100))
    rig.feed(b"a")
    rig.until(0.2).feed(b"b")
    rig.until(0.25).remove(1)
    rig.until(1)
    assert rig.data == b"ab"
    assert rig.times == near(0.35, 0.4)


def test_toxicity() -> None:
    """It works on that share of connections, on each for good."""

    def works(seed: int) -> bool:
        rig = Rig(applied(Latency(100), toxicity=0.3), seed=seed)
        rig.feed(b"a")
        rig.until(1).feed(b"b")
        rig.until(2)
        assert rig.times in ([0, 1], near(0.1, 1.1))
        return rig.times != [0, 1]

    assert 240 < sum(map(works, range(1000))) < 360


def test_toxicity_is_changed() -> None:
    """A toxic that begins to work holds what comes; one that ceases to lets all go."""
    rig = Rig(applied(FOR_EVER, toxicity=0))
    rig.feed(b"a")
    rig.change(0, toxicity=1.0)
    rig.feed(b"b")
    rig.until(5)
    assert rig.data == b"a"
    rig.change(0, toxicity=0.0)
    assert rig.out == [(0, b"a"), (5, b"b")]


def test_raised_toxicity_only_adds() -> None:
    """Who was hit before is hit after, as each connection's draw is made once."""
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
        (Latency(60_000), 1.0, False),
        (Latency(10**9, 10**9), 1.0, False),
        (Bandwidth(1), 1.0, False),
        (Timeout(0), 1.0, False),
    ],
    ids=repr,
)
def test_stalls(toxic: Toxic, toxicity: float, stalls: bool) -> None:
    """A stall holds all data of all connections, and loses none."""
    assert applied(toxic, toxicity).stalls is stalls


# --- memory, and everything at once -----------------------------------------------------------


def test_held() -> None:
    """It tells what it holds, with what every piece costs beside its bytes."""
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
    """Toxics that drop data keep none of it."""
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
    """Whatever delays come and go, all data comes out, in order, and the end after it."""
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
