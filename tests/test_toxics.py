"""Toxics: Toxiproxy's names and attributes, and what is valid."""

import pytest

from cachesim.toxics import (
    BOTH,
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
        (lambda: Latency(-1), "latency: latency must not be negative, got -1"),
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
