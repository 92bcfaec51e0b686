"""Containers whose nodes get other addresses, and to which nodes are added.

Docker publishes ports only when it creates a container. So new ones are published by a container of
their own, a door, which hands everything on to a pod.
"""

import contextlib
import json
import random
import socket
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cachesim.backends.address_plan import (
    FILES,
    TOXIPROXY_PORT,
    AddedPorts,
    certificate_of,
    pod_name,
    with_owners,
)
from cachesim.backends.containers.engine import as_fault_error, tar_archive
from cachesim.backends.containers.nodes import ContainerNodes, ask_when_it_answers
from cachesim.servers.certificates import CertificateAuthority
from cachesim.servers.memcached_config import MEMCACHED_PORT
from cachesim.settings import Settings
from cachesim.topology import Endpoint, Node, Service, Topology
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

    from cachesim.backends.node_listeners import NodeListeners


class ChangingContainers(ContainerNodes):
    """Nodes in containers that this process creates and removes."""

    _ca: CertificateAuthority
    _prefix: str
    _settings: Settings
    _topology: Topology

    def __init__(self, client: "DockerClient", listeners: "NodeListeners | None" = None) -> None:
        super().__init__(client)
        self._listeners = listeners
        # The published ports of the links that listeners lead to, at the first addresses of nodes.
        self._behind: dict[str, int] = {}
        # The ports that moved nodes had at first.
        self._first: dict[str, int] = {}
        # The containers that publish what was added later, by the name of the node, and apart from
        # them those of added nodes.
        self._doors: dict[str, Container] = {}
        self._first_doors: dict[str, Container] = {}
        # The doors of former addresses that hang, by the name of the node.
        self._former_doors: dict[str, list[Container]] = {}
        # The published ports that lead to a zone's links, by zone and by the link's port. They
        # stay: a former address that hangs has to hang for them too.
        self._ways: dict[str, dict[int, int]] = {}
        self._opening = threading.Lock()

    @property
    def _interface(self) -> str:
        """The address that the engine publishes ports on."""
        return "127.0.0.1" if self._host == "127.0.0.1" else "0.0.0.0"  # noqa: S104  # remote

    @abstractmethod
    def _create(self, part: str, image: str, command: Sequence[str], **options: Any) -> "Container":
        """Create a container of this run."""

    @abstractmethod
    def _create_node(self, node: Node, pod: "Container", port: int = MEMCACHED_PORT) -> "Container":
        """Create a node's container in a pod."""

    @abstractmethod
    def _redis_files(self) -> dict[str, str]:
        """Return the Redis nodes' files without secrets."""

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`. A listener of this process is on this machine."""
        endpoint = super().endpoint(node)
        if self._listeners is not None and node in self._behind:
            return replace(endpoint, host=self._listeners.host)
        return endpoint

    def seen_from(self, zone: str, nodes: Sequence[Node]) -> Mapping[str, Endpoint]:
        """See `Backend.seen_from`. One door publishes all links of a zone that none has yet."""
        seen = {node.name: self.endpoint(node.name) for node in nodes}
        others = [node.name for node in nodes if node.zone != zone]
        with self._opening:
            ways = self._ways.setdefault(zone, {})
            if new := {seen[name].port for name in others} - ways.keys():
                api, *free = _free_ports(1 + len(new))
                published = dict(zip(new, free, strict=True))
                self._open_door(zone, {outside: port for port, outside in published.items()}, api)
                for port in new & {seen[name].port for name in others if name in self._behind}:
                    (listener,) = _free_ports(1)
                    self._listen(f"{port} from {zone}", listener, published[port])
                    published[port] = listener
                ways |= published
        return seen | {it: replace(seen[it], port=ways[seen[it].port]) for it in others}

    @as_fault_error()
    def move_node(self, node: str, *, back: bool = False, hangs: bool = False) -> Mapping[str, str]:
        """See `Backend.move_node`. Without its door, a former address refuses and can't hang."""
        port = self._first.setdefault(node, self._plan.endpoint(node).port)
        spec, before = self._topology.node(node), self._doors.get(node)
        outside = self._behind.get(node, port)
        if back:
            self._doors.pop(node, None)
        else:
            port, outside = _free_ports(2)
            if node not in self._behind:
                outside = port
            self._doors[node] = self._open_door(spec.zone, {outside: port})
        if node in self._behind:
            self._listen(node, port, outside, beside=hangs)
        self._plan = self._plan.moved(node, port)
        if spec.service is Service.REDIS:
            path = f"{node}/redis.conf"
            conf = with_owners(self._topology, {path: self._redis_files()[path]})
            self._containers[node].put_archive(FILES, tar_archive(conf))
        if before is not None and hangs:
            self._former_doors.setdefault(node, []).append(before)
        elif before is not None:
            before.remove(force=True)
        if back:
            self._close_former_doors(node)
        return self._plan.listens(node)

    def add_node(self, node: Node) -> None:
        """See `Backend.add_node`."""
        there = [it for it in self._topology.memcached if it.zone == node.zone]
        server = MEMCACHED_PORT + there.index(node)
        link, outside, admin = _free_ports(3)
        if self._listeners is None:
            outside = link
        self._plan = self._plan.with_added(node.name, AddedPorts(link, admin, server))
        with as_fault_error(f"{node} could not be added"):
            pod = self._containers[pod_name(node.zone)]
            container = self._containers[node.name] = self._create_node(node, pod, server)
            files = with_owners(self._topology, certificate_of(node, self._ca))
            container.put_archive(FILES, tar_archive(files))
            container.start()
            ports = {outside: link, admin: server}
            self._first_doors[node.name] = self._open_door(node.zone, ports)
            self._listen(node.name, link, outside)
        ending = f"-to-{node.name}"
        for zone in self._topology.zones:
            proxies = [it for it in self._plan.proxies(zone.name) if it["name"].endswith(ending)]
            with contextlib.closing(self.toxiproxy_client(zone.name)) as toxiproxy:
                toxiproxy.populate(proxies)

    def remove_node(self, node: Node) -> None:
        """See `Backend.remove_node`."""
        ending = f"-to-{node.name}"
        self._plan = self._plan.with_added(node.name, None)
        self._first.pop(node.name, None)
        with as_fault_error(f"{node} could not be removed"):
            try:
                for zone in self._topology.zones:
                    with contextlib.closing(self.toxiproxy_client(zone.name)) as toxiproxy:
                        for name in [it for it in toxiproxy.proxies() if it.endswith(ending)]:
                            toxiproxy.delete(name)
            finally:  # or another node of this name could never be added
                self._stop_listening(node.name)
                self._remove_containers(node.name)

    def _ports_behind(self) -> dict[str, int]:
        """Return where to publish the links of clients to nodes that get listeners, by name."""
        names = [node.name for node in self._topology.memcached] if self._listeners else []
        return dict(zip(names, _free_ports(len(names)), strict=True))

    def _listen_first(self) -> None:
        for node, outside in self._plan.behind.items():
            self._listen(node, self._plan.endpoint(node).port, outside)

    @as_fault_error("no new address could be listened on")
    def _listen(self, node: str, port: int, outside: int, *, beside: bool = False) -> None:
        """Listen on the port that a Memcached node announces; see `NodeListeners.open`.

        Args:
            outside: the published port of its link of clients.
        """
        if self._listeners is not None:
            self._behind.setdefault(node, outside)
            self._listeners.open(node, port, Endpoint(self._host, outside), beside=beside)

    def _stop_listening(self, *nodes: str) -> None:
        for node in nodes:
            if self._behind.pop(node, None) and self._listeners is not None:
                self._listeners.close(node)

    def _remove_containers(self, node: str) -> None:
        for containers in (self._containers, self._doors, self._first_doors):
            if (container := containers.pop(node, None)) is not None:
                container.remove(force=True)
        self._close_former_doors(node)

    def _close_former_doors(self, node: str) -> None:
        for door in self._former_doors.pop(node, ()):
            door.remove(force=True)

    def _open_door(
        self, zone: str, ports: Mapping[int, int], api: int | None = None
    ) -> "Container":
        """Publish ports that lead into a pod.

        Args:
            ports: the pod's port, by the published one.
            api: the port to publish the door's API on, to wait until the door is open; None: it is
                not waited for.

        Raises:
            FaultError: the engine refused, or the door does not open.
        """
        name = f"door-{min(ports)}"
        path = f"doors/{name}.json"
        proxies = [
            {
                "name": str(outside),
                "listen": f"0.0.0.0:{outside}",
                "upstream": f"{pod_name(zone)}:{inside}",
            }
            for outside, inside in ports.items()
        ]
        published = {outside: outside for outside in ports}
        if api is not None:
            published[TOXIPROXY_PORT] = api
        with as_fault_error("no new address could be published"):
            door = self._create(
                name,
                self._settings.toxiproxy_image,
                [f"-host={'127.0.0.1' if api is None else '0.0.0.0'}", f"-config={FILES}/{path}"],  # noqa: S104
                network=self._prefix,
                ports={f"{inside}/tcp": (self._interface, it) for inside, it in published.items()},
            )
            try:
                door.put_archive(FILES, tar_archive({path: (0, json.dumps(proxies))}))
                door.start()
                if api is not None:  # its proxies listen when its Toxiproxy answers, not before
                    ask_when_it_answers(f"http://{self._host}:{api}", ToxiproxyClient.version)
            except BaseException:
                door.remove(force=True)
                raise
        return door


def _free_ports(count: int) -> list[int]:
    """Return ports that are free here, and below those that Linux gives to connections in pods."""
    with contextlib.ExitStack() as held:

        def free() -> int:
            while True:
                port = random.randrange(20_000, 32_000)  # no secret
                probe = socket.socket()
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    probe.close()
                else:
                    held.enter_context(probe)
                    return port

        return [free() for _ in range(count)]
