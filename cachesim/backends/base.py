"""The interface to the servers of a topology."""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from cachesim.topology import Endpoint, Node, NodeState

if TYPE_CHECKING:
    from cachesim.embedded.answers import Rule
    from cachesim.toxiproxy.client import ToxiproxyClient

Progress = Callable[[str], None]
"""Called with a short line when a step of the start begins."""


_OPEN_FILES = 80
"""Open files, mostly sockets, of an emulated topology with a few clients."""


def file_advice(error: Exception) -> str:
    """Return what to do about an error, if there were too many open files; else nothing."""
    if "too many open files" not in str(error).lower():
        return ""
    return f". Allow this process more with `ulimit -n 1024`: a topology opens about {_OPEN_FILES}"


def host_for_clients(advertised: str | None, published: str) -> str:
    """Return the host by which clients on this machine reach the nodes.

    Args:
        advertised: the setting `advertise_host`. It is used if it leads to `published` from here,
            so that clients begin with the name that nodes announce to them.
        published: the host that ports are published on.
    """
    if advertised is None:
        return published
    try:
        found = socket.getaddrinfo(advertised, None, type=socket.SOCK_STREAM)
    except OSError:
        return published
    return advertised if published in {address[0] for *_, address in found} else published


class Backend(Protocol):
    """The servers of a running topology: their addresses, and the verbs that break and mend them.

    Nodes are given by their names (`redis-a`), zones by theirs (`a`). Verbs return when they have
    taken effect, and repeating one is harmless. After `start` all methods are thread-safe.
    """

    @property
    def name(self) -> str:
        """The backend's name, such as `docker`."""
        ...

    def start(self, progress: Progress) -> None:
        """Start servers and links, and form the cluster.

        Afterwards all nodes answer on their admin addresses, the wanted primary takes writes, and
        both replicas follow it.

        Raises:
            StartError: it failed; nothing is left behind.
        """
        ...

    def stop(self) -> None:
        """Remove everything, whatever state it is in."""
        ...

    def endpoint(self, node: str) -> Endpoint:
        """Return the address that a node announces to clients and peers. Links listen on it."""
        ...

    def admin(self, node: str) -> Endpoint:
        """Return the node's admin address, which crosses no link."""
        ...

    def seen_from(self, zone: str, nodes: Sequence[Node]) -> Mapping[str, Endpoint]:
        """Return where a program on this machine finds each of these nodes as from a zone, by name.

        Those of other zones are reached over the zone's links. A zone reaches its own nodes as
        clients do.

        Raises:
            FaultError: nothing here leads to a zone's links.
        """
        ...

    def link_bytes(self) -> Mapping[str, int]:
        """Return how many bytes each link has handed on, in both directions, by the link's name.

        Those that can't be counted are left out.
        """
        ...

    def toxiproxy(self, zone: str) -> str:
        """Return the URL of the Toxiproxy that carries a zone's links."""
        ...

    def toxiproxy_client(self, zone: str) -> "ToxiproxyClient":
        """Return a new client of that Toxiproxy, which the caller closes."""
        ...

    def add_node(self, node: Node) -> None:
        """Start a new Memcached node, and its links. The topology has it already.

        Raises:
            FaultError: nothing can be added to these servers.
        """
        ...

    def remove_node(self, node: Node) -> None:
        """Remove a node that `add_node` has added, and its links. The topology has it no more."""
        ...

    def tell_cluster(self, reply: bytes) -> None:
        """Make Memcached nodes answer `config get cluster` so, where they can be told."""
        ...

    def move_node(self, node: str, *, back: bool = False, hangs: bool = False) -> Mapping[str, str]:
        """Give a node another address, which its next process announces.

        Args:
            back: to that of its start; else to a new one.
            hangs: whether connections to the present address shall hang from then on.

        Returns:
            Where its links have to listen from now on, by the link's name. Other links stay.

        Raises:
            FaultError: it can't have a new address.
        """
        ...

    def lead_zones_to(self, node: str) -> None:
        """Lead the Redis endpoint of each zone to a node, if zones have endpoints of their own.

        Their connections are closed.

        Raises:
            ToxiproxyError: a Toxiproxy did not do it.
        """
        ...

    def renew_toxiproxy(self, zone: str) -> None:
        """Replace a zone's Toxiproxy, whose API blocks, by a new one without toxics.

        Raises:
            CachesimError: it failed.
        """
        ...

    def state(self, node: str) -> NodeState:
        """Return the state of the node's process."""
        ...

    def kill(self, *nodes: str) -> None:
        """Send SIGKILL, to all nodes at once. Written data is kept, as the machine still runs."""
        ...

    def shut_down(self, node: str) -> None:
        """Stop the process in an orderly way."""
        ...

    def pause(self, *nodes: str) -> None:
        """Send SIGSTOP, to all nodes at once: connections stay open, nothing is answered."""
        ...

    def resume(self, node: str) -> None:
        """Send SIGCONT."""
        ...

    def start_node(self, node: str) -> None:
        """Start the node's process from what is on its disk, if it is not running."""
        ...

    def truncate_aof(self, node: str, size: int) -> None:
        """Truncate a stopped Redis node's append-only file, as a loss of power does.

        Args:
            size: bytes that had reached the disk, in all parts of the file together.
        """
        ...

    def renew_redis(self) -> None:
        """Empty the disks of the Redis nodes, as for a first start. All must be stopped.

        Afterwards they have to be formed into a cluster: see `cachesim.servers.redis_cluster`.
        """
        ...

    def answer_with(self, node: str, rules: "Sequence[Rule]") -> None:
        """Set the rules of a node's answers to commands of users. They outlive its process.

        Raises:
            FaultError: the node's server can't do it.
        """
        ...

    def limit_cpu(self, node: str, share: float) -> None:
        """Leave a node a share of one processor; 1: as much as it wants."""
        ...

    def fill_disk(self, node: str, *, is_full: bool, spare: int = 0) -> None:
        """Let the disk of a Redis node take no more of its append-only file, or all again.

        It ends with the node's process.

        Args:
            spare: bytes that it still takes; an emulated node takes none.

        Raises:
            FaultError: the node's container can't do it.
        """
        ...

    def limit_connections(self, node: str, most: int | None, clients: int = 0) -> None:
        """Limit the connections of clients to a Memcached node; None: not at all.

        Those beyond the limit wait until another one is closed. It ends with the node's process.

        Args:
            clients: how many connections of clients there are.

        Raises:
            FaultError: the node's container can't do it.
        """
        ...

    def set_tokens(self, node: str, tokens: "Sequence[str]") -> None:
        """Give the processes that a Redis node will have these AUTH tokens. All are valid."""
        ...

    def set_certificate(self, node: str, problem: str | None) -> tuple[str, str] | None:
        """Give a node a new certificate, for connections that are made from now on.

        Args:
            problem: what is wrong with it, see `cachesim.servers.certificates`; None: nothing.

        Returns:
            The paths of certificate and key, which the server has yet to load; None: it has.

        Raises:
            FaultError: the key of the CA is not there.
        """
        ...

    def logs(self, node: str, lines: int = 50) -> str:
        """Return the tail of a node's log."""
        ...
