"""The prober's history of append-only files, and which errors count as an answer."""

import errno
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import pytest
import redis.exceptions

from cachesim.clock import ManualClock
from cachesim.control_plane.evidence import Observations, Probe, RedisProbe
from cachesim.control_plane.prober import Prober
from cachesim.events import EventLog
from cachesim.servers.admin import NodeClients
from cachesim.topology import Endpoint, production


@pytest.mark.parametrize(
    ("ago", "size"), [(3.5, 101), (3.0, 101), (2.9, 102), (1.0, 103), (0.9, 103)]
)
def test_size_some_seconds_ago(ago: float, size: int) -> None:
    """The size returned holds all that was acknowledged by then, however old the history."""
    prober = unstarted()
    assert prober.aof_size("redis-a", ago) is None
    for second in (1, 2, 3):
        prober._note_size("redis-a", second, 100 + second)
    assert prober.aof_size("redis-a", ago) == (size - 100, size)


def test_size_while_an_fsync_is_slow() -> None:
    """Redis acknowledges then what is not in the file yet: only the time before counts."""
    prober = unstarted()
    prober._note_size("redis-a", 1, 101)
    for second in (2, 3):
        prober._note_size("redis-a", second, 100 + second, is_behind=True)
    assert prober.aof_size("redis-a", 1.5) == (1, 103)
    prober._note_size("redis-a", 3.5, 120)
    assert prober.aof_size("redis-a", 1.5) == (3.5, 120)


def unstarted() -> Prober:
    """Return a prober at a time of 4 s."""
    tls = ssl.create_default_context()
    admin = NodeClients(lambda node: Endpoint(node, 1), "user", "password", tls)
    return Prober(production(), admin, (), EventLog(), "test", ManualClock(4))


@contextmanager
def watching(prober: Prober, node: str) -> Iterator[None]:
    """Let a prober probe one node, in a thread."""
    watch: Callable[[str], None] = (
        prober._watch_redis if node.startswith("redis") else prober._watch_memcached
    )
    thread = threading.Thread(target=watch, args=(node,))
    thread.start()
    try:
        yield
    finally:
        prober._stopping.set()
        thread.join()


class Client:
    """A client, its pool and its connection at once."""

    def __init__(self) -> None:
        self.connection_pool = self

    def new_redis(self, _node: str, _timeout: float) -> Self:
        """See `NodeClients.new_redis`."""
        return self

    def make_connection(self) -> Self:
        """See redis-py's `ConnectionPool`."""
        return self

    def disconnect(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Failing(Client):
    """One of which connecting fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self.tries = threading.Semaphore(0)

    def connect(self) -> None:
        """Fail."""
        self.tries.release()
        raise self._error


def no_files() -> Exception:
    """Return what redis-py raises when this process can open no more sockets."""
    error = redis.exceptions.ConnectionError("no more files")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


class Halting(Client):
    """One to a node that does not answer a PUBLISH.

    Attributes:
        begun: released with each probe.
    """

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self._error = error
        self._answers: list[str] = []
        self.begun = threading.Semaphore(0)

    def connect(self) -> None:
        """Do nothing."""

    def pack_commands(self, commands: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Return the commands as they are."""
        return commands

    def send_packed_command(self, _commands: list[tuple[str, ...]]) -> None:
        """Take them."""
        self._answers = ["cluster_state:ok", "role:master\nmaster_repl_offset:7"]
        self.begun.release()

    def can_read(self, timeout: float) -> bool:  # noqa: ARG002
        """Return whether there is one more answer."""
        if not self._answers and self._error is not None:
            raise self._error
        return bool(self._answers)

    def read_response(self) -> str:
        """Return the next answer."""
        if not self._answers:
            raise self._error or redis.exceptions.TimeoutError("no answer")
        return self._answers.pop()


class Closing(Halting):
    """One that closes the first connection after the first probe."""

    def __init__(self) -> None:
        super().__init__(None)
        self.evidence: Observations | None = None
        self._probes = 0

    def send_packed_command(self, commands: list[tuple[str, ...]]) -> None:
        """Take them, but for the second time."""
        self._probes += 1
        if self._probes == 2:
            assert self.evidence is not None
            self.evidence.interval = 60
            raise redis.exceptions.ConnectionError("closed")
        super().send_packed_command(commands)
        self._answers.insert(0, "1")


class ClosingCache:
    """A client of a Memcached node that closes the first connection after the first probe.

    Attributes:
        sock: the connection.
    """

    def __init__(self) -> None:
        self.evidence: Observations | None = None
        self.sock: object = None
        self.begun = threading.Semaphore(0)
        self._probes = 0

    def new_memcached(self, _node: str, _timeout: float) -> Self:
        """See `NodeClients.new_memcached`."""
        return self

    def version(self) -> None:
        """Answer, but for the second time."""
        self._probes += 1
        if self._probes == 2:
            assert self.evidence is not None
            self.evidence.interval = 60
            raise ConnectionResetError("closed")
        self.sock = self
        self.begun.release()

    def close(self) -> None:
        """Close the connection."""
        self.sock = None


@pytest.mark.parametrize("is_missed", [False, True])
@pytest.mark.parametrize("node", ["redis-a", "memcached-a"])
def test_a_connection_that_was_closed(
    node: str, is_missed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be that of an earlier process, so it tells nothing of the present one.

    That is asked at once, on another, unless the node is held for dead already: its recovery is
    told if a probe shows it dead after its new process began.
    """
    failed = threading.Semaphore(0)
    closing = Closing() if node == "redis-a" else ClosingCache()
    prober = Prober(production(), cast(Any, closing), (), EventLog(), "test", ManualClock(4))
    monkeypatch.setattr(prober.evidence, "failed", lambda *_: failed.release())
    monkeypatch.setattr(prober.evidence, "probe", lambda _: Probe(not is_missed, 4.0, 4.0))
    closing.evidence = prober.evidence
    with watching(prober, node):
        assert closing.begun.acquire(timeout=10)
        assert (failed if is_missed else closing.begun).acquire(timeout=10)
    assert not failed.acquire(blocking=False)


@pytest.mark.parametrize(
    ("error", "lives"),
    [
        pytest.param(None, True, id="writes-are-paused"),
        pytest.param(redis.exceptions.ConnectionError("closed"), False, id="it-dies"),
        pytest.param(redis.exceptions.ResponseError("an error"), True, id="it-refuses"),
    ],
)
def test_heartbeat_that_is_not_answered(error: Exception | None, lives: bool) -> None:
    """A node whose writes are paused lives; it does not answer a PUBLISH, and all else."""
    halting = Halting(error)
    prober = Prober(production(), cast(Any, halting), (), EventLog(), "test", ManualClock(4))
    with watching(prober, "redis-a"):
        for _ in range(3):  # the first two are done with then
            assert halting.begun.acquire(timeout=10)
        probe = prober.evidence.probe("redis-a")
    assert isinstance(probe, RedisProbe)
    assert (probe.answered, probe.offset) == (lives, 7)


@pytest.mark.parametrize(
    ("error", "lives"),
    [
        (redis.exceptions.BusyLoadingError("LOADING"), True),
        (redis.exceptions.ResponseError("BUSY Redis is busy running a script."), True),
        (redis.exceptions.AuthenticationError("WRONGPASS"), True),
        (redis.exceptions.ConnectionError("max number of clients reached"), True),
        (redis.exceptions.ConnectionError("Error 111 connecting: refused"), False),
        (ConnectionResetError("reset"), False),
        (redis.exceptions.TimeoutError("Timeout connecting to server"), None),
        (no_files(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_an_error_tells(error: Exception, lives: bool | None) -> None:
    """An error in an answer shows that the node lives; one of this process shows nothing."""
    failing = Failing(error)
    clock = ManualClock(4)
    prober = Prober(production(), cast(Any, failing), (), EventLog(), "test", clock)
    with watching(prober, "redis-a"):
        for _ in range(2):  # the first one is done with then
            assert failing.tries.acquire(timeout=10)
        probe = prober.evidence.probe("redis-a")
    assert (None if probe is None else probe.answered) is lives
    is_loading = isinstance(probe, RedisProbe) and probe.is_loading
    assert is_loading is isinstance(error, redis.exceptions.BusyLoadingError)


class FailingCache:
    """A client of a Memcached node to which there is no connection.

    Attributes:
        tries: released with each probe.
    """

    sock = None

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.tries = threading.Semaphore(0)

    def new_memcached(self, _node: str, _timeout: float) -> Self:
        """See `NodeClients.new_memcached`."""
        return self

    def version(self) -> None:
        """Fail."""
        self.tries.release()
        raise self._error

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("error", "lives"),
    [
        (ConnectionRefusedError("refused"), False),
        (TimeoutError("no answer"), None),
        (OSError(errno.EMFILE, "Too many open files"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_an_error_of_memcached_tells(error: Exception, lives: bool | None) -> None:
    """A node that refuses is down; one that is late may be slow; an error of ours is none of it."""
    failing = FailingCache(error)
    prober = Prober(production(), cast(Any, failing), (), EventLog(), "test", ManualClock(4))
    with watching(prober, "memcached-a"):
        for _ in range(2):  # the first one is done with then
            assert failing.tries.acquire(timeout=10)
        probe = prober.evidence.probe("memcached-a")
    assert (None if probe is None else probe.answered) is lives
