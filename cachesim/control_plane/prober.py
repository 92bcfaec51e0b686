"""Probes all nodes over their admin addresses, and lets Redis nodes send each other heartbeats.

Every Redis node publishes heartbeats. The other nodes hear them only if their links for the cluster
bus carry them. So a primary that answers the probes but is cut off from its replicas differs from a
healthy one.
"""

import contextlib
import errno
import itertools
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cachesim.clock import Clock, SystemClock
from cachesim.control_plane.evidence import Observations, Probe, RedisProbe, answers
from cachesim.control_plane.metronome import Metronome, Witness
from cachesim.events import EventLog
from cachesim.servers.admin import NodeClients, errors
from cachesim.topology import Role, Service, Topology

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from redis.connection import ConnectionInterface

CHANNEL = "__cachesim__:heartbeat"
_HISTORY = 3.0  # seconds of append-only file sizes: more than everysec can lose
_PATIENCE = 5.0  # seconds until another connection is tried: a slow node gets to answer
_CONNECTING = 2.0  # seconds for connecting: a handshake takes several round trips
_GLANCE = 0.25  # seconds until a thread notices that it has to stop
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
"""Errors on connecting that come from this process and say nothing about the node."""


class Prober:
    """Keeps the evidence up to date in threads of its own, from `start` to `stop`.

    Args:
        witnesses: see `Metronome`.
        source: the source of the metronome's events.

    Attributes:
        evidence: what the probes and the heartbeats show.
    """

    def __init__(
        self,
        topology: Topology,
        admin: NodeClients,
        witnesses: Sequence[Witness],
        events: EventLog,
        source: str,
        clock: Clock | None = None,
    ) -> None:
        self._admin = admin
        self._clock = clock or SystemClock()
        self._metronome = Metronome(
            witnesses, events, source, lambda: self.evidence.slowest(), self._clock
        )
        self.evidence = Observations(self._clock, self._metronome.standstills)
        self._nodes = topology.nodes
        self._shards = [[node.name for node in shard.nodes] for shard in topology.shards]
        self._redis = [node.name for node in topology.redis]
        self._aof_sizes: dict[str, deque[tuple[float, int]]] = {n: deque() for n in self._redis}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._gone: set[str] = set()
        self._memcached: list[Client] = []

    def start(self) -> None:
        """Start probing."""
        self._metronome.start()
        for node in self._nodes:
            watch = self._watch_redis if node.service is Service.REDIS else self._watch_memcached
            self._spawn(watch, node.name)
        for peers in self._shards:
            for name in peers:
                self._spawn(partial(self._listen, peers), name)

    def add(self, node: str) -> None:
        """Probe one more Memcached node."""
        self._gone.discard(node)
        self._spawn(self._watch_memcached, node)

    def remove(self, node: str) -> None:
        """Probe a Memcached node no more."""
        self._gone.add(node)
        (thread,) = [it for it in self._threads if it.name == _thread_name(node)]
        self._threads.remove(thread)
        thread.join()
        self.evidence.forget(node)

    def stop(self) -> None:
        """Stop probing and close the connections."""
        self._stopping.set()
        for node in self._redis:
            if (probe := self.evidence.probe(node)) is None or probe.answered:
                with contextlib.suppress(*errors()):  # without the message, the listener ends later
                    self._admin.redis(node).publish(CHANNEL, node)
        for client in self._memcached:
            # Otherwise its thread would wait for the answer of a paused node.
            with contextlib.suppress(OSError, AttributeError):
                client.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._metronome.stop()

    def aof_size(self, node: str, ago: float) -> tuple[float, int] | None:
        """Return a node's append-only file some seconds ago or later, or when it was last known.

        Returns:
            When that was, in monotonic seconds, and its size, in bytes. It then held all that the
            node had acknowledged. None if the size is unknown.
        """
        moment, sizes = self._clock.monotonic() - ago, tuple(self._aof_sizes[node])
        return next((it for it in sizes if it[0] >= moment), sizes[-1] if sizes else None)

    def heard(self) -> dict[str, dict[str, float]]:
        """Return when each Redis node last heard each other one, in monotonic seconds."""
        found: dict[str, dict[str, float]] = {}
        for peers in self._shards:
            for listener, speaker in itertools.permutations(peers, 2):
                if (at := self.evidence.heard_at(listener, speaker)) is not None:
                    found.setdefault(listener, {})[speaker] = at
        return found

    def _note_size(self, node: str, begun: float, size: int, *, is_behind: bool = False) -> None:
        """Note a size under the time of the request: all acknowledged before is in it.

        Args:
            is_behind: whether the node acknowledges writes that it has not written yet, as Redis
                does for up to 2 s while an fsync is slow. Then only what was acknowledged before
                that is in the file for sure.
        """
        sizes = self._aof_sizes[node]
        if is_behind:
            if sizes:
                sizes[-1] = (sizes[-1][0], size)
            return
        sizes.append((begun, size))
        while sizes[0][0] < begun - _HISTORY:
            sizes.popleft()

    def _spawn(self, target: Callable[[str], None], node: str) -> None:
        thread = threading.Thread(target=target, args=(node,), name=_thread_name(node), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch_redis(self, node: str) -> None:
        from redis.exceptions import (
            AuthenticationError,
            BusyLoadingError,
            ConnectionError,
            ResponseError,
            TimeoutError,
        )

        # A bare connection: a client would give up a slow one.
        client = self._admin.new_redis(node, _CONNECTING)
        connection = client.connection_pool.make_connection()
        is_open = was_closed = False
        while not self._stopping.wait(0.0 if was_closed else self.evidence.interval):
            asked = self.evidence.asked(node)
            was_open, is_open, was_closed = is_open, False, False
            try:
                self._ask_redis(connection, node, asked)
                is_open = True
            except (ResponseError, BusyLoadingError, AuthenticationError) as error:
                connection.disconnect()  # more answers may be on the way
                self._refused(node, is_loading=isinstance(error, BusyLoadingError))
            except TimeoutError:
                connection.disconnect()
            except (ConnectionError, OSError) as error:
                connection.disconnect()
                was_closed = was_open and self._closed(node, asked)
                if was_closed:
                    continue
                if "max number of clients" in str(error):
                    self._refused(node)
                else:
                    self._failed(node, error, asked)
        connection.disconnect()
        client.close()

    def _refused(self, node: str, *, is_loading: bool = False) -> None:
        """Note an answer that is an error: a dead node would not answer."""
        self.evidence.asked(node)  # anew, if it has answered all but the heartbeat
        before = self.evidence.probe(node)
        probe = before if isinstance(before, RedisProbe) else RedisProbe(True, 0.0, 0.0)
        self.evidence.answered(node, replace(probe, answered=True, is_loading=is_loading))

    def _closed(self, node: str, asked: float) -> bool:
        """Note that a connection was closed, by an earlier process maybe.

        Returns:
            Whether to ask the present one now, on another. Not if the node is held for dead: its
            recovery is told if a probe shows it dead after its new process began.
        """
        if not answers(self.evidence, node):
            return False
        self.evidence.closed(node, asked)
        return True

    def _failed(self, node: str, error: Exception, asked: float) -> None:
        if _is_ours(error):
            self.evidence.unknown(node)
        else:
            self.evidence.failed(node, asked)

    def _ask_redis(self, connection: "ConnectionInterface", node: str, asked: float) -> None:
        """Probe a Redis node.

        Raises:
            TimeoutError: redis-py's; the node took too long, or the prober stops. It may have
                answered all but the heartbeat, which is noted.
        """
        from redis.exceptions import TimeoutError

        connection.connect()
        begun = self._clock.monotonic()
        connection.send_packed_command(
            connection.pack_commands(
                [
                    ("INFO", "replication", "persistence"),
                    ("CLUSTER", "INFO"),
                    ("PUBLISH", CHANNEL, node),
                ]
            )
        )
        while not connection.can_read(timeout=_GLANCE):
            if self._stopping.is_set() or self._clock.monotonic() - begun > _PATIENCE:
                raise TimeoutError(f"{node} has not answered")
        info, cluster = _fields(connection.read_response()), _fields(connection.read_response())
        waits = ("aof_buffer_length", "aof_pending_bio_fsync")
        self._note_size(
            node,
            begun,
            int(info.get("aof_current_size", 0)),
            is_behind=all(int(info.get(field, 0)) for field in waits),
        )
        probe = RedisProbe(
            answered=True,
            at=asked,
            since=asked,
            role=Role.PRIMARY if info["role"] == "master" else Role.REPLICA,
            offset=int(info["master_repl_offset"]),
            state_ok=cluster["cluster_state"] == "ok",
        )
        self.evidence.answered(node, probe, begun)
        # While its writes are paused, as by CLIENT PAUSE, a PUBLISH waits too. The node lives.
        if not connection.can_read(timeout=_GLANCE):
            raise TimeoutError(f"{node} takes no heartbeat")
        connection.read_response()
        self.evidence.published(node, begun)

    def _watch_memcached(self, node: str) -> None:
        from pymemcache.exceptions import MemcacheError

        client = self._admin.new_memcached(node, _PATIENCE)
        self._memcached.append(client)
        was_closed = False
        while not self._stopping.wait(0.0 if was_closed else self.evidence.interval):
            if node in self._gone:
                break
            asked = self.evidence.asked(node)
            was_open, was_closed = client.sock is not None, False
            try:
                client.version()
            except TimeoutError:
                client.close()
            except (MemcacheError, OSError) as error:
                client.close()
                was_closed = was_open and self._closed(node, asked)
                if not was_closed:
                    self._failed(node, error, asked)
            else:
                self.evidence.answered(node, Probe(True, asked, asked))
        client.close()

    def _listen(self, peers: Sequence[str], node: str) -> None:
        from redis.exceptions import RedisError

        client = self._admin.new_redis(node)
        while not self._stopping.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(CHANNEL)
                    for speaker in peers:
                        # The silence of a node that was never heard begins now.
                        self.evidence.listens(node, speaker)
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=_GLANCE)
                        if message is not None:
                            self.evidence.heard(node, message["data"])
            except (RedisError, OSError):
                self._stopping.wait(self.evidence.interval)
        client.close()


def _thread_name(node: str) -> str:
    return f"cachesim-prober-{node}"


def _fields(text: str) -> dict[str, str]:
    """Return the fields of an INFO text, by name."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _is_ours(error: BaseException) -> bool:
    """Return whether an error comes from this process, such as a lack of file descriptors."""
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, OSError) and cause.errno in _OURS for cause in causes)
