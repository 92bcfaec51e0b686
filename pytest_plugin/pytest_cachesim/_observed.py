"""What tests have observed, for the reports of those that fail."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cachesim.simulator.observe import Observer
    from cachesim.simulator.simulator import Simulator

_TITLE = "cachesim observed"


class Observed:
    """The observations of a test; a plugin."""

    def __init__(self) -> None:
        self._timelines: list[Callable[[], str]] = []

    def observing(self, sim: "Simulator") -> "Callable[..., Observer]":
        """Return the `observe` of a topology, whose observations the test's report shows."""

        def observe(target: object, every: float = 0.02, **options: Any) -> "Observer":
            observer = sim.observe(target, every, **options)
            self._timelines.append(observer.timeline)
            return observer

        return observe

    def sections(self) -> Iterator[tuple[str, str]]:
        """Yield the sections of a report, each with its title."""
        for text in dict.fromkeys(timeline() for timeline in self._timelines):
            if text:  # else the observation never began
                yield _TITLE, text

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Forget the observations of earlier tests."""
        self._timelines.clear()

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        """Explain a length of time that is not as a test asserts, and keep its timeline."""
        from cachesim.simulator.observing.figures import Seconds

        found = [it for it in (left, right) if isinstance(it, Seconds)]
        self._timelines += [it.timeline for it in found]
        lines = [f"{it.explain()}: see `{_TITLE}`" for it in found]
        return [f"{left} {op} {right}", *lines] if found else None
