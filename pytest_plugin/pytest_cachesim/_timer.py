"""The timer of pytest-timeout, which does not run while a topology starts."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest


class Timer:
    """Stops the timer of the present test, and starts it anew; a plugin."""

    def __init__(self) -> None:
        self._running: tuple[pytest.Item, object] | None = None

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(
        self, item: pytest.Item, settings: object
    ) -> Generator[None, object, object]:
        """Remember the timer that is started."""
        self._running = item, settings
        return (yield)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> Generator[None, object, object]:
        """Forget it at its end."""
        self._running = None
        return (yield)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the timer, if one runs, and start it from 0 afterwards."""
        if self._running is None:
            yield
            return
        item, settings = self._running
        item.ihook.pytest_timeout_cancel_timer(item=item)
        try:
            yield
        finally:
            item.ihook.pytest_timeout_set_timer(item=item, settings=settings)
