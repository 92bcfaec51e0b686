"""What each type of toxic does to data, in virtual time."""

import math
from random import Random

import pytest

from cachesim.embedded.toxiproxy.chain import Chain
from cachesim.embedded.toxiproxy.stages import Ending
from cachesim.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
from tests.embedded.toxiproxy.chains import FOR_EVER, Rig, applied, near

# --- latency ----------------------------------------------------------------------------------


def test_latency() -> None:
    """Each piece is delayed by the latency."""
    rig = Rig(Latency(100))
    rig.feed(b"a")
    rig.until(0.05).feed(b"b")
    rig.until(1)
    assert rig.data == b"ab"
    assert rig.times == near(0.1, 0.15)


def test_latency_of_an_end() -> None:
    """The end is delayed like data."""
    rig = Rig(Latency(100))
    rig.end()
    rig.until(1)
    assert rig.ended_at == pytest.approx(0.1)


def test_jitter() -> None:
    """Delays are spread over the whole range, and data stays in order."""
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


@pytest.mark.parametrize(("draw", "delay"), [(-1.0, 0.05), (1.0, 0.15)])
def test_jitter_is_added(draw: float, delay: float) -> None:
    """A draw of 1 delays by the latency plus the jitter, -1 by the latency minus the jitter."""

    class Fixed(Random):
        def uniform(self, a: float, b: float) -> float:
            return min(max(draw, a), b)

    chain = Chain(Fixed())
    chain.set(0, [applied(Latency(100, 50))])
    chain.feed(0, b"a")
    assert chain.deadline == pytest.approx(delay)


def test_jitter_is_from_the_seed() -> None:
    """The same seed draws the same delays, another seed draws others."""

    def times(seed: int) -> list[float]:
        rig = Rig(Latency(100, 50), seed=seed)
        rig.feed(b"a", b"b")
        return rig.until(1).times

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_latency_is_lowered() -> None:
    """An endless latency set to 0 passes on what it held, and delays nothing any more."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a", b"b")
    rig.until(5)
    assert rig.out == []
    assert rig.chain.deadline > 10**5
    rig.change(0, Latency(0))
    rig.feed(b"c")
    assert rig.out == [(5, b"a"), (5, b"b"), (5, b"c")]


def test_latency_is_raised() -> None:
    """Held data is delayed by the new latency, counted from its arrival."""
    rig = Rig(Latency(100))
    rig.feed(b"a")
    rig.until(0.05).change(0, Latency(200))
    assert rig.until(1).times == near(0.2)


def test_latency_is_removed() -> None:
    """A removed latency passes on at once what it held."""
    rig = Rig(FOR_EVER)
    rig.feed(b"a")
    rig.end()
    rig.until(5).remove(0)
    assert rig.out == [(5, b"a")]
    assert rig.chain.ending is Ending.EOF


# --- bandwidth --------------------------------------------------------------------------------


def test_bandwidth() -> None:
    """Data comes out in pieces of a tenth of a second each, at the rate."""
    rig = Rig(Bandwidth(1))
    rig.feed(b"x" * 250)
    rig.until(1)
    assert [len(data) for _, data in rig.out] == [100, 100, 50]
    assert rig.times == near(0.1, 0.2, 0.25)


def test_bandwidth_for_small_pieces() -> None:
    """Small pieces stay whole, and are sent one after the other."""
    rig = Rig(Bandwidth(100))
    rig.feed(b"x" * 1000, b"y" * 1000)
    assert rig.until(1).times == near(0.01, 0.02)


def test_bandwidth_gives_no_credit() -> None:
    """Idle time earns no credit."""
    rig = Rig(Bandwidth(1))
    rig.until(10).feed(b"x" * 50)
    assert rig.until(11).times == near(10.05)


def test_bandwidth_zero() -> None:
    """A rate of 0 holds everything, the end too, and needs no timer."""
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
    """The rest of a piece is passed on at once, nothing twice."""
    rig = Rig(Bandwidth(1))
    data = bytes(range(250))
    rig.feed(data, b"more")
    rig.until(0.15).remove(0)
    assert rig.data == data + b"more"
    assert rig.times == near(0.1, 0.15, 0.15)


def test_bandwidth_is_changed() -> None:
    """The rest is sent at the new rate."""
    rig = Rig(Bandwidth(1))
    rig.feed(b"x" * 250)
    rig.until(0.1).change(0, Bandwidth(10))
    assert rig.until(1).times == near(0.1, 0.115)


# --- slow_close -------------------------------------------------------------------------------


def test_slow_close() -> None:
    """Only the end is delayed."""
    rig = Rig(SlowClose(500))
    rig.feed(b"a")
    rig.end()
    assert rig.times == [0]
    rig.until(1)
    assert rig.ended_at == pytest.approx(0.5)
    assert rig.chain.ending is Ending.EOF


def test_slow_close_is_removed() -> None:
    """A held end is passed on."""
    rig = Rig(SlowClose(10_000))
    rig.end()
    rig.until(1).remove(0)
    assert rig.ended_at == 1


# --- timeout ----------------------------------------------------------------------------------


def test_timeout() -> None:
    """Data is dropped, and the connection closed after the timeout without data."""
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
    """A timeout of 0 never closes the connection; the source's end still does."""
    rig = Rig(Timeout(0))
    rig.feed(b"a")
    rig.until(10**6)
    assert rig.chain.ending is None
    rig.end()
    assert rig.data == b""
    assert rig.chain.ending is Ending.EOF


def test_timeout_is_removed() -> None:
    """The connection is closed: data may be missing in it."""
    rig = Rig(Timeout(0))
    rig.remove(0)
    assert rig.chain.ending is Ending.CLOSE


def test_timeout_is_changed() -> None:
    """The new timeout is counted from the change."""
    rig = Rig(Timeout(0))
    rig.until(5).change(0, Timeout(100))
    rig.until(6)
    assert rig.ended_at == pytest.approx(5.1)


def test_timeout_that_does_not_work_here_is_removed() -> None:
    """A connection that it did not work on stays."""
    rig = Rig(applied(Timeout(0), toxicity=0))
    rig.feed(b"a")
    rig.remove(0)
    rig.feed(b"b")
    assert rig.data == b"ab"
    assert rig.chain.ending is None


# --- reset_peer -------------------------------------------------------------------------------


def test_reset_peer() -> None:
    """A connection is reset a time after its first data, which is dropped."""
    rig = Rig(ResetPeer(100))
    rig.until(5).feed(b"a")
    rig.until(5.05).feed(b"b")
    rig.until(6)
    assert rig.out == []
    assert rig.ended_at == pytest.approx(5.1)
    assert rig.chain.ending is Ending.RESET


def test_reset_peer_at_once() -> None:
    """With a timeout of 0 there is no delay; an end counts as data."""
    rig = Rig(ResetPeer())
    rig.end()
    assert rig.chain.ending is Ending.RESET


def test_reset_peer_is_removed() -> None:
    """A connection with data is reset at once; one without stays."""
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
    """Data is cut into slices of about the average size, a delay apart, and none is lost."""
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
    """The rest of a piece is passed on whole."""
    rig = Rig(Slicer(10, 0, 1000))
    rig.feed(b"x" * 80, b"end")
    rig.until(0.001).remove(0)
    assert [len(data) for _, data in rig.out] == [10, 10, 60, 3]


def test_slicer_does_not_block() -> None:
    """Of a large piece in single bytes each poll returns a bounded number."""
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
    """A connection is closed after exactly the number of bytes."""
    rig = Rig(LimitData(5))
    rig.feed(b"abc")
    assert rig.chain.ending is None
    rig.feed(b"def")
    assert rig.data == b"abcde"
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_is_reached_exactly() -> None:
    """It is closed with the last byte, not with the next one."""
    rig = Rig(LimitData(3))
    rig.feed(b"abc")
    assert rig.data == b"abc"
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_is_not_reached() -> None:
    """The end passes."""
    rig = Rig(LimitData(3))
    rig.feed(b"ab")
    rig.end()
    assert rig.data == b"ab"
    assert rig.chain.ending is Ending.EOF


def test_limit_data_zero() -> None:
    """With a limit of 0 the first data closes the connection."""
    rig = Rig(LimitData(0))
    assert rig.chain.ending is None
    rig.feed(b"a")
    assert rig.data == b""
    assert rig.chain.ending is Ending.CLOSE


def test_limit_data_is_changed() -> None:
    """What has passed already counts."""
    rig = Rig(LimitData(10))
    rig.feed(b"abcd")
    rig.change(0, LimitData(6))
    rig.feed(b"efgh")
    assert rig.data == b"abcdef"
    assert rig.chain.ending is Ending.CLOSE
