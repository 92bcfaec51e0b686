"""The sessions of a pod: JSON of about 2 KB in Redis, with a TTL of 7 days.

Half of the operations read. Of the others, seven in ten write (create or update), two touch (set
the TTL again) and one deletes. A pod serves its own sessions: it is their only writer, and a
session has one change under way at most. A write that may or may not have been applied may still
be on its way, so its session is not used any more; a new one takes its place, as that of a deleted
one does.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from cachesim.history.rows import Outcome
from cachesim.workload import values
from cachesim.workload.calls import Call
from cachesim.workload.plan import Traffic
from cachesim.workload.values import SESSION_TTL, Version

if TYPE_CHECKING:
    from redis.cluster import RedisCluster

SERVICE = "sessions"
READS = 0.5
WRITES, TOUCHES = 0.7, 0.2
"""Shares of the changes; the rest deletes."""
LEDGER_SHARE, LEDGER_RATE, LEDGER_MOST = 0.2, 50.0, 0.5
_BATCH = 100


def ledger_share(rate: float) -> float:
    """Return the share of the writes that go to a key that is written once and never again.

    It is one in five. If those are fewer than 50 a second over all pods, it is as many as make
    that, and at most every second one: the others have to overwrite something.

    Args:
        rate: of all operations on sessions, a second.
    """
    writes = rate * (1 - READS) * WRITES
    return max(LEDGER_SHARE, min(LEDGER_RATE / writes, LEDGER_MOST))


class Session:
    """A session that is there.

    Attributes:
        number: of its last version.
        busy: whether a change of it is under way.
    """

    __slots__ = ("busy", "created_at", "key", "number", "user")

    def __init__(self, key: str, user: str, created_at: str) -> None:
        self.key = key
        self.user = user
        self.created_at = created_at
        self.number = 0
        self.busy = False


class Sessions:
    """The sessions of one pod.

    Args:
        client: configured as in production.
        writer: the pod's name.
        count: how many sessions it has.
        traffic: of all pods.
        draws: what the seed draws for this pod.
    """

    def __init__(
        self,
        client: "RedisCluster",
        writer: str,
        count: int,
        traffic: Traffic,
        draws: random.Random,
    ) -> None:
        self.client = client
        self._writer = writer
        self._count = count
        self._ledger_share = ledger_share(traffic.rate)
        self._draws = draws
        self._changed = threading.Lock()
        self._live: list[Session] = []

    def load(self) -> "Iterator[list[SessionCall]]":
        """Write the sessions, and yield what was written, a batch at a time."""
        while missing := self._count - len(self._live):
            sessions = [self._new() for _ in range(min(missing, _BATCH))]
            calls = [Write(self, it, self._next(it)) for it in sessions]
            with ExitStack() as stack:
                pipeline = stack.enter_context(self.client.pipeline())
                for call in calls:
                    pipeline.set(call.key, call.value, ex=SESSION_TTL)
                pipeline.execute()
            self._live += sessions
            yield list(calls)

    # --- draws ------------------------------------------------------------------------------------

    def read(self) -> "SessionCall":
        """Return a read of a session."""
        with self._changed:
            if not self._live:
                return Read(self, self._new())
            return Read(self, self._live[int(self._draws.random() * len(self._live))])

    def change(self) -> "SessionCall":
        """Return a write, a touch or a deletion of a session."""
        what = self._draws.random()
        with self._changed:
            if what < WRITES * self._ledger_share:
                session = self._new()
                return Write(self, session, self._next(session), ledger=1)
            if what < WRITES and len(self._live) < self._count:
                return self._create()
            place = self._pick()
            if place is None:
                return self._create()
            session = self._live[place]
            session.busy = True
            if what < WRITES:
                return Write(self, session, self._next(session))
            if what < WRITES + TOUCHES:
                return Touch(self, session)
            self._remove(place)
            return Delete(self, session)

    def _create(self) -> "Write":
        session = self._new()
        return Write(self, session, self._next(session), is_new=True)

    def _new(self) -> Session:
        id = f"{self._draws.getrandbits(64):016x}"
        return Session(values.session_key(id), f"user-{id[:6]}", values.now())

    def _next(self, session: Session) -> Version:
        session.number += 1
        return Version(self._writer, session.number)

    def _pick(self) -> int | None:
        """Return the place of the first session from a drawn one that no change is under way of."""
        count = len(self._live)
        first = int(self._draws.random() * count)
        for place in range(first, first + count):
            if not self._live[place % count].busy:
                return place % count
        return None

    # --- ends -------------------------------------------------------------------------------------

    def written(self, session: Session, outcome: Outcome, is_new: bool) -> None:
        """Take note of the end of a write."""
        with self._changed:
            session.busy = False
            if is_new and outcome == "ok":
                self._live.append(session)
            elif not is_new and outcome == "info":
                self._remove(self._live.index(session))
            elif not is_new and outcome != "ok":
                session.number -= 1

    def touched(self, session: Session) -> None:
        """Take note of the end of a touch."""
        session.busy = False

    def _remove(self, place: int) -> None:
        self._live[place] = self._live[-1]
        self._live.pop()


class SessionCall(Call):
    """An operation on a session."""

    __slots__ = ("_session", "_sessions")
    service = SERVICE

    def __init__(self, sessions: Sessions, session: Session, *details: Any, **more: Any) -> None:
        super().__init__(session.key, *details, **more)
        self._sessions = sessions
        self._session = session

    def outcome_of(self, error: Exception) -> Outcome:  # noqa: ARG002
        """Return `info`: RedisCluster retries by itself, and an error tells of the last try."""
        return "info"


class Read(SessionCall):
    """A read."""

    __slots__ = ()
    kind = "read"

    def send(self) -> Version | None:
        """Read the session."""
        return values.version_of(self._sessions.client.get(self.key))


class Write(SessionCall):
    """A creation or an update.

    Attributes:
        value: what is written.
    """

    __slots__ = ("_is_new", "value")
    kind = "write"

    def __init__(
        self,
        sessions: Sessions,
        session: Session,
        version: Version,
        *,
        ledger: int = 0,
        is_new: bool = False,
    ) -> None:
        super().__init__(sessions, session, version, SESSION_TTL, ledger)
        self.value = values.session(session.user, session.created_at, version)
        self._is_new = is_new

    def send(self) -> Version | None:
        """Write the session."""
        self._sessions.client.set(self.key, self.value, ex=SESSION_TTL)
        return None

    def after(self, outcome: Outcome, read: Version | None) -> Call | None:  # noqa: ARG002
        """Take note of its end."""
        if not self.ledger:
            self._sessions.written(self._session, outcome, self._is_new)
        return None


class Touch(SessionCall):
    """The TTL set again."""

    __slots__ = ()
    kind = "touch"

    def __init__(self, sessions: Sessions, session: Session) -> None:
        super().__init__(sessions, session, ttl=SESSION_TTL)

    def send(self) -> Version | None:
        """Set the TTL."""
        self._sessions.client.expire(self.key, SESSION_TTL)
        return None

    def after(self, outcome: Outcome, read: Version | None) -> Call | None:  # noqa: ARG002
        """Take note of its end."""
        self._sessions.touched(self._session)
        return None


class Delete(SessionCall):
    """A deletion."""

    __slots__ = ()
    kind = "delete"

    def send(self) -> Version | None:
        """Delete the session."""
        self._sessions.client.delete(self.key)
        return None
