"""Sessions in Redis: `session:{id}`, JSON, seven days.

Redis is where they live, so there is nothing to fall back to: while no primary answers, writes are
tried again for a while, and reads are answered by a replica, whose data may be old.
"""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import OutOfMemoryError, RedisClusterException, RedisError, ResponseError
from redis.retry import Retry

TTL = timedelta(days=7)
TIMEOUT = 0.5  # seconds, for connecting and for each answer
_PAUSE = 0.05  # seconds between two tries
_ACTIVITY_STEP = timedelta(minutes=1)  # not every request needs to be written down

# "Redis Cluster cannot be connected" is no RedisError.
_FAILURES = (RedisError, RedisClusterException, OSError)


class SessionsUnavailable(Exception):
    """Redis did not answer in time, or no node that answers could know."""


@dataclass(frozen=True)
class Session:
    """Who is logged in.

    Attributes:
        id: the secret that its owner has.
        stale: whether it was read from a replica, and may have ended or changed meanwhile.
    """

    id: str = field(repr=False)
    user_id: str
    created_at: datetime
    last_activity: datetime
    ip: str = ""
    user_agent: str = ""
    permissions: Sequence[str] = ("read",)
    metadata: dict[str, Any] = field(default_factory=dict)
    stale: bool = False

    def to_json(self) -> str:
        """The value in Redis."""
        value = asdict(self)
        del value["id"], value["stale"]
        return json.dumps(value, default=datetime.isoformat)

    @classmethod
    def from_json(cls, session_id: str, text: str | bytes, *, stale: bool = False) -> "Session":
        """The session that a value in Redis stands for."""
        value = json.loads(text)
        for moment in ("created_at", "last_activity"):
            value[moment] = datetime.fromisoformat(value[moment])
        return cls(id=session_id, stale=stale, **value)


class Sessions:
    """The sessions. Thread-safe.

    Args:
        primary: a client that reads and writes at the primary.
        replicas: a client that reads from replicas.
        ttl: how long a session lives after it was last used.
        patience: seconds for which a write is tried again.
    """

    def __init__(
        self,
        primary: RedisCluster,
        replicas: RedisCluster,
        ttl: timedelta = TTL,
        patience: float = 3.0,
    ) -> None:
        self._primary = primary
        self._replicas = replicas
        self._ttl = ttl
        self._patience = patience

    def start(self, user_id: str, ip: str = "", user_agent: str = "") -> Session:
        """Log somebody in.

        Raises:
            SessionsUnavailable: nobody can log in now.
        """
        now = datetime.now(UTC)
        session = Session(secrets.token_hex(16), user_id, now, now, ip, user_agent)
        value = session.to_json()
        # A write whose answer was lost is sent again, so it must be one that can be repeated.
        self._write(lambda: self._primary.set(_key(session.id), value, ex=self._ttl))
        return session

    def get(self, session_id: str) -> Session | None:
        """The session, or None if there is none.

        The primary knows. A replica is asked only if the primary does not answer, and believed only
        if it has the session: one that it does not have may have been begun a moment ago.

        Raises:
            SessionsUnavailable: whether there is one can't be known now.
        """
        try:
            value, stale = self._primary.get(_key(session_id)), False
        except RedisClusterException as error:
            raise SessionsUnavailable("no node answers") from error
        except (RedisError, OSError) as error:
            value, stale = self._ask_replicas(session_id), True
            if value is None:
                raise SessionsUnavailable("the primary does not answer") from error
        return None if value is None else Session.from_json(session_id, value, stale=stale)

    def touch(self, session: Session) -> bool:
        """Note that the session was used, and let it live longer, if that's worth a write.

        Returns:
            Whether it was written down. It is not worth waiting for.
        """
        now = datetime.now(UTC)
        if session.stale or now - session.last_activity < _ACTIVITY_STEP:
            return False
        value = replace(session, last_activity=now).to_json()
        try:
            # xx: it may have been ended meanwhile, and must not come back to life.
            return bool(self._primary.set(_key(session.id), value, ex=self._ttl, xx=True))
        except _FAILURES:
            return False

    def end(self, session_id: str) -> None:
        """Log out.

        Raises:
            SessionsUnavailable: the session may still be there.
        """
        self._write(lambda: self._primary.delete(_key(session_id)))

    def close(self) -> None:
        """Close all connections."""
        self._primary.close()
        self._replicas.close()

    def _ask_replicas(self, session_id: str) -> str | bytes | None:
        for _ in range(2):  # they take turns, and one may be as dead as the primary
            try:
                return self._replicas.get(_key(session_id))
            except _FAILURES:
                continue
        return None

    def _write(self, command: Callable[[], object]) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                command()
                return
            except OutOfMemoryError as error:
                raise SessionsUnavailable(str(error)) from error
            except _FAILURES as error:
                if time.monotonic() > deadline:
                    raise SessionsUnavailable("no primary took the write") from error
                self._look_for_primary(error)
                time.sleep(_PAUSE)

    def _look_for_primary(self, error: Exception) -> None:
        # A primary that was replaced while it still ran refuses writes with NOREPLICAS. redis-py
        # does not take that for a reason to ask who the primary is.
        if isinstance(error, ResponseError) and "NOREPLICAS" in str(error):
            try:
                self._primary.nodes_manager.initialize()
            except _FAILURES:
                return


def connect(nodes: Sequence[tuple[str, int]], password: str, **options: Any) -> Sessions:
    """The sessions in a Redis cluster, over TLS.

    Args:
        nodes: host and port of one node or more; the rest is found from there.
        options: further arguments of `Sessions`.
    """

    def client(**more: Any) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            password=password,
            ssl=True,
            decode_responses=True,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            # Its default of ten makes a call wait for 5 s if nothing answers.
            retry=Retry(NoBackoff(), 1),
            **more,
        )

    replicas = client(load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN_REPLICAS)
    return Sessions(client(), replicas, **options)


def _key(session_id: str) -> str:
    return f"session:{session_id}"
