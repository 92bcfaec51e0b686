"""Sessions in Redis: `session:{id}`, JSON, seven days.

Sessions are stored in Redis only. While no primary answers, writes are retried for some seconds,
and reads go to a replica, whose data may be old.
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
_ACTIVITY_STEP = timedelta(minutes=1)  # `last_activity` is written at most this often

# "Redis Cluster cannot be connected" is not a RedisError.
_FAILURES = (RedisError, RedisClusterException, OSError)


class SessionsUnavailable(Exception):
    """Redis did not answer in time, or only replicas answer and they may not have the session."""


@dataclass(frozen=True)
class Session:
    """A logged-in user's session.

    Attributes:
        id: the secret in the user's cookie.
        stale: whether it was read from a replica, so it may have ended or changed meanwhile.
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
        """Return the value in Redis."""
        value = asdict(self)
        del value["id"], value["stale"]
        return json.dumps(value, default=datetime.isoformat)

    @classmethod
    def from_json(cls, session_id: str, text: str | bytes, *, stale: bool = False) -> "Session":
        """Make a session from its value in Redis."""
        value = json.loads(text)
        for moment in ("created_at", "last_activity"):
            value[moment] = datetime.fromisoformat(value[moment])
        return cls(id=session_id, stale=stale, **value)


class Sessions:
    """A session store. Thread-safe.

    Args:
        primary: a client that reads from and writes to the primary.
        replicas: a client that reads from replicas.
        ttl: how long a session lives after its last use.
        patience: seconds for which a write is retried.
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
        """Log a user in.

        Raises:
            SessionsUnavailable: no primary accepted the write.
        """
        now = datetime.now(UTC)
        session = Session(secrets.token_hex(16), user_id, now, now, ip, user_agent)
        value = session.to_json()
        # If the answer is lost, the write is sent again, so it must be safe to repeat.
        self._write(lambda: self._primary.set(_key(session.id), value, ex=self._ttl))
        return session

    def get(self, session_id: str) -> Session | None:
        """Return the session, or None if there is none.

        The primary decides. A replica is asked only if the primary does not answer, and trusted
        only if it has the session: a replica that lags does not have a new session yet.

        Raises:
            SessionsUnavailable: no node can tell whether the session exists.
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
        """Write `last_activity` and extend the session's life, at most once a minute.

        Returns:
            Whether it was written. A failed write is not retried.
        """
        now = datetime.now(UTC)
        if session.stale or now - session.last_activity < _ACTIVITY_STEP:
            return False
        value = replace(session, last_activity=now).to_json()
        try:
            # xx: if the session was ended meanwhile, do not create it again.
            return bool(self._primary.set(_key(session.id), value, ex=self._ttl, xx=True))
        except _FAILURES:
            return False

    def end(self, session_id: str) -> None:
        """Log out.

        Raises:
            SessionsUnavailable: the session may still exist.
        """
        self._write(lambda: self._primary.delete(_key(session_id)))

    def close(self) -> None:
        """Close all connections."""
        self._primary.close()
        self._replicas.close()

    def _ask_replicas(self, session_id: str) -> str | bytes | None:
        for _ in range(2):  # the client alternates between the replicas, and one may be dead too
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
        # A primary that still runs after a failover refuses writes with NOREPLICAS. redis-py does
        # not look for the new primary on that error.
        if isinstance(error, ResponseError) and "NOREPLICAS" in str(error):
            try:
                self._primary.nodes_manager.initialize()
            except _FAILURES:
                return


def connect(nodes: Sequence[tuple[str, int]], password: str, **options: Any) -> Sessions:
    """Return the sessions in a Redis cluster, over TLS.

    Args:
        nodes: host and port of at least one node; the client discovers the others.
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
            # With the default of ten retries, a call waits for 5 s if nothing answers.
            retry=Retry(NoBackoff(), 1),
            **more,
        )

    replicas = client(load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN_REPLICAS)
    return Sessions(client(), replicas, **options)


def _key(session_id: str) -> str:
    return f"session:{session_id}"
