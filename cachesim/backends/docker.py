"""The topology in containers.

Each zone is a pod: one network namespace, held by the zone's Toxiproxy container, which the zone's
Redis and Memcached containers join. `127.0.0.1:P(redis-a)` then means, from each place, another
listener of another Toxiproxy: one link for each (source, target) pair, all under one address.
"""

import contextlib
import io
import secrets
import socket
import tarfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachesim.backends.base import NodeState, Progress
from cachesim.backends.redis_server import (
    BUS_PORT,
    REDIS_PORT,
    Announced,
    nodes_conf,
    redis_conf,
)
from cachesim.clients import NodeClients
from cachesim.clock import Deadline
from cachesim.cluster import Cluster
from cachesim.config import Settings
from cachesim.credentials import ADMIN_USER, Credentials
from cachesim.errors import (
    BackendUnavailable,
    CachesimError,
    ImageMissing,
    NameInUse,
    NotReady,
    PortTaken,
    StartError,
    ToxiproxyError,
)
from cachesim.owner import Owner
from cachesim.proxy.client import ToxiproxyClient
from cachesim.tls import CertificateAuthority, client_context
from cachesim.topology import CLIENT, Endpoint, Link, Node, Service, Topology

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

MEMCACHED_PORT = 11211
TOXIPROXY_PORT = 8474
RUN_LABEL = "cachesim.run"
ID_LABEL = "cachesim.id"
OWNER_LABEL = "cachesim.owner"
PART_LABEL = "cachesim.part"

_SERVER_UID = 999  # the official Redis and Valkey images' user
_MEMCACHED_UID = 11211  # the official Memcached image's user
_FILES = "/cachesim"  # where every container has the run's volume
_AOF_FOLDER = "/data/appendonlydir"
_KNOCK_TIMEOUT = 5.0  # seconds
_TOXIPROXY_TIMEOUT = 10.0  # seconds until it answers in a container that runs
_POLL = 0.005  # seconds
_REMOVAL_LIMIT = 30.0  # seconds
_PAUSE = 0.05  # seconds between two tries to remove what is in use
_TRIES = 3  # a free port may be taken between its choice and its use


@dataclass(frozen=True)
class _Ports:
    """The ports of one zone, on the host and, but for the admin ones, in every pod."""

    redis: int
    bus: int
    memcached: int
    toxiproxy: int
    redis_admin: int
    memcached_admin: int


class DockerBackend:
    """Containers on a Docker engine: nine of them and a network, all labelled with their owner.

    Args:
        name: the topology's name, part of each container's name.
        ca: must certify the settings' `advertise_host`.
    """

    name = "docker"

    def __init__(
        self,
        name: str,
        topology: Topology,
        settings: Settings,
        credentials: Credentials,
        ca: CertificateAuthority,
        client: "DockerClient | None" = None,
    ) -> None:
        self._run = f"cachesim-{name}"
        self._topology = topology
        self._settings = settings
        self._credentials = credentials
        self._ca = ca
        self._client = client or connect()
        self._host = host_of(self._client)
        self._ports: dict[str, _Ports] = {}
        self._containers: dict[str, Container] = {}
        self._makers = threading.Condition()
        self._making_now = 0
        self._broken_off = False
        # Not the name: another topology may have it already, and must not be taken down for this.
        self._id = secrets.token_hex(8)
        self._labels = {
            RUN_LABEL: self._run,
            ID_LABEL: self._id,
            OWNER_LABEL: str(Owner.current()),
        }

    # --- where things are -------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Where published ports are reached: 127.0.0.1, or a remote engine's address."""
        return self._host

    def endpoint(self, node: str) -> Endpoint:
        """The node's announced address."""
        spec = self._topology.node(node)
        ports = self._ports[spec.zone]
        return Endpoint(
            self._host, ports.redis if spec.service is Service.REDIS else ports.memcached
        )

    def admin(self, node: str) -> Endpoint:
        """The published port of the server itself."""
        spec = self._topology.node(node)
        ports = self._ports[spec.zone]
        port = ports.redis_admin if spec.service is Service.REDIS else ports.memcached_admin
        return Endpoint(self._host, port)

    def toxiproxy(self, zone: str) -> str:
        """The URL of the pod holder's API."""
        return f"http://{Endpoint(self._host, self._ports[zone].toxiproxy)}"

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress) -> None:
        """Bring up nine containers and form the cluster. See `Backend.start`."""
        if self._host != "127.0.0.1":
            warnings.warn(
                f"the Docker engine is remote: nodes are published on every interface of "
                f"{self._host}, guarded by TLS and the AUTH token, Toxiproxy's API by nothing",
                stacklevel=2,
            )
        try:
            progress("checking images")
            self._check_images()
            with contextlib.suppress(CachesimError):  # that is no reason not to start
                remove_orphans(self._client)
            progress("starting nine containers in three zones")
            for attempt in range(1, _TRIES + 1):
                try:
                    self._start_containers()
                    break
                except PortTaken:
                    self.stop()
                    if attempt == _TRIES:
                        raise
            progress("forming the cluster")
            self._form()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the run's containers with their volumes, and its network."""
        with self._makers:
            self._broken_off = True
            self._makers.wait_for(lambda: not self._making_now)
        remove_run(self._client, self._id)
        self._containers.clear()

    def _check_images(self) -> None:
        from docker.errors import APIError, ImageNotFound

        for setting in ("server_image", "memcached_image", "toxiproxy_image"):
            image = getattr(self._settings, setting)
            try:
                self._client.client.images.get(image)
            except ImageNotFound:
                try:
                    self._client.client.images.pull(image)
                except APIError as error:
                    key = f"{self._settings.engine}_image" if setting == "server_image" else setting
                    raise ImageMissing(
                        f"image {image} is not present and could not be pulled: "
                        f"{error.explanation or error}. Run `docker pull {image}`, "
                        f"or name another one with the setting {key}."
                    ) from error

    def _start_containers(self) -> None:
        self._ports = _draw_ports(self._topology)
        self._broken_off = False
        with ThreadPoolExecutor(len(self._topology.nodes) + 2 * len(self._topology.zones)) as pool:
            network = pool.submit(self._create_network)
            # Nothing is created in this thread: an interrupt would not wait for it to be done.
            volume = pool.submit(self._create_volume)

            def create_pod(zone: str) -> "Container":
                network.result()
                volume.result()
                return self._create_pod(zone)

            pods = {z.name: pool.submit(create_pod, z.name) for z in self._topology.zones}

            def start_pod(zone: str) -> None:
                pods[zone].result().start()
                self._populate(zone)

            started = {z.name: pool.submit(start_pod, z.name) for z in self._topology.zones}

            def create_member(node: Node) -> "Container":
                # A member can be created while its pod starts, but not started before it.
                return self._create_member(node, pods[node.zone].result())

            members = {n.name: pool.submit(create_member, n) for n in self._topology.nodes}
            # All files at once, through whichever container has the volume: 60 ms a call.
            archive = pool.submit(_archive, self._files())
            filled = pool.submit(
                lambda: (
                    members[self._topology.primary].result().put_archive(_FILES, archive.result())
                )
            )

            def start_member(node: Node) -> None:
                started[node.zone].result()
                filled.result()
                member = members[node.name].result()
                member.start()
                self._containers[node.name] = member

            steps: list[Future[Any]] = [
                network,
                volume,
                *pods.values(),
                *started.values(),
                *members.values(),
                archive,
                filled,
                *(pool.submit(start_member, node) for node in self._topology.nodes),
            ]
            errors = [step.exception() for step in steps]
        if error := next(filter(None, errors), None):
            raise self._explain(error) from error

    @contextlib.contextmanager
    def _making(self) -> Iterator[None]:
        """Around whatever makes something, so that `stop` finds it.

        An interrupt can come while a worker thread is being started, which its pool then does not
        wait for.
        """
        with self._makers:
            if self._broken_off:
                raise StartError("the start was broken off")
            self._making_now += 1
        try:
            yield
        finally:
            with self._makers:
                self._making_now -= 1
                self._makers.notify_all()

    def _populate(self, zone: str) -> None:
        """Give a zone's Toxiproxy its proxies, as soon as it answers."""
        deadline = Deadline(_TOXIPROXY_TIMEOUT)
        with contextlib.closing(ToxiproxyClient(self.toxiproxy(zone))) as server:
            while True:
                try:
                    server.populate(self._proxies(zone))
                    return
                except ToxiproxyError as error:
                    if error.status or deadline.expired:
                        raise StartError(
                            f"the proxies of zone {zone} can't be made: {error}"
                        ) from error
                    time.sleep(_POLL)

    def _create_volume(self) -> None:
        with self._making():
            self._client.client.volumes.create(self._run, labels=self._labels)

    def _create_network(self) -> None:
        # Published ports work, but nothing finds its way out: no address is translated.
        options = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
        with self._making():
            self._client.client.networks.create(
                self._run, labels=self._labels, check_duplicate=True, options=options
            )

    def _create_pod(self, zone: str) -> "Container":
        from docker.types import EndpointConfig

        ports = self._ports[zone]
        published = {
            ports.redis: ports.redis,
            ports.memcached: ports.memcached,
            TOXIPROXY_PORT: ports.toxiproxy,
            REDIS_PORT: ports.redis_admin,
            MEMCACHED_PORT: ports.memcached_admin,
        }
        interface = "127.0.0.1" if self._host == "127.0.0.1" else "0.0.0.0"  # noqa: S104  # remote
        pod = f"pod-{zone}"
        version = self._client.client.api.api_version
        return self._create(
            pod,
            self._settings.toxiproxy_image,
            ["-host=0.0.0.0"],
            network=self._run,
            networking_config={self._run: EndpointConfig(version, aliases=[pod])},
            hostname=pod,
            ports={f"{inside}/tcp": (interface, outside) for inside, outside in published.items()},
        )

    def _create_member(self, node: Node, pod: "Container") -> "Container":
        files = f"{_FILES}/{node.name}"
        if node.service is Service.REDIS:
            server = "valkey-server" if self._settings.engine == "valkey" else "redis-server"
            image, command = self._settings.server_image, [server, f"{files}/redis.conf"]
        else:
            # Its limit of connections stays at the image's: a higher one than the engine's limit
            # of open files keeps the server from starting.
            tls = f"ssl_chain_cert={files}/cert.pem,ssl_key={files}/key.pem"
            image = self._settings.memcached_image
            megabytes = max(1, node.max_memory // 2**20)
            command = ["memcached", "-m", str(megabytes), "-Z", "-o", tls]
        return self._create(node.name, image, command, network_mode=f"container:{pod.id}")

    def _create(self, part: str, image: str, command: list[str], **options: Any) -> "Container":
        from docker.types import LogConfig

        # `network` is always given: without it testcontainers would look for one to join.
        with self._making():
            return self._client.create(
                image,
                command=command,
                name=f"{self._run}-{part}",
                labels={**self._labels, PART_LABEL: part},
                log_config=LogConfig(type="json-file", config={"max-size": "16m"}),
                volumes={self._run: {"bind": _FILES, "mode": "rw"}},
                **{"network": None, **options},
            )

    def _files(self) -> dict[str, tuple[int, str | bytes]]:
        """What the volume holds, by path: the owner's uid and the content."""
        announced = {
            node.name: Announced(self._ports[node.zone].redis, self._ports[node.zone].bus)
            for node in self._topology.redis
        }
        known = nodes_conf(self._topology, announced)
        hostname = self._settings.advertise_host or (
            None if self._host == "127.0.0.1" else self._host
        )
        files: dict[str, tuple[int, str | bytes]] = {}
        for node in self._topology.nodes:
            uid = _SERVER_UID if node.service is Service.REDIS else _MEMCACHED_UID
            certificate = self._ca.issue(node.name)
            files[f"{node.name}/ca.pem"] = uid, self._ca.pem
            files[f"{node.name}/cert.pem"] = uid, certificate.chain
            files[f"{node.name}/key.pem"] = uid, certificate.key
            if node.service is Service.REDIS:
                folder = f"{_FILES}/{node.name}"
                files[f"{node.name}/nodes.conf"] = uid, known[node.name]
                files[f"{node.name}/redis.conf"] = (
                    uid,
                    redis_conf(
                        node,
                        announced[node.name],
                        self._credentials,
                        directory=folder,
                        hostname=hostname,
                    ),
                )
        return files

    def _proxies(self, zone: str) -> list[dict[str, str]]:
        """What a zone's Toxiproxy carries, as its API takes it."""
        return [
            {"name": link.name, "listen": self._listen(link), "upstream": self._upstream(link)}
            for link in self._topology.links
            if link.home == zone
        ]

    def _listen(self, link: Link) -> str:
        ports = self._ports[link.target_zone]
        port = {
            Service.REDIS: ports.redis,
            Service.BUS: ports.bus,
            Service.MEMCACHED: ports.memcached,
        }[link.service]
        # The engine forwards a published port to the pod's address on the network.
        return f"{'0.0.0.0' if link.source == CLIENT else '127.0.0.1'}:{port}"  # noqa: S104

    def _upstream(self, link: Link) -> str:
        port = {
            Service.REDIS: REDIS_PORT,
            Service.BUS: BUS_PORT,
            Service.MEMCACHED: MEMCACHED_PORT,
        }[link.service]
        return f"{'127.0.0.1' if link.source == CLIENT else f'pod-{link.target_zone}'}:{port}"

    def _form(self) -> None:
        deadline = Deadline(self._settings.start_timeout_seconds)
        tls = client_context(self._ca.pem)
        admin = NodeClients(self.admin, ADMIN_USER, self._credentials.admin_password, tls)
        try:
            Cluster(self._topology, admin).form(
                self._topology.primary, int(self._settings.node_timeout_seconds * 1000), deadline
            )
        except NotReady as error:
            raise NotReady(
                f"{error} after {self._settings.start_timeout_seconds:g} s. "
                f"The tail of its log:\n{self.logs(error.node)}\n"
                "A slow machine may need a higher start_timeout_seconds.",
                error.node,
            ) from error
        finally:
            admin.close()

    def _explain(self, error: BaseException) -> BaseException:
        """The engine's error as ours, with the next step, where there is one."""
        text = str(getattr(error, "explanation", None) or error)
        if "port is already allocated" in text or "address already in use" in text:
            return PortTaken(f"{text}. Stop what uses the port, or start again for other ports.")
        if "is already in use" in text or "already exists" in text:
            return NameInUse(
                f"a topology named {self._run.removeprefix('cachesim-')!r} is running already. "
                "Choose another name, or take it down first."
            )
        if isinstance(error, StartError) or not isinstance(error, Exception):
            return error
        return StartError(f"the engine refused: {text}")

    # --- node verbs -------------------------------------------------------------------------

    def state(self, node: str) -> NodeState:
        """What the engine says of the container."""
        container = self._containers[node]
        container.reload()
        if container.status == "paused":
            return NodeState.PAUSED
        return NodeState.RUNNING if container.status == "running" else NodeState.STOPPED

    def kill(self, *nodes: str) -> None:
        """SIGKILL to the containers, side by side."""
        _side_by_side(lambda n: self._tolerate("not running", self._containers[n].kill), nodes)

    def shut_down(self, node: str) -> None:
        """SIGTERM, and SIGKILL after 5 s."""
        self._containers[node].stop(timeout=5)

    def pause(self, *nodes: str) -> None:
        """Freeze the containers, side by side."""
        _side_by_side(lambda n: self._tolerate("already paused", self._containers[n].pause), nodes)

    def resume(self, node: str) -> None:
        """Let a frozen container go on."""
        self._tolerate("not paused", self._containers[node].unpause)

    def run(self, node: str) -> None:
        """Start the container again, with its volume."""
        self._containers[node].start()

    def truncate_aof(self, node: str, size: int) -> None:
        """Cut the last part of the append-only file in the container's volume."""
        container = self._containers[node]
        stream, _ = container.get_archive(_AOF_FOLDER)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            parts = {m.name: m for m in archive if m.name.endswith((".aof", ".rdb"))}
            growing = [m for name, m in parts.items() if name.endswith(".incr.aof")]
            lost = sum(m.size for m in parts.values()) - size
            if lost <= 0 or not growing:
                return
            last = max(growing, key=lambda m: m.mtime)
            content = archive.extractfile(last)
            kept = content.read(max(0, last.size - lost)) if content else b""
        container.put_archive("/data", _archive({last.name: (last.uid, kept)}))

    def logs(self, node: str, lines: int = 50) -> str:
        """The tail of the container's output."""
        return self._containers[node].logs(tail=lines).decode(errors="replace")

    @staticmethod
    def _tolerate(message: str, verb: Callable[[], object]) -> None:
        from docker.errors import APIError

        try:
            verb()
        except APIError as error:
            # Repeating a verb is harmless.
            if message not in str(error.explanation):
                raise


def connect() -> "DockerClient":
    """The engine that the environment or the present Docker context names.

    Raises:
        BackendUnavailable: none answers.
    """
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    where = get_docker_host() or "unix:///var/run/docker.sock"
    try:
        _knock(where)
        return DockerClient()
    except (DockerException, OSError) as error:
        raise BackendUnavailable(
            f"no Docker engine answers at {where}: {error}. Start Docker, or point DOCKER_HOST or "
            "`docker context use` to a running engine."
        ) from error


def _knock(host: str) -> None:
    """Try the engine's socket first: where nothing listens, the Docker SDK leaves its own open."""
    address = urlsplit(host)
    if address.scheme == "unix" and hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as knocker:
            knocker.settimeout(_KNOCK_TIMEOUT)
            knocker.connect(address.path)
    elif address.scheme in ("tcp", "http", "https") and address.hostname:
        port = address.port or (2376 if address.scheme == "https" else 2375)
        socket.create_connection((address.hostname, port), _KNOCK_TIMEOUT).close()


def remove_run(client: "DockerClient", run_id: str) -> None:
    """Remove all containers, networks and volumes of a run, also what comes up meanwhile.

    Raises:
        CachesimError: something of it is in use by others.
    """
    from docker.errors import APIError

    api, mine = client.client.api, {"label": f"{ID_LABEL}={run_id}"}
    deadline = Deadline(_REMOVAL_LIMIT)
    while True:
        containers = [item["Id"] for item in api.containers(all=True, filters=mine)]
        networks = [item["Id"] for item in api.networks(filters=mine)]
        volumes = [item["Name"] for item in api.volumes(filters=mine)["Volumes"] or []]
        if not (containers or networks or volumes):
            return
        try:
            _side_by_side(
                lambda it: _remove(api.remove_container, it, force=True, v=True), containers
            )
            for network in networks:
                _remove(api.remove_network, network)
            for volume in volumes:
                _remove(api.remove_volume, volume)
        except APIError as error:
            # Another process may be removing it too, and not be done.
            if deadline.expired:
                raise CachesimError(
                    f"not all could be removed: {error.explanation or error}. Remove what uses it, "
                    "then `cachesim gc`."
                ) from error
            time.sleep(_PAUSE)


def remove_orphans(client: "DockerClient") -> list[str]:
    """Remove the runs whose owner has ended, and nothing else.

    Returns:
        The names of their topologies.
    """
    api, all_runs = client.client.api, {"label": [ID_LABEL, OWNER_LABEL]}
    found = [
        *api.containers(all=True, filters=all_runs),
        *api.networks(filters=all_runs),
        *(api.volumes(filters=all_runs)["Volumes"] or []),
    ]
    runs = {item["Labels"][ID_LABEL]: item["Labels"] for item in found}
    removed = []
    for run_id, labels in runs.items():
        owner = Owner.parse(labels[OWNER_LABEL])
        if owner is not None and owner.is_gone:
            remove_run(client, run_id)
            removed.append(labels[RUN_LABEL].removeprefix("cachesim-"))
    return removed


def _remove(verb: Callable[..., object], item: str, **options: bool) -> None:
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        verb(item, **options)


def _side_by_side(verb: Callable[[Any], None], items: Iterable[Any]) -> None:
    todo = list(items)
    try:
        with ThreadPoolExecutor(max(1, len(todo))) as pool:
            list(pool.map(verb, todo))
    except RuntimeError:
        # An interpreter that is ending starts no threads any more.
        for item in todo:
            verb(item)


def host_of(client: "DockerClient") -> str:
    """Where an engine publishes ports: 127.0.0.1 if it is local."""
    host = client.host()
    return "127.0.0.1" if host in ("localhost", "127.0.0.1", "::1") else host


def _draw_ports(topology: Topology) -> dict[str, _Ports]:
    """Free ports, all held until all are drawn so that none is drawn twice."""
    with contextlib.ExitStack() as held:

        def free() -> int:
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

        return {
            zone.name: _Ports(free(), free(), free(), free(), free(), free())
            for zone in topology.zones
        }


def _archive(files: Mapping[str, tuple[int, str | bytes]]) -> bytes:
    """A tar archive of files (uid, content) and their folders, for their owners alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, uid: int, mode: int, content: bytes | None) -> None:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.mode, entry.uid, entry.gid, entry.mtime = mode, uid, uid, int(time.time())
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))

        for name, uid in {name.rpartition("/")[0]: uid for name, (uid, _) in files.items()}.items():
            add(name, uid, 0o700, None)
        for name, (uid, content) in files.items():
            add(name, uid, 0o600, content.encode() if isinstance(content, str) else content)
    return buffer.getvalue()
