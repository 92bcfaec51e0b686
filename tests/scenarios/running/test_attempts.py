"""Witnesses that try: what they have seen, and when it was gone."""

import time
from collections.abc import Callable

from cachesim.scenarios.running.attempts import Attempts


def until_told(look: Callable[[], float | None], seconds: float = 10) -> float | None:
    """Return what a look tells in the end."""
    end = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < end:
        time.sleep(0.01)
    return found


def test_it_is_tried_until_it_is_there() -> None:
    """At all nodes, at first and in the end."""
    now, states = time.monotonic(), {"redis-a": True, "redis-b": False}
    it = Attempts("logins", list(states), states.__getitem__)
    assert it.seen(now, now + 60) is None
    states["redis-b"] = True
    assert (until_told(lambda: it.seen(now, now + 60)) or 0) >= now
    healed = time.monotonic()
    assert it.gone(healed) is None
    states.update(dict.fromkeys(states, False))
    assert (until_told(lambda: it.gone(healed)) or 0) >= healed


def test_what_comes_after_the_heal_is_not_seen() -> None:
    """The time when the fault ended may become known while it is tried."""
    now, states = time.monotonic(), {"redis-a": False}
    it = Attempts("logins", list(states), states.__getitem__)
    assert it.seen(now, now + 60) is None
    assert it.seen(now, now) is None
    states["redis-a"] = True
    assert until_told(lambda: it.seen(now, now), 0.5) is None
