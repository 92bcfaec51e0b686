"""Nodes that are containers: their addresses, and the verbs of `Backend`."""

import contextlib
import io
import itertools
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cachesim.backends.address_plan import FILES, REDIS_UID, Plan, pod_name, server_uid, with_owners
from cachesim.backends.containers.engine import (
    as_fault_error,
    in_parallel,
    published_host,
    tar_archive,
)
from cachesim.backends.containers.process_limits import limit_files, limit_open_files
from cachesim.clock import Deadline
from cachesim.errors import FaultError, StartError, ToxiproxyError
from cachesim.servers.redis_config import auth_conf, random_node_ids
from cachesim.topology import Endpoint, Node, NodeState
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

    from cachesim.embedded.answers import Rule
    from cachesim.servers.certificates import CertificateAuthority
    from cachesim.servers.credentials import Credentials

_AOF_FOLDER = "/data/appendonlydir"
_TOXIPROXY_TIMEOUT = 10.0  # seconds until it answers in a running container
_POLL = 0.005  # seconds
_CPU_PERIOD = 100_000  # microseconds, as Docker has it by default
_LEAST_QUOTA = 1000  # microseconds in a period; Linux takes no less
_STOP_TIMEOUT = 5  # seconds from SIGTERM to SIGKILL


class ContainerNodes:
    """The nodes of a topology in containers, of this process or of `docker compose`.

    The verbs raise FaultError if the engine refuses or does not answer.

    Subclasses set `_plan` and `_client_host`, and fill `_containers`, which has nodes and pods by
    name.

    Args:
        client: the Docker engine that runs the containers.
    """

    def __init__(self, client: "DockerClient") -> None:
        self._client = client
        self._host = self._client_host = published_host(client)
        self._containers: dict[str, Container] = {}
        self._started_again: set[str] = set()
        self._endpoint_to: str | None = None
        self._plan: Plan
        # What `docker compose` has made its secrets of is not known here.
        self._issuer: CertificateAuthority | None = None
        self._issued: Credentials | None = None
        self._changes = itertools.count(1)

    def stop(self) -> None:
        """Close the connections to the engine. The containers stay; another call reconnects."""
        self._client.client.close()

    # --- addresses --------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The host of published ports, 127.0.0.1 or a remote Docker engine's address."""
        return self._host

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        return replace(self._plan.endpoint(node), host=self._client_host)

    def admin(self, node: str) -> Endpoint:
        """See `Backend.admin`. It is the published port of the server itself."""
        return self._plan.admin(node)

    def seen_from(self, zone: str, nodes: Sequence[Node]) -> Mapping[str, Endpoint]:  # noqa: ARG002
        """Refuse: the ports of these containers were published when others created them."""
        raise FaultError(
            f"nothing on this machine leads to the links of zone {zone}: docker compose has "
            "published the ports. Run the client in a container that joins the zone's network, or "
            "use `--backend docker` or `--backend embedded`"
        )

    def link_bytes(self) -> Mapping[str, int]:
        """Return nothing: Toxiproxy 2.12 counts the bytes of a connection when it has ended.

        Those of replication and of pools last for hours.
        """
        return {}

    def toxiproxy(self, zone: str) -> str:
        """See `Backend.toxiproxy`."""
        return self._plan.toxiproxy(zone)

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """See `Backend.toxiproxy_client`."""
        return ToxiproxyClient(self.toxiproxy(zone))

    def add_node(self, node: Node) -> None:
        """Refuse: others created these containers."""
        raise FaultError(
            f"{node} can't be added: docker compose keeps these containers. Use `--backend docker` "
            "or `--backend embedded` for that"
        )

    def remove_node(self, node: Node) -> None:
        """Do nothing, as none was added."""

    def tell_cluster(self, reply: bytes) -> None:
        """Do nothing: a real server can't be told. The configuration endpoint answers."""

    def move_node(
        self,
        node: str,
        *,
        back: bool = False,  # noqa: ARG002
        hangs: bool = False,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Refuse: the ports of these containers were published when others created them."""
        raise FaultError(
            f"{node} can't have a new address: docker compose has published the ports. Use "
            "`--backend docker` or `--backend embedded` for that"
        )

    def lead_zones_to(self, node: str) -> None:
        """See `Backend.lead_zones_to`."""
        self._endpoint_to = node
        for zone in self._plan.topology.zones:
            if (proxy := self._plan.zone_endpoint(zone.name, node)) is not None:
                with contextlib.closing(self.toxiproxy_client(zone.name)) as server:
                    server.populate([proxy])

    @as_fault_error()
    def renew_toxiproxy(self, zone: str) -> None:
        """Restart a zone's Toxiproxy and its nodes, which would lose their network without it.

        Redis nodes keep what is on their disks, Memcached nodes come back empty. Stopped and paused
        nodes stay so.

        Raises:
            CachesimError: the Docker engine refused.
        """
        nodes = [node.name for node in self._plan.topology.nodes if node.zone == zone]
        before = {node: self.state(node) for node in nodes}
        up = [node for node, state in before.items() if state is not NodeState.STOPPED]
        self.kill(*up)
        self._containers[pod_name(zone)].restart(timeout=0)
        self._create_proxies(zone)
        in_parallel(self.start_node, up)
        self.pause(*(node for node in up if before[node] is NodeState.PAUSED))

    def _create_proxies(self, zone: str) -> None:
        """Create the proxies of a zone's Toxiproxy as soon as it answers."""
        proxies = self._plan.proxies(zone, self._endpoint_to)
        try:
            ask_when_it_answers(self.toxiproxy(zone), lambda server: server.populate(proxies))
        except ToxiproxyError as error:
            raise StartError(
                f"the proxies of zone {zone} can't be created: {error}. Start again; "
                "`cachesim doctor` checks the Docker engine."
            ) from error

    # --- node verbs -------------------------------------------------------------------------

    @as_fault_error()
    def state(self, node: str) -> NodeState:
        """Return the state of the container, as the Docker engine reports it."""
        container = self._containers[node]
        container.reload()
        if container.status == "paused":
            return NodeState.PAUSED
        return NodeState.RUNNING if container.status == "running" else NodeState.STOPPED

    @as_fault_error()
    def kill(self, *nodes: str) -> None:
        """Send SIGKILL to containers, all at once."""
        in_parallel(lambda n: _ignoring("not running", self._containers[n].kill), nodes)

    @as_fault_error()
    def shut_down(self, node: str) -> None:
        """Send SIGTERM, and SIGKILL after 5 s."""
        self._containers[node].stop(timeout=_STOP_TIMEOUT)

    @as_fault_error()
    def pause(self, *nodes: str) -> None:
        """Freeze containers, all at once."""

        def pause(node: str) -> None:
            from docker.errors import APIError

            try:
                _ignoring("already paused", self._containers[node].pause)
            except APIError as error:
                # runc may fail to freeze a busy process, and succeeds the next time.
                if "unable to freeze" not in str(error.explanation):
                    raise
                _ignoring("already paused", self._containers[node].pause)

        in_parallel(pause, nodes)

    @as_fault_error()
    def resume(self, node: str) -> None:
        """Unfreeze a container."""
        _ignoring("not paused", self._containers[node].unpause)

    @as_fault_error()
    def start_node(self, node: str) -> None:
        """Start a stopped container, with the same volume."""
        self._started_again.add(node)
        self._containers[node].start()

    @as_fault_error()
    def truncate_aof(self, node: str, size: int) -> None:
        """Cut the last part of the append-only file in the container's volume."""
        with self._read_aof(node) as archive:
            parts = {m.name: m for m in archive if m.name.endswith((".aof", ".rdb"))}
            growing = [m for name, m in parts.items() if name.endswith(".incr.aof")]
            counted = [m for name, m in parts.items() if not self._is_uncounted(node, name)]
            lost = sum(m.size for m in counted) - size
            if lost <= 0 or not growing:
                return
            last = max(growing, key=lambda m: m.mtime)
            content = archive.extractfile(last)
            kept = content.read(max(0, last.size - lost)) if content else b""
        self._containers[node].put_archive("/data", tar_archive({last.name: (last.uid, kept)}))

    def _is_uncounted(self, node: str, part: str) -> bool:
        """Return whether Redis leaves a part out of the size that it tells.

        It does not count the base file that it creates when it starts without any, until it starts
        again or rewrites the file (7.0 to 8.0).
        """
        return ".1.base." in part and node not in self._started_again

    @as_fault_error()
    def renew_redis(self) -> None:
        """Empty the append-only files, and write each `nodes.conf` as for the first start."""
        topology = self._plan.topology
        for node in topology.redis:
            with self._read_aof(node.name) as archive:
                parts = [m for m in archive if m.name.endswith((".aof", ".rdb"))]
            empty = tar_archive({part.name: (part.uid, b"") for part in parts})
            self._containers[node.name].put_archive("/data", empty)
        files = with_owners(topology, self._plan.initial_nodes_conf(random_node_ids(topology)))
        # All containers share one volume for these files.
        self._containers[topology.redis[0].name].put_archive(FILES, tar_archive(files))

    def _read_aof(self, node: str) -> tarfile.TarFile:
        """Return the parts of a node's append-only file, with their folder."""
        stream, _ = self._containers[node].get_archive(_AOF_FOLDER)
        return tarfile.open(fileobj=io.BytesIO(b"".join(stream)))

    def answer_with(self, node: str, rules: Sequence["Rule"]) -> None:
        """Refuse: a real server can't be told what to answer."""
        if rules:
            raise FaultError(
                f"{node} is a real server, whose answers can't be chosen. Use emulated nodes for "
                "that: `--backend embedded`"
            )

    @as_fault_error()
    def limit_cpu(self, node: str, share: float) -> None:
        """Give the container a quota of processor time; see `Backend.limit_cpu`."""
        quota = -1 if share >= 1 else max(_LEAST_QUOTA, round(share * _CPU_PERIOD))
        self._containers[node].update(cpu_period=_CPU_PERIOD, cpu_quota=quota)

    @as_fault_error()
    def fill_disk(self, node: str, *, is_full: bool, spare: int = 0) -> None:
        """Limit the size of the files that the server may write; see `Backend.fill_disk`."""
        limit_files(self._containers[node], spare if is_full else None)

    @as_fault_error()
    def limit_connections(self, node: str, most: int | None, clients: int = 0) -> None:
        """Limit the open files of the server; see `Backend.limit_connections`."""
        limit_open_files(self._containers[node], None if most is None else most - clients)

    @as_fault_error()
    def set_tokens(self, node: str, tokens: Sequence[str]) -> None:
        """Write the file with the users into the container; see `Backend.set_tokens`."""
        if self._issued is None:
            return  # it ends with the process
        text = auth_conf(self._issued, tokens)
        self._containers[node].put_archive(
            FILES, tar_archive({f"{node}/auth.conf": (REDIS_UID, text)})
        )

    @as_fault_error()
    def set_certificate(self, node: str, problem: str | None) -> tuple[str, str] | None:
        """Write a certificate into the container; see `Backend.set_certificate`."""
        if self._issuer is None:
            raise FaultError(
                "the CA's key is not kept by `cachesim compose`. Use `--backend docker` or "
                "`--backend embedded` for certificates"
            )
        certificate = self._issuer.issue(node, problem)
        uid = server_uid(self._plan.topology.node(node))
        # Redis loads a file only when its path changes, Memcached its own paths alone. A process
        # that starts loads these too.
        mark = f"{next(self._changes)}-" if uid == REDIS_UID else ""
        contents = {"cert.pem": certificate.chain, "key.pem": certificate.key}
        files = {
            f"{node}/{it}{name}": (uid, content)
            for name, content in contents.items()
            for it in {mark, ""}
        }
        self._containers[node].put_archive(FILES, tar_archive(files))
        return (f"{FILES}/{node}/{mark}cert.pem", f"{FILES}/{node}/{mark}key.pem")

    @as_fault_error()
    def logs(self, node: str, lines: int = 50) -> str:
        """Return the tail of the container's output."""
        return self._containers[node].logs(tail=lines).decode(errors="replace")


def _ignoring(message: str, verb: Callable[[], object]) -> None:
    """Call a verb of a container. Ignore a Docker error with this message: it was done before."""
    from docker.errors import APIError

    try:
        verb()
    except APIError as error:
        if message not in str(error.explanation):
            raise


def ask_when_it_answers(url: str, ask: Callable[[ToxiproxyClient], object]) -> None:
    """Ask a Toxiproxy something as soon as it answers.

    Raises:
        ToxiproxyError: it refused, or did not answer in time.
    """
    deadline = Deadline(_TOXIPROXY_TIMEOUT)
    with contextlib.closing(ToxiproxyClient(url)) as server:
        while True:
            try:
                ask(server)
                return
            except ToxiproxyError as error:
                if error.status or deadline.expired:
                    raise
                time.sleep(_POLL)
