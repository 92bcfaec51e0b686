"""How the nodes of an embedded topology get other addresses, and nodes are added and removed."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cachesim.aio.loop import LoopThread
from cachesim.backends.address_plan import SERVER_PORTS
from cachesim.topology import CLIENT, Endpoint, Link, Node, Service, Topology

if TYPE_CHECKING:
    from cachesim.embedded.memcached.node import MemcachedNode
    from cachesim.embedded.redis.node import RedisNode
    from cachesim.embedded.toxiproxy.server import ProxyServer


class EmbeddedChanges:
    """Base of `EmbeddedBackend`. See `Backend` for the methods."""

    _topology: Topology
    _thread: LoopThread
    _servers: "dict[str, ProxyServer]"
    _nodes: "dict[str, RedisNode | MemcachedNode]"
    _listeners: dict[str, asyncio.Server]
    _accept: dict[str, Callable[[], asyncio.Protocol]]

    def __init__(self) -> None:
        # Where the links to moved nodes listened at first, and before the last move, by name.
        self._first: dict[str, str] = {}
        self._former: dict[str, str] = {}

    @abstractmethod
    def _start_link(self, link: Link) -> None:
        """Create a link's proxy."""

    @abstractmethod
    def _create_memcached(self, node: Node) -> None:
        """Create a Memcached node."""

    @abstractmethod
    async def _start_node(self, name: str) -> None:
        """Start a node that was created."""

    def move_node(
        self,
        node: str,
        *,
        back: bool = False,
        hangs: bool = False,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """See `Backend.move_node`."""
        return self._thread.call(self._move, self._topology.node(node), back)

    def _move(self, node: Node, back: bool) -> Mapping[str, str]:
        from cachesim.embedded.redis.node import RedisNode

        listens = {
            link.name: self._new_listen(link, back)
            for link in self._topology.links
            if (link.target, link.service) == (node.name, node.service)
        }
        announced = Link(CLIENT, node.name, node.service, node.zone).name
        moved = self._nodes[node.name]
        if isinstance(moved, RedisNode):
            port = Endpoint.parse(listens[announced]).port
            address = replace(moved.config.nodes[node.name], port=port)
            for peer in self._topology.shard_of(node.name).nodes:
                self._nodes[peer.name].announce({node.name: address})  # type: ignore[union-attr]
        return listens

    def _new_listen(self, link: Link, back: bool) -> str:
        proxies = self._servers[link.home].proxies
        present = proxies[link.name].listen
        first = self._first.setdefault(link.name, present)
        if (former := self._former.pop(link.name, None)) is not None:
            proxies.give_up(former)
        if present != first:
            self._former[link.name] = present
        return first if back else proxies.reserve()

    def add_node(self, node: Node) -> None:
        """See `Backend.add_node`."""

        def start_links() -> None:
            for link in self._topology.links:
                if link.target == node.name:
                    self._start_link(link)

        # Outside the loop, as it makes a key.
        self._create_memcached(node)
        self._thread.call(start_links)
        self._thread.run(partial(self._start_node, node.name))

    def remove_node(self, node: Node) -> None:
        """See `Backend.remove_node`."""

        def remove() -> None:
            for server in self._servers.values():
                for name in [it for it in server.proxies if it.endswith(f"-to-{node.name}")]:
                    listen = server.proxies[name].listen
                    server.proxies.delete(name)
                    server.proxies.give_up(listen)
                    self._first.pop(name, None)
            # A node whose start failed lacks some of it.
            if (listener := self._listeners.pop(node.name, None)) is not None:
                listener.close()
            self._accept.pop(upstream(node.name, Service.MEMCACHED), None)
            if (removed := self._nodes.pop(node.name, None)) is not None:
                removed.close()

        self._thread.call(remove)

    def tell_cluster(self, reply: bytes) -> None:
        """See `Backend.tell_cluster`."""

        def tell() -> None:
            for node in self._topology.memcached:
                if node.name in self._nodes:  # one that is just being added is told afterwards
                    self._nodes[node.name].tell_cluster(reply)  # type: ignore[union-attr]

        self._thread.call(tell)


def upstream(node: str, service: Service) -> str:
    """Return the upstream of links to a node's service."""
    return f"{node}:{SERVER_PORTS[service]}"
