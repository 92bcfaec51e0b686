"""Turns on a loop: slices, fairness, holding, and what is thrown away little by little."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

from cachesim.aio.turns import SLICE, Turns, discard

_STEP = SLICE / 10


class Loop:
    """As much of a loop as turns need. Its time goes on with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        """Seconds."""
        self.now += _STEP
        return self.now

    def call_soon(self, act: Callable[..., object], *arguments: Any) -> None:
        """Call something when it goes round."""
        self._waiting.append((act, arguments))

    def go_round(self) -> float:
        """Call what waits; gives the seconds that it took."""
        begun = self.now
        for _ in range(len(self._waiting)):
            act, arguments = self._waiting.popleft()
            act(*arguments)
        return self.now - begun

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting


def made() -> tuple[Loop, Turns]:
    """A loop and turns on it."""
    loop = Loop()
    return loop, Turns(cast(Any, loop), loop.time)


def endless(loop: Loop, turns: Turns, name: str, log: list[str]) -> Callable[[float], None]:
    """Work that is never done."""

    def work(until: float) -> None:
        log.append(name)
        while loop.time() < until:
            pass
        turns.add(work, besides=name == "besides")

    return work


def test_no_round_is_long() -> None:
    """However many wait, the loop goes round after a slice."""
    loop, turns = made()
    for number in range(20):
        turns.add(endless(loop, turns, str(number), []))
    assert max(loop.go_round() for _ in range(100)) < 1.5 * SLICE


def test_everybody_has_turns() -> None:
    """In order; and what is done besides has every other one."""
    loop, turns = made()
    log: list[str] = []
    for name in ("a", "b", "besides", "c"):
        turns.add(endless(loop, turns, name, log), besides=name == "besides")
    for _ in range(12):
        loop.go_round()
    assert log.count("besides") == 6
    assert [name for name in log if name != "besides"] == ["a", "b", "c"] * 2


def test_steps_are_done_in_slices() -> None:
    """A step at a time, then what follows the last one."""
    loop, turns = made()
    log: list[object] = []

    def steps() -> Iterator[None]:
        for number in range(1600):
            log.append(number)
            yield

    turns.run(steps(), lambda: log.append("done"))
    rounds = 0
    while not loop.is_idle:
        loop.go_round()
        rounds += 1
    assert log == [*range(1600), "done"]
    assert 9 <= rounds <= 15


def test_held_and_closed() -> None:
    """Held turns come later, those of one that is gone never."""
    loop, turns = made()
    log: list[str] = []
    turns.add(lambda _: log.append("a"))
    turns.hold()
    loop.go_round()
    assert not log
    turns.release()
    loop.go_round()
    assert log == ["a"]
    turns.add(lambda _: log.append("b"))
    turns.close()
    loop.go_round()
    assert log == ["a"]


def test_large_things_are_thrown_away_in_slices() -> None:
    """A dictionary and a list are empty in the end."""
    loop = Loop()
    large: dict[Any, Any] = dict.fromkeys(range(10_000))
    listed = list(range(10_000))
    discard(cast(Any, loop), large, {}, listed, now=loop.time)
    rounds = 0
    while not loop.is_idle:
        loop.go_round()
        rounds += 1
    assert not large
    assert not listed
    assert rounds > 5
