"""Start and stop: cachesim, compared with the same nine containers started one after the other.

The peer is written with testcontainers' `DockerContainer` and its default waits: the same images,
commands, files, network and ports. It has advantages: its certificates and files are made before,
its cluster is not formed, and nothing is checked through the proxies.
"""

import json
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ContainerStatusWaitStrategy, LogMessageWaitStrategy

from benchmarks.measure import Row, comparison, in_turns, seconds
from cachesim import Simulator
from cachesim.backends.address_plan import SERVER_PORTS, TOXIPROXY_PORT, pod_name
from cachesim.servers.certificates import CertificateAuthority
from cachesim.servers.credentials import Credentials
from cachesim.servers.memcached_config import MEMCACHED_PORT, memcached_command
from cachesim.servers.redis_config import (
    REDIS_PORT,
    AnnouncedPorts,
    auth_conf,
    nodes_conf,
    random_node_ids,
    redis_conf,
    redis_settings,
)
from cachesim.settings import load_settings
from cachesim.topology import CLIENT, Link, Node, Service, production

_PEER = "testcontainers, one after the other"
_FOLDER = "/files"


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    times = in_turns(runs, {"ours": _ours, "peer": _theirs})
    return comparison(
        Row(name, times["ours"][name], _PEER, times["peer"][name]) for name in ("start", "stop")
    )


def _ours() -> Mapping[str, float]:
    with ExitStack() as life:

        def start() -> None:
            life.callback(Simulator(backend="docker").start().stop)

        return {"start": seconds(start), "stop": seconds(life.close)}


def _theirs() -> Mapping[str, float]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as life:
        peer = _Peer(Path(folder))
        life.callback(peer.stop)
        return {"start": seconds(peer.start), "stop": seconds(peer.stop)}


class _Peer:
    """Nine containers and a network, by hand.

    Args:
        folder: for its files, which are copied into the containers.
    """

    def __init__(self, folder: Path) -> None:
        self._settings = load_settings().settings
        self._topology = production(self._settings.memory_scale)
        self._folder = folder
        self._ports = {link: _free_port() for link in self._topology.links if link.source == CLIENT}
        self._bus = {node.name: _free_port() for node in self._topology.redis}
        self._network: Network | None = None
        self._containers: list[DockerContainer] = []
        self._make_files()

    def start(self) -> None:
        """Start all, waiting for each."""
        self._network = network = Network().create()
        for zone in self._topology.zones:
            name = pod_name(zone.name)
            pod = (
                DockerContainer(self._settings.toxiproxy_image)
                .with_command(["-host=0.0.0.0", f"-config={_FOLDER}/{name}/proxies.json"])
                .with_copy_into_container(self._folder / name, _FOLDER)
                .with_network(network)
                .with_network_aliases(name)
                .with_exposed_ports(TOXIPROXY_PORT, REDIS_PORT, MEMCACHED_PORT)
                .waiting_for(LogMessageWaitStrategy("Starting Toxiproxy HTTP server"))
            )
            for link, port in self._ports.items():
                if link.target_zone == zone.name:
                    pod.with_bind_ports(port, port)
            self._run(pod)
            holder = f"container:{pod.get_wrapped_container().id}"
            for node in self._topology.nodes:
                if node.zone == zone.name:
                    self._run(self._member(node).with_kwargs(network_mode=holder))

    def stop(self) -> None:
        """Remove all of it. Repeating it is harmless."""
        while self._containers:
            self._containers.pop().stop()
        if self._network is not None:
            self._network.remove()
            self._network = None

    def _run(self, container: DockerContainer) -> None:
        self._containers.append(container)
        container.start()

    def _member(self, node: Node) -> DockerContainer:
        files = f"{_FOLDER}/{node.name}"
        if node.service is Service.REDIS:
            server = "valkey-server" if self._settings.engine == "valkey" else "redis-server"
            member = DockerContainer(self._settings.server_image)
            member.with_command([server, f"{files}/redis.conf"])
            member.waiting_for(LogMessageWaitStrategy("Ready to accept connections"))
        else:
            member = DockerContainer(self._settings.memcached_image)
            member.with_command(memcached_command(node, files))
            # It logs nothing, and its port is the pod's: there is nothing more to wait for.
            member.waiting_for(ContainerStatusWaitStrategy())
        return member.with_copy_into_container(self._folder / node.name, _FOLDER)

    def _make_files(self) -> None:
        ca, credentials = CertificateAuthority(), Credentials()
        announced = {
            link.target: AnnouncedPorts(port, self._bus[link.target])
            for link, port in self._ports.items()
            if link.service is Service.REDIS
        }
        known = nodes_conf(self._topology.shards[0], announced, random_node_ids(self._topology))
        for zone in self._topology.zones:
            proxies = [
                {"name": link.name, "listen": self._listen(link), "upstream": _upstream(link)}
                for link in self._topology.links
                if link.home == zone.name
            ]
            self._write(f"{pod_name(zone.name)}/proxies.json", json.dumps(proxies))
        for node in self._topology.nodes:
            certificate = ca.issue(node.name)
            self._write(f"{node.name}/ca.pem", ca.pem.decode())
            self._write(f"{node.name}/cert.pem", certificate.chain.decode())
            self._write(f"{node.name}/key.pem", certificate.key.decode())
            if node.service is Service.REDIS:
                self._write(f"{node.name}/nodes.conf", known[node.name])
                settings = redis_settings(
                    node, announced[node.name], hostname=None, node_timeout_ms=15000
                )
                configuration = redis_conf(settings, f"{_FOLDER}/{node.name}")
                self._write(f"{node.name}/redis.conf", configuration)
                self._write(f"{node.name}/auth.conf", auth_conf(credentials))

    def _write(self, name: str, content: str) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        # They are copied with these permissions, and the servers run as users of their own.
        path.parent.chmod(0o777)
        path.chmod(0o666)

    def _listen(self, link: Link) -> str:
        if link.source == CLIENT:
            return f"0.0.0.0:{self._ports[link]}"
        if link.service is Service.BUS:
            return f"127.0.0.1:{self._bus[link.target]}"
        (port,) = (p for client, p in self._ports.items() if client.target == link.target)
        return f"127.0.0.1:{port}"


def _upstream(link: Link) -> str:
    host = "127.0.0.1" if link.source == CLIENT else pod_name(link.target_zone)
    return f"{host}:{SERVER_PORTS[link.service]}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
