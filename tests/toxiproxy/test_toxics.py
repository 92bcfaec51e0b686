"""Toxics: Toxiproxy's names and attributes, and what is valid."""

import math
from typing import Any

import pytest

from cachesim.toxiproxy.toxics import (
    BOTH,
    MS_MAX,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stream,
    Timeout,
    Toxic,
)


@pytest.mark.parametrize(
    ("toxic", "name", "attributes"),
    [
        (Latency(100), "latency", {"latency": 100, "jitter": 0}),
        (Latency(100, 20), "latency", {"latency": 100, "jitter": 20}),
        (Bandwidth(64), "bandwidth", {"rate": 64}),
        (SlowClose(500), "slow_close", {"delay": 500}),
        (Timeout(1000), "timeout", {"timeout": 1000}),
        (ResetPeer(), "reset_peer", {"timeout": 0}),
        (Slicer(64), "slicer", {"average_size": 64, "size_variation": 0, "delay": 0}),
        (Slicer(64, 32, 10), "slicer", {"average_size": 64, "size_variation": 32, "delay": 10}),
        (LimitData(512), "limit_data", {"bytes": 512}),
    ],
    ids=repr,
)
def test_as_toxiproxy_has_it(toxic: Toxic, name: str, attributes: dict[str, int]) -> None:
    """A toxic has Toxiproxy's own name and attributes."""
    assert toxic.type == name
    assert toxic.attributes == attributes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latency(-1).check_effect(), "latency: latency must not be negative, got -1"),
        (lambda: Latency(1, -2), "latency: jitter must not be negative, got -2"),
        (lambda: Bandwidth(-1), "bandwidth: rate must not be negative, got -1"),
        (lambda: SlowClose(-1), "slow_close: delay must not be negative, got -1"),
        (lambda: Timeout(-1), "timeout: timeout must not be negative, got -1"),
        (lambda: ResetPeer(-1), "reset_peer: timeout must not be negative, got -1"),
        (lambda: Slicer(64, delay=-1), "slicer: delay must not be negative, got -1"),
        (lambda: LimitData(-1), "limit_data: bytes must not be negative, got -1"),
    ],
)
def test_negative(make: type[Toxic], message: str) -> None:
    """A negative attribute is an error that names the toxic and the attribute."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize("make", [Latency, Bandwidth, SlowClose, Timeout, ResetPeer, LimitData])
def test_zero(make: type[Toxic]) -> None:
    """Every attribute but the slicer's size may be 0."""
    toxic = make(0)  # type: ignore[call-arg]
    assert set(toxic.attributes.values()) == {0}


@pytest.mark.parametrize("value", [True, 1.0, math.nan, "1", None])
def test_no_whole_number(value: Any) -> None:
    """A value that is no whole number is an error that names the toxic and the attribute."""
    with pytest.raises(ValueError, match=r"^latency: jitter must be a whole number, got "):
        Latency(1, value)


@pytest.mark.parametrize(
    ("toxic", "message"),
    [
        (Latency(10**13), "latency: latency must be at most 9223372036854, got 1"),
        (Latency(1, MS_MAX), "latency and jitter must be at most 9223372036854 together"),
        (SlowClose(10**13), "slow_close: delay must be at most 9223372036854, got 1"),
        (Timeout(10**13), "timeout: timeout must be at most 9223372036854, got 1"),
        (ResetPeer(10**13), "reset_peer: timeout must be at most 9223372036854, got 1"),
        (Slicer(10**13), "slicer: average_size must be at most 9223372036854, got 1"),
        (Bandwidth(10**7 + 1), "bandwidth: rate must be at most 10000000, got 10000001"),
        (LimitData(2**63), "limit_data: bytes must be at most 9223372036854775807, got 9"),
    ],
)
def test_more_than_toxiproxy_counts(toxic: Toxic, message: str) -> None:
    """A value that overflows in Toxiproxy is an error with the bound."""
    with pytest.raises(ValueError, match=message):
        toxic.check_effect()


@pytest.mark.parametrize(
    ("toxic", "message"),
    [
        (Latency(0), "latency: latency or jitter must be at least 1 ms, both are 0"),
        (SlowClose(0), "slow_close: delay must be at least 1 ms, got 0"),
        (
            Slicer(32_768),
            "slicer: without delay, average_size and size_variation must be below 32768 together",
        ),
        (Slicer(20_000, 12_768), "must be below 32768 together.*got 20000 and 12768"),
    ],
    ids=repr,
)
def test_without_effect(toxic: Toxic, message: str) -> None:
    """A toxic without effect is an error with the attribute and its bound."""
    with pytest.raises(ValueError, match=message):
        toxic.check_effect()


@pytest.mark.parametrize(
    "toxic",
    [
        Latency(1),
        Latency(0, 1),
        Latency(MS_MAX),
        Bandwidth(10**7),
        Bandwidth(0),
        SlowClose(1),
        Timeout(0),
        ResetPeer(0),
        Slicer(32_767),
        Slicer(32_768, delay=1),
        LimitData(0),
    ],
    ids=repr,
)
def test_with_effect(toxic: Toxic) -> None:
    """A value at its bound is valid."""
    toxic.check_effect()


def test_slicer_of_nothing() -> None:
    """Pieces of 0 bytes, which make a real Toxiproxy recurse for ever, are an error."""
    with pytest.raises(ValueError, match="average_size must be above 0"):
        Slicer(0)


@pytest.mark.parametrize("variation", [64, 65])
def test_slicer_that_varies_too_much(variation: int) -> None:
    """Pieces that might come to 0 bytes are an error."""
    with pytest.raises(ValueError, match="size_variation must be below average_size"):
        Slicer(64, variation)


def test_streams() -> None:
    """The streams are called as in Toxiproxy's API."""
    assert [str(stream) for stream in Stream] == ["upstream", "downstream"]
    assert set(BOTH) == set(Stream)


@pytest.mark.parametrize(
    ("toxic", "neutral"),
    [
        (Latency(100, 20), Latency(0, 0)),
        (Bandwidth(64), None),
        (SlowClose(500), SlowClose(0)),
        (Timeout(1000), None),
        (ResetPeer(), None),
        (Slicer(64), None),
        (LimitData(512), None),
    ],
    ids=repr,
)
def test_neutral(toxic: Toxic, neutral: Toxic | None) -> None:
    """Those toxics can be set to let everything through that do nothing else to it then."""
    assert toxic.neutral == neutral
