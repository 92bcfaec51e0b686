"""A toxic chain in virtual time, for tests."""

import math
from dataclasses import replace
from random import Random

import pytest

from cachesim.embedded.toxiproxy.chain import AppliedToxic, Chain
from cachesim.toxiproxy.toxics import Latency, Toxic

FOR_EVER = Latency(10**9)


class Rig:
    """A chain in virtual time, and its output.

    Attributes:
        now: seconds, moved by `until`.
        out: the output, each piece with its time.
        ended_at: when the output ended; infinite before.
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
        """Replace the toxics."""
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
        """Feed pieces of data now."""
        for piece in data:
            self.chain.feed(self.now, piece)
            self.poll()

    def end(self) -> None:
        """End the source now."""
        self.chain.end(self.now)
        self.poll()

    def until(self, then: float) -> "Rig":
        """Advance time, and poll at every deadline of the chain."""
        while (deadline := self.chain.deadline) <= then:
            self.now = max(self.now, deadline)
            self.poll()
        self.now = then
        self.poll()
        return self

    def poll(self) -> None:
        """Note what has come out."""
        self.out += ((self.now, data) for data in self.chain.poll(self.now))
        if self.chain.ending and self.ended_at == math.inf:
            self.ended_at = self.now

    @property
    def data(self) -> bytes:
        """All output."""
        return b"".join(data for _, data in self.out)

    @property
    def times(self) -> list[float]:
        """When each piece came out."""
        return [at for at, _ in self.out]


def applied(toxic: Toxic, toxicity: float = 1.0) -> AppliedToxic:
    """Return a toxic of a proxy."""
    return AppliedToxic(toxic.type, toxic, "upstream", toxicity)


def near(*times: float) -> object:
    """Return what equals these times but for rounding."""
    return pytest.approx(list(times), abs=1e-6)
