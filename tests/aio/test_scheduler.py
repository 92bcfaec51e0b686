"""The scheduler: slices, fairness, pausing, and large containers emptied in slices."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

from cachesim.aio.scheduler import SLICE, Scheduler, discard

_STEP = SLICE / 10


class Loop:
    """The part of a loop that a scheduler needs. Its time advances with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        """Seconds."""
        self.now += _STEP
        return self.now

    def call_soon(self, act: Callable[..., object], *arguments: Any) -> None:
        """Queue a call for the next round."""
        self._waiting.append((act, arguments))

    def go_round(self) -> float:
        """Make the queued calls; return the seconds that they took."""
        begun = self.now
        for _ in range(len(self._waiting)):
            act, arguments = self._waiting.popleft()
            act(*arguments)
        return self.now - begun

    @property
    def is_idle(self) -> bool:
        """Whether no call is queued."""
        return not self._waiting


def made() -> tuple[Loop, Scheduler]:
    """A loop and a scheduler on it."""
    loop = Loop()
    return loop, Scheduler(cast(Any, loop), loop.time)


def endless(loop: Loop, scheduler: Scheduler, name: str, log: list[str]) -> Callable[[float], None]:
    """Work that never ends."""

    def work(until: float) -> None:
        log.append(name)
        while loop.time() < until:
            pass
        scheduler.add(work, background=name == "background")

    return work


def test_no_round_is_long() -> None:
    """The loop goes round after a slice, however much work is queued."""
    loop, scheduler = made()
    for number in range(20):
        scheduler.add(endless(loop, scheduler, str(number), []))
    assert max(loop.go_round() for _ in range(100)) < 1.5 * SLICE


def test_round_robin() -> None:
    """Requests are served in order; background work has every other slice."""
    loop, scheduler = made()
    log: list[str] = []
    for name in ("a", "b", "background", "c"):
        scheduler.add(endless(loop, scheduler, name, log), background=name == "background")
    for _ in range(12):
        loop.go_round()
    assert log.count("background") == 6
    assert [name for name in log if name != "background"] == ["a", "b", "c"] * 2


def test_iterator_in_slices() -> None:
    """All steps are made in order and in slices, then `done` is called."""
    loop, scheduler = made()
    log: list[object] = []

    def steps() -> Iterator[None]:
        for number in range(1600):
            log.append(number)
            yield

    scheduler.run(steps(), lambda: log.append("done"))
    rounds = 0
    while not loop.is_idle:
        loop.go_round()
        rounds += 1
    assert log == [*range(1600), "done"]
    assert 9 <= rounds <= 15


def test_paused_and_closed() -> None:
    """Paused work runs after `resume`, closed work never."""
    loop, scheduler = made()
    log: list[str] = []
    scheduler.add(lambda _: log.append("a"))
    scheduler.pause()
    loop.go_round()
    assert not log
    scheduler.resume()
    loop.go_round()
    assert log == ["a"]
    scheduler.add(lambda _: log.append("b"))
    scheduler.close()
    loop.go_round()
    assert log == ["a"]


def test_discard_in_slices() -> None:
    """A large dictionary and a large list are emptied over several rounds."""
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
