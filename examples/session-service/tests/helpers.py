"""Helpers of several tests."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from flask.testing import FlaskClient


class CountingOrigin:
    """The APIs behind the cache. Counts the calls."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def products(self, category: str) -> list[str]:
        """Return three products."""
        self.asked[category] += 1
        return [f"{category} {number}" for number in range(3)]

    def profile(self, user_id: str) -> dict[str, Any]:
        """Return a profile with the same name for every user."""
        self.asked[user_id] += 1
        return {"id": user_id, "name": "John"}


def log_in(browser: FlaskClient, user_id: str = "user-789") -> str:
    """Log in and return the session's id."""
    answer = browser.post("/login", json={"user_id": user_id})
    assert answer.status_code == 200
    cookie = browser.get_cookie("session_id")
    assert cookie is not None
    return cookie.value


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until a condition returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
    return result


@contextlib.contextmanager
def takes(least: float = 0.0, most: float = 60.0) -> Iterator[None]:
    """Assert how many seconds a block takes."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert least <= took <= most, f"took {took:.2f} s, not {least:g} to {most:g} s"
