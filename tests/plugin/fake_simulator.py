"""A topology that only tells what was asked of it."""

from typing import ClassVar

from cachesim.backends.base import Progress
from cachesim.config import Settings
from cachesim.control_plane import Timing
from cachesim.events import EventLog


class FakeNode:
    """A node with a log of two lines."""

    def __init__(self, name: str) -> None:
        self.name = name

    def logs(self, lines: int) -> str:
        """What the report of a failing test shows."""
        return f"{lines} lines of {self.name} at most\nits last line"


class FakeClient:
    """A client that can be closed."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def close(self) -> None:
        """Close it."""
        self._calls.append(f"close {self._name}")


class FakeSimulator:
    """Writes down what is asked of it, and fails where it is told to.

    A test has a class of its own.

    Attributes:
        made: the settings of its instances.
        calls: to all its instances.
        resets: the speed and seed of each reset.
        errors: what a method raises, by its name.
    """

    made: ClassVar[list[Settings]]
    calls: ClassVar[list[str]]
    resets: ClassVar[list[tuple[float, int]]]
    errors: ClassVar[dict[str, Exception]]

    @classmethod
    def new_class(cls) -> type["FakeSimulator"]:
        """A class of which nothing has been asked yet."""
        return type("Fake", (cls,), {"made": [], "calls": [], "resets": [], "errors": {}})

    def __init__(self, settings: Settings) -> None:
        self.made.append(settings)
        self.settings = settings
        self.events = EventLog()
        self.nodes = {name: FakeNode(name) for name in ("redis-a", "memcached-a")}

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if error := self.errors.get(call.partition(" ")[0]):
            raise error

    def start(self, progress: Progress) -> None:
        """As the real one."""
        progress("finding the images")
        progress("making containers")
        self._call("start")
        self.events.record("started", "fake", "here")

    def stop(self) -> None:
        """As the real one."""
        self._call("stop")

    def reset(self, draws: str, *, timing: Timing, seed: int) -> None:
        """As the real one."""
        self._call(f"reset {draws}")
        self.resets.append((timing.speed, seed))
        self.events.record("reset", "fake", "as new")

    def heal(self) -> None:
        """As the real one."""
        self._call("heal")

    def redis_cluster(self) -> FakeClient:
        """Some client."""
        return FakeClient("redis", self.calls)

    def memcached_client(self) -> FakeClient:
        """Some client."""
        return FakeClient("memcached", self.calls)

    def env(self) -> dict[str, str]:
        """Some variables."""
        return {"CACHESIM_NAME": str(self.settings.name)}
