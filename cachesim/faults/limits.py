"""What faults change in servers: limits of memory, connections and processor; and answers."""

import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from cachesim.backends.base import Backend
from cachesim.clock import Deadline
from cachesim.embedded.answers import Rule
from cachesim.errors import FaultError
from cachesim.faults.nodes import Nodes, for_each
from cachesim.servers.admin import errors
from cachesim.servers.hot_keys import HotKey
from cachesim.topology import NodeState, Service

_STARTING = 2.0  # seconds that a process may take to serve, or to end after its connections
_POLL = 0.05  # seconds


class Servers(Protocol):
    """Changes the limits of servers: see `cachesim.servers.limits.Servers`."""

    def fill_memory(self, node: str, share: float) -> None:
        """Make what a node holds a share of its memory."""
        ...

    def restore_memory(self, node: str) -> None:
        """Give a node the memory that it is configured with."""
        ...

    def clients_of(self, node: str) -> int:
        """Return how many connections of clients a Memcached node has."""
        ...

    def limit_connections(self, node: str, most: int) -> None:
        """Limit the connections of clients to a Redis node."""
        ...

    def restore_connections(self, node: str) -> None:
        """Give a node the limit of connections that it is configured with."""
        ...

    def tokens(self, strategy: str | None) -> list[str]:
        """Return the AUTH tokens that are valid; None: the old one alone."""
        ...

    def set_tokens(self, node: str, tokens: Iterable[str]) -> None:
        """Make a Redis node take these AUTH tokens."""
        ...

    def publish_token(self, *, is_new: bool) -> None:
        """Write the new AUTH token into the token file, or the old one."""
        ...

    def load_certificate(self, node: str, paths: tuple[str, str]) -> None:
        """Make a node load a certificate and its key."""
        ...

    def spare_of_disk(self, node: str) -> int:
        """Return how many bytes a full disk of a Redis node shall still take."""
        ...

    def overflow_disk(self, node: str) -> None:
        """Write more than the full disk of a Redis node takes."""
        ...

    def recover_disk(self, node: str) -> None:
        """Wait until a Redis node has written what its full disk did not take."""
        ...

    def read_hot_keys(self, node: str, keys: Sequence[HotKey]) -> None:
        """Read these keys of a node from now on, and no others."""
        ...

    def expire(self, node: str, pattern: str, keep: Callable[[], bool]) -> int:
        """Let keys of a Redis primary or of a Memcached node expire; return how many."""
        ...

    def flush(self, node: str) -> None:
        """Delete all that a node has."""
        ...


@dataclass(frozen=True)
class _Limit:
    """One kind of limit.

    Attributes:
        lower: sets a node's limit.
        restore: sets it to what is configured.
        strictest: returns the value that counts.
        outlives: whether it outlives the node's process.
        held: the values that holders want, by node.
    """

    lower: Callable[[str, Any], None]
    restore: Callable[[str], None]
    strictest: Callable[[Iterable[Any]], Any]
    outlives: bool = False
    held: dict[str, dict[Hashable, Any]] = field(default_factory=dict)

    def reconcile(self, node: str) -> None:
        """Give a node the strictest limit that is held, or that which is configured."""
        values = self.held[node].values()
        try:
            if values:
                self.lower(node, self.strictest(values))
            else:
                self.restore(node)
        except errors() as error:
            raise FaultError(f"the limits of {node} could not be changed: {error}") from error


class Limits:
    """The limits of all nodes. Thread-safe.

    A holder, such as a fault, keeps a limit until it is released. Of several the strictest counts.
    A process that starts has the configured limits. Rules of answers are all in force, and outlive
    processes.
    """

    def __init__(self, servers: Servers, nodes: Nodes, backend: Backend) -> None:
        self._nodes = nodes
        self._backend = backend
        self._memory = _Limit(servers.fill_memory, servers.restore_memory, max)
        self._connections = _Limit(self._limit_connections, self._restore_connections, min)
        self._answers = _Limit(
            backend.answer_with, lambda node: backend.answer_with(node, ()), tuple, outlives=True
        )
        self._cpu = _Limit(
            backend.limit_cpu, lambda node: backend.limit_cpu(node, 1.0), min, outlives=True
        )
        self._tokens = _Limit(
            self._use_tokens, lambda node: self._use_tokens(node, None), max, outlives=True
        )
        self._certificates = _Limit(
            self._use_certificate,
            lambda node: self._use_certificate(node, None),
            min,
            outlives=True,
        )
        self._disks = _Limit(self._fill_disk, self._empty_disk, max)
        self._hot_keys = _Limit(
            lambda node, keys: servers.read_hot_keys(node, keys),
            lambda node: servers.read_hot_keys(node, ()),
            tuple,
            outlives=True,
        )
        self._all = (
            *(self._memory, self._connections, self._answers),
            *(self._cpu, self._tokens, self._certificates),
            *(self._disks, self._hot_keys),
        )
        self._servers = servers
        self._processes: dict[str, float] = {}  # when those were started that have limits, by node
        self._lock = threading.RLock()

    def fill_memory(self, holder: Hashable, nodes: Collection[str], share: float) -> None:
        """Make what nodes hold a share of their memory.

        Raises:
            FaultError: a node does not run, or did not do it.
        """
        self._hold(self._memory, holder, nodes, share)

    def limit_connections(self, holder: Hashable, nodes: Collection[str], most: int) -> None:
        """Limit the connections of clients to nodes.

        Raises:
            FaultError: a node does not run, or did not do it.
        """
        self._hold(self._connections, holder, nodes, most)

    def _limit_connections(self, node: str, most: int) -> None:
        if self._nodes.service(node) is Service.REDIS:
            self._servers.limit_connections(node, most)
        else:
            self._backend.limit_connections(node, most, self._servers.clients_of(node))

    def _restore_connections(self, node: str) -> None:
        if self._nodes.service(node) is Service.MEMCACHED:
            self._backend.limit_connections(node, None)
        self._servers.restore_connections(node)

    def answer(
        self, holder: Hashable, nodes: Collection[str], rule: Rule, to: str | None = None
    ) -> None:
        """Make nodes answer some commands of users in another way, or late.

        Args:
            to: the node that a redirection leads to.

        Raises:
            FaultError: a node is a real server.
        """
        if to is not None:
            rule.to = str(self._backend.endpoint(to))
        self._hold(self._answers, holder, nodes, rule)

    def forget(self, node: str) -> None:
        """Drop all that is held of a node that is to be removed."""
        with self._lock:
            for limit in self._all:
                if limit.held.pop(node, None) and limit is self._hot_keys:
                    limit.restore(node)  # the traffic ends
            self._servers.restore_connections(node)  # a later node of that name has others
            self._processes.pop(node, None)

    def slow(self, holder: Hashable, nodes: Collection[str], share: float) -> None:
        """Leave nodes a share of one processor."""
        self._hold(self._cpu, holder, nodes, share)

    def rotate_token(self, holder: Hashable, nodes: Collection[str], strategy: str) -> None:
        """Make Redis nodes take a new AUTH token, besides the old one or alone.

        Raises:
            FaultError: a node is paused, or did not do it.
        """
        with self._lock:
            self._hold(self._tokens, holder, nodes, strategy)
            self._servers.publish_token(is_new=True)

    def _use_tokens(self, node: str, strategy: str | None) -> None:
        tokens = self._servers.tokens(strategy)
        with self._not_starting(node, "AUTH token") as state:
            self._backend.set_tokens(node, tokens)
            if state is NodeState.RUNNING:
                self._servers.set_tokens(node, tokens)

    def spoil_certificate(self, holder: Hashable, nodes: Collection[str], problem: str) -> None:
        """Give nodes a bad certificate.

        Raises:
            FaultError: a node is paused, or did not do it.
        """
        self._hold(self._certificates, holder, nodes, problem)

    def fill_disk(self, holder: Hashable, nodes: Collection[str]) -> None:
        """Let the disks of Redis nodes take no more of their append-only files.

        Raises:
            FaultError: a node does not run, or its disk could be written.
        """
        self._hold(self._disks, holder, nodes, value=True)

    def _fill_disk(self, node: str, _value: bool) -> None:
        spare = self._servers.spare_of_disk(node)
        self._backend.fill_disk(node, is_full=True, spare=spare)
        self._servers.overflow_disk(node)

    def _empty_disk(self, node: str) -> None:
        self._backend.fill_disk(node, is_full=False)
        self._servers.recover_disk(node)

    def read_hot_key(self, holder: Hashable, nodes: Collection[str], key: HotKey) -> None:
        """Read a key of nodes all the time."""
        self._hold(self._hot_keys, holder, nodes, key)

    def _use_certificate(self, node: str, problem: str | None) -> None:
        with self._not_starting(node, "certificate") as state:
            paths = self._backend.set_certificate(node, problem)
            if paths is not None and state is NodeState.RUNNING:
                self._servers.load_certificate(node, paths)

    @contextmanager
    def _not_starting(self, node: str, what: str) -> Iterator[NodeState]:
        """Let nobody start a node meanwhile, whose process would read the file that is changed."""
        with self._nodes.suspended():
            if (state := self._nodes.state(node)) is NodeState.PAUSED:
                raise FaultError(f"the {what} of {node} can't be changed: it is paused")
            yield state

    def expire(self, nodes: Collection[str], pattern: str, keep: Callable[[], bool]) -> None:
        """Let keys of Redis primaries and Memcached nodes expire, once.

        Raises:
            FaultError: a node does not run, or did not do it, as a replica does not, or has no such
                key.
        """
        with self._asking_once("expire keys of", nodes):
            if not sum(self._servers.expire(node, pattern, keep) for node in nodes):
                raise FaultError(
                    f"no key of {', '.join(nodes)} is like {pattern}, or none was drawn"
                )

    def flush(self, nodes: Collection[str]) -> None:
        """Delete all that nodes have, once.

        Raises:
            FaultError: a node does not run, or did not do it, as a Redis replica does not.
        """
        with self._asking_once("flush", nodes):
            for node in nodes:
                self._servers.flush(node)

    @contextmanager
    def _asking_once(self, what: str, nodes: Collection[str]) -> Iterator[None]:
        with self._lock:
            # One that is paused would hold up all others until it is late.
            self._check_running(nodes, f"can't {what} {{}}")
            try:
                yield
            except errors() as error:
                raise FaultError(f"can't {what} {', '.join(nodes)}: {error}") from error

    def release(self, holder: Hashable) -> None:
        """Release all that a holder holds. Repeating it is harmless.

        Raises:
            FaultError: a node is paused, or did not do it; release it again. The others were.
        """
        with self._lock:
            for node in self._processes:
                self._drop_ended(node)
            held = [
                (limit, node)
                for limit in self._all
                for node, holders in limit.held.items()
                if holder in holders
            ]
            for_each(held, lambda it: self._release(it[0], holder, it[1]))
            if self._tokens.held and not any(self._tokens.held.values()):
                self._servers.publish_token(is_new=False)
                self._tokens.held.clear()

    def release_all(self) -> None:
        """Release all holders.

        Raises:
            FaultError: a node did not do it. The others did.
        """
        with self._lock:
            held = [holders for limit in self._all for holders in limit.held.values()]
            for_each({holder for holders in held for holder in holders}, self.release)

    def _hold(self, limit: _Limit, holder: Hashable, nodes: Collection[str], value: Any) -> None:
        with self._lock:
            if not limit.outlives:
                self._check_running(nodes, "the limits of {} can't be changed")
            for node in nodes:
                self._drop_ended(node)
                limit.held.setdefault(node, {})[holder] = value
                try:
                    self._reconcile(limit, node, is_of_process=not limit.outlives)
                except BaseException:
                    # A fault that was not applied is never released, if this node is paused.
                    limit.held[node].pop(holder, None)
                    with suppress(Exception):  # the first error says more
                        self._reconcile(limit, node)
                    raise

    def _check_running(self, nodes: Collection[str], refusal: str) -> None:
        for node in nodes:
            if self._nodes.state(node) is not NodeState.RUNNING:
                raise FaultError(f"{refusal.format(node)}: it does not run")

    def _drop_ended(self, node: str) -> None:
        """Drop what ended with a node's former process, so that the present one never has it."""
        started = self._nodes.started_at(node)
        if self._processes.get(node, started) != started:
            for limit in self._all:
                if not limit.outlives:
                    limit.held.pop(node, None)
            if self._nodes.service(node) is Service.MEMCACHED:
                self._servers.restore_connections(node)  # what it keeps is of the former one
        self._processes[node] = started

    def _release(self, limit: _Limit, holder: Hashable, node: str) -> None:
        state, value = self._nodes.state(node), limit.held[node].pop(holder)
        try:
            if state is NodeState.PAUSED and not limit.outlives:
                raise FaultError(f"the limits of {node} can't be restored: it is paused")
            if state is NodeState.RUNNING or limit.outlives:
                self._reconcile(limit, node)
        except FaultError:
            limit.held[node][holder] = value
            raise

    def _reconcile(self, limit: _Limit, node: str, *, is_of_process: bool = False) -> None:
        """Reconcile a limit of a node that may end meanwhile, and may then be started again.

        Args:
            is_of_process: whether its present process has to have it, which may not serve yet.
        """
        now = time.monotonic()
        since = self._nodes.started_at(node) if is_of_process else now
        deadline = Deadline(since + _STARTING - now)
        while True:
            try:
                limit.reconcile(node)
            except FaultError:
                state = self._nodes.state(node)
                if state is NodeState.STOPPED and not (limit.outlives or is_of_process):
                    return  # its next process has what is configured
                has_ended = is_of_process and state is NodeState.STOPPED
                if deadline.expired or has_ended or state is NodeState.PAUSED:
                    raise
                time.sleep(_POLL)
            else:
                return
