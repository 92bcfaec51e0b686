"""A fake topology that only records the calls."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from cachesim.backends.base import Progress
from cachesim.control_plane.timing import Timing
from cachesim.events import EventLog
from cachesim.faults.spec import FaultSpec
from cachesim.settings import Settings
from cachesim.simulator.observe import Means, Observer


class FakeNode:
    """A node with a log: Redis's lines have a date, and Memcached's have none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []

    def logs(self, lines: int) -> str:
        """As the real one. Tests add lines."""
        return "\n".join(self.lines[-lines:])

    def log(self, text: str) -> None:
        """Add a line."""
        date = f"{datetime.now(UTC):%d %b %Y %H:%M:%S.%f}"[:-3]
        self.lines.append(f"7:M {date} * {text}" if "redis" in self.name else text)


class FakeClient:
    """A client that can be closed."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    def close(self) -> None:
        """Close it."""
        self._calls.append(f"close {self._name}")


class FakeAsyncClient:
    """A client that can be closed by an event loop."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    async def aclose(self) -> None:
        """Close it."""
        self._calls.append(f"close {self._name}")


class FakeProcess:
    """The process of a topology, without one. A test has a class of its own.

    Attributes:
        made: its instances.
        ordered: the settings that were ordered from it.
        is_closed: whether it is to end.
    """

    made: ClassVar[list["FakeProcess"]]

    @classmethod
    def new_class(cls) -> type["FakeProcess"]:
        """A class without instances."""
        return type("Fake", (cls,), {"made": []})

    def __init__(self) -> None:
        self.made.append(self)
        self.ordered: Mapping[str, Any] | None = None
        self.is_closed = False

    def order(self, order: Mapping[str, Any]) -> None:
        """As the real one."""
        self.ordered = order["settings"]

    def close(self) -> None:
        """As the real one."""
        self.is_closed = True


class FakeSimulator:
    """Records what is asked of it, and fails where it is told to.

    A test has a class of its own.

    Attributes:
        made: the settings of its instances.
        processes: those that its instances were given, or None.
        calls: to all its instances.
        attached: the settings that the attached ones were to have.
        resets: the speed and seed of each reset.
        errors: what a method raises, by its name.
    """

    made: ClassVar[list[Settings]]
    processes: ClassVar[list[FakeProcess | None]]
    calls: ClassVar[list[str]]
    attached: ClassVar[list[dict[str, Any]]]
    resets: ClassVar[list[tuple[float, int]]]
    errors: ClassVar[dict[str, Exception]]

    @classmethod
    def new_class(cls) -> type["FakeSimulator"]:
        """A class of which nothing has been asked yet."""
        lists = ("made", "processes", "calls", "attached", "resets")
        return type("Fake", (cls,), {**{name: [] for name in lists}, "errors": {}})

    backend = "fake"

    def __init__(self, settings: Settings, *, process: FakeProcess | None = None) -> None:
        self.made.append(settings)
        self.processes.append(process)
        self.settings = settings
        self.name = settings.name
        self.events = EventLog()
        self.control_plane = SimpleNamespace(timing=Timing.of(settings))
        self.faults = SimpleNamespace(apply=self._apply)
        self.nodes = {name: FakeNode(name) for name in ("redis-a", "memcached-a")}

    @classmethod
    def prepared(cls, process: FakeProcess, settings: Settings) -> Self:
        """As the real one."""
        return cls(settings, process=process)

    @classmethod
    def attach(cls, name: str | None = None, **arguments: Any) -> Self:
        """As the real one, of a topology that runs Valkey."""
        cls.calls.append(f"attach {name}")
        cls.attached.append(arguments)
        return cls(Settings(**{"engine": "valkey", "name": name or "only", **arguments}))

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if error := self.errors.get(call.partition(" ")[0]):
            raise error

    @contextmanager
    def _fault(self, kind: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._call(f"end {kind}")

    def _apply(self, faults: list[FaultSpec]) -> list[AbstractContextManager[None]]:
        for fault in faults:
            self._call(f"apply {fault.kind} on {fault.target}")
        return [self._fault(fault.kind) for fault in faults]

    def start(self, progress: Progress) -> None:
        """As the real one."""
        progress("finding the images")
        progress("making containers")
        self._call("start")
        self.events.record("started", "fake", "here")

    def stop(self) -> None:
        """As the real one."""
        self._call("stop")

    def lease(self) -> None:
        """As the real one."""
        self._call("lease")

    def detach(self) -> None:
        """As the real one."""
        self._call("detach")

    def reset(self, draws: str = "", *, timing: Timing | None = None, seed: int = 0) -> None:
        """As the real one."""
        self._call(f"reset {draws}".strip())
        self.resets.append((timing.speed if timing else 0, seed))
        self.control_plane.timing = timing
        self.events.record("reset", "fake", "as new")

    def heal(self) -> None:
        """As the real one."""
        self._call("heal")

    def observe(self, target: object, every: float, **options: Any) -> Observer:
        """As the real one, of a function."""
        means = Means(self.events, lambda: 1, list)
        return Observer(target, means, every=every, **options)

    def async_redis_cluster(self) -> FakeAsyncClient:
        """Some client."""
        return FakeAsyncClient("async redis", self.calls)

    def redis_cluster(self) -> FakeClient:
        """Some client."""
        return FakeClient("redis", self.calls)

    def memcached_client(self) -> FakeClient:
        """Some client."""
        return FakeClient("memcached", self.calls)

    def env(self) -> dict[str, str]:
        """Some variables."""
        return {"CACHESIM_NAME": str(self.settings.name)}
