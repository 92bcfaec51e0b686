"""The topology in containers of its own, which live as long as this process.

Addresses, commands and files are those of `cachesim.backends.address_plan`.
"""

import contextlib
import secrets
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cachesim.backends.address_plan import (
    FILES,
    LOG_OPTIONS,
    NETWORK_OPTIONS,
    PART_LABEL,
    TOXIPROXY_COMMAND,
    Plan,
    ZonePorts,
    auth_files,
    certificate_files,
    check_for_pods,
    pod_name,
    port_name,
    server_command,
    with_owners,
)
from cachesim.backends.base import Progress, host_for_clients
from cachesim.backends.containers.changes import ChangingContainers
from cachesim.backends.containers.cleanup import (
    ID_LABEL,
    OWNER_LABEL,
    RUN_LABEL,
    remove_orphans,
    remove_run,
    start_reaper,
    with_reaper_labels,
)
from cachesim.backends.containers.engine import (
    answering,
    connect,
    explained,
    lost,
    tar_archive,
)
from cachesim.backends.ports import check_free, fixed_ports, free_zone_ports
from cachesim.clock import Deadline
from cachesim.errors import (
    CachesimError,
    ImageMissing,
    NameInUse,
    NotReady,
    PortTaken,
    StartError,
)
from cachesim.runs.owner import Owner
from cachesim.servers.admin import NodeClients
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.clients import preload
from cachesim.servers.credentials import ADMIN_USER, Credentials
from cachesim.servers.memcached_config import MEMCACHED_PORT
from cachesim.servers.redis_cluster import Cluster
from cachesim.servers.redis_config import can_tell_zone, random_node_ids
from cachesim.settings import Settings
from cachesim.topology import Node, Service, Topology

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

    from cachesim.backends.node_listeners import NodeListeners


_ATTEMPTS = 3  # a port that was free when it was chosen may be taken when it is used


class DockerBackend(ChangingContainers):
    """Nine containers, a network and a volume, labelled with the process that owns them.

    Args:
        name: the topology's name, part of each container's name.
        ca: must certify the settings' `advertise_host`.
        endpoints: the ports of the configuration endpoints, which are this process's, by name.
        listeners: those before the Memcached nodes, if these shall answer `config get cluster`.
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
        endpoints: Mapping[str, int] | None = None,
        listeners: "NodeListeners | None" = None,
    ) -> None:
        super().__init__(client or connect(), listeners)
        self._endpoints = endpoints or {}
        self._prefix = f"cachesim-{name}"
        self._topology = topology
        self._settings = settings
        self._client_host = host_for_clients(settings.advertise_host, self._host)
        self._node_timeout_ms = int(settings.node_timeout_seconds * 1000)
        self._credentials = self._issued = credentials
        self._ca = self._issuer = ca
        self._creations = threading.Condition()
        self._pending_creations = 0
        self._is_stopping = False
        # Not the name: another topology may have the same one, and must not be removed with this.
        self._id = secrets.token_hex(8)
        self._labels = {
            RUN_LABEL: self._prefix,
            ID_LABEL: self._id,
            OWNER_LABEL: str(Owner.current()),
        }

    # --- life -------------------------------------------------------------------------------

    @answering()
    def start(self, progress: Progress) -> None:
        """Start nine containers and form the cluster. See `Backend.start`."""
        if self._host != "127.0.0.1":
            warnings.warn(
                f"the Docker engine is remote: nodes are published on every interface of "
                f"{self._host}, protected by TLS and the AUTH token, Toxiproxy's API unprotected",
                stacklevel=2,
            )
        try:
            ports = fixed_ports(self._settings.ports, self._topology)
            check_for_pods(ports)
            if self._host == "127.0.0.1":
                check_free({k: port for k, port in ports.items() if k not in self._endpoints})
            progress("checking images")
            self._check_images()
            with contextlib.suppress(CachesimError):  # a failed clean-up does not stop the start
                remove_orphans(self._client)
            # In the background, as it takes more than a second.
            threading.Thread(target=start_reaper, args=[self._client]).start()
            progress("starting nine containers in three zones")
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._start_containers()
                    break
                except PortTaken:
                    self.stop()
                    if attempt == _ATTEMPTS:
                        raise
            progress("forming the cluster")
            self._form_cluster()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the run's containers, volumes and network, and close the connections."""
        with self._creations:
            self._is_stopping = True
            self._creations.wait_for(lambda: not self._pending_creations)
        try:
            self._stop_listening(*self._behind)
            remove_run(self._client, self._id)
            self._containers.clear()
        finally:
            super().stop()

    def _check_images(self) -> None:
        from docker.errors import APIError, DockerException, ImageNotFound

        for key in (f"{self._settings.engine}_image", "memcached_image", "toxiproxy_image"):
            image = getattr(self._settings, key)
            instead = f"name another one with the setting {key}, or use the embedded backend."
            try:
                self._client.client.images.get(image)
            except ImageNotFound as missing:
                try:
                    if self._settings.pull_images == "never":
                        raise missing
                    self._client.client.images.pull(image)
                except DockerException as error:
                    raise ImageMissing(
                        f"image {image} is not present and could not be pulled: "
                        f"{explained(error)}. Run `docker pull {image}`, {instead}"
                    ) from error
            except APIError as error:
                raise ImageMissing(
                    f"image {image} can't be used: {explained(error)}. Instead, {instead}"
                ) from error

    def _start_containers(self) -> None:
        ports, behind = self._ports(), self._ports_behind()
        self._plan = Plan(self._topology, ports, self._host, self._endpoints, behind=behind)
        self._is_stopping = False
        workers = 1 + len(self._topology.nodes) + 2 * len(self._topology.zones)
        with ThreadPoolExecutor(workers) as pool:
            pool.submit(preload)
            listening = pool.submit(self._listen_first)
            network = pool.submit(self._create_network)
            # Nothing is created in this thread: an interrupt would not wait for the creation.
            volume = pool.submit(self._create_volume)

            def create_pod(zone: str) -> "Container":
                network.result()
                volume.result()
                return self._create_pod(zone)

            pods = {z.name: pool.submit(create_pod, z.name) for z in self._topology.zones}

            def start_pod(zone: str) -> None:
                pod = pods[zone].result()
                pod.start()
                self._containers[pod_name(zone)] = pod
                self._create_proxies(zone)

            started = {z.name: pool.submit(start_pod, z.name) for z in self._topology.zones}

            def create_node(node: Node) -> "Container":
                # It can be created while its pod starts, but not started before it.
                return self._create_node(node, pods[node.zone].result())

            nodes = {n.name: pool.submit(create_node, n) for n in self._topology.nodes}
            # All files in one call, as a call takes 60 ms. Any container with the volume will do.
            archive = pool.submit(tar_archive, self._files())
            first = self._topology.redis[0].name
            filled = pool.submit(lambda: nodes[first].result().put_archive(FILES, archive.result()))

            def start_node(node: Node) -> None:
                started[node.zone].result()
                filled.result()
                container = nodes[node.name].result()
                container.start()
                self._containers[node.name] = container

            steps: list[Future[Any]] = [
                listening,
                network,
                volume,
                *pods.values(),
                *started.values(),
                *nodes.values(),
                archive,
                filled,
                *(pool.submit(start_node, node) for node in self._topology.nodes),
            ]
            errors = [step.exception() for step in steps]
        if error := next(filter(None, errors), None):
            raise self._translated(error) from error

    def _ports(self) -> dict[str, ZonePorts]:
        fixed = fixed_ports(self._settings.ports, self._topology)

        def chosen(zone: str, free: ZonePorts) -> ZonePorts:
            kinds = {
                kind: fixed.get(port_name(kind, zone), port) for kind, port in vars(free).items()
            }
            return ZonePorts(**kinds)

        return {zone: chosen(zone, free) for zone, free in free_zone_ports(self._topology).items()}

    @contextlib.contextmanager
    def _creation(self) -> Iterator[None]:
        """Make `stop` wait for the end of a creation. After `stop`, a creation fails.

        If an interrupt comes while a pool starts a worker thread, the pool does not wait for it.
        """
        with self._creations:
            if self._is_stopping:
                raise StartError("the start was interrupted")
            self._pending_creations += 1
        try:
            yield
        finally:
            with self._creations:
                self._pending_creations -= 1
                self._creations.notify_all()

    def _create_volume(self) -> None:
        with self._creation():
            self._client.client.volumes.create(
                self._prefix, labels=with_reaper_labels(self._labels)
            )

    def _create_network(self) -> None:
        with self._creation():
            self._client.client.networks.create(
                self._prefix,
                labels=with_reaper_labels(self._labels),
                check_duplicate=True,
                options=NETWORK_OPTIONS,
            )

    def _create_pod(self, zone: str) -> "Container":
        from docker.types import EndpointConfig

        published = self._plan.published(zone)
        pod = pod_name(zone)
        version = self._client.client.api.api_version
        return self._create(
            pod,
            self._settings.toxiproxy_image,
            TOXIPROXY_COMMAND,
            network=self._prefix,
            networking_config={self._prefix: EndpointConfig(version, aliases=[pod])},
            hostname=pod,
            sysctls=self._plan.sysctls(),
            ports={
                f"{inside}/tcp": (self._interface, outside) for inside, outside in published.items()
            },
        )

    def _create_node(self, node: Node, pod: "Container", port: int = MEMCACHED_PORT) -> "Container":
        redis = node.service is Service.REDIS
        image = self._settings.server_image if redis else self._settings.memcached_image
        command = server_command(node, self._settings.engine, port)
        return self._create(node.name, image, command, network_mode=f"container:{pod.id}")

    def _create(self, part: str, image: str, command: Sequence[str], **options: Any) -> "Container":
        from docker.types import LogConfig

        # Without `network` testcontainers would look for one to join.
        with self._creation():
            return self._client.create(
                image,
                command=list(command),
                name=f"{self._prefix}-{part}",
                labels={**self._labels, PART_LABEL: part},
                log_config=LogConfig(type="json-file", config=LOG_OPTIONS),
                volumes={self._prefix: {"bind": FILES, "mode": "rw"}},
                **{"network": None, **options},
            )

    def _files(self) -> dict[str, tuple[int, str | bytes]]:
        """Return the files of the volume by path, each as its owner's uid and its content."""
        files: dict[str, str | bytes] = {
            **certificate_files(self._topology, self._ca),
            **auth_files(self._topology, self._credentials),
            **self._redis_files(),
        }
        return with_owners(self._topology, files)

    def _redis_files(self) -> dict[str, str]:
        """Return the Redis nodes' files without secrets, with the ids of new nodes."""
        hostname = self._settings.advertise_host or (
            None if self.host == "127.0.0.1" else self.host
        )
        return self._plan.redis_files(
            hostname=hostname,
            node_timeout_ms=self._node_timeout_ms,
            ids=random_node_ids(self._topology),
            tells_zone=can_tell_zone(self._settings.engine, self._settings.server_image),
        )

    def _form_cluster(self) -> None:
        deadline = Deadline(self._settings.start_timeout_seconds)
        tls = client_context(self._ca.pem)
        admin = NodeClients(self.admin, ADMIN_USER, self._credentials.admin_password, tls)
        try:
            for shard in self._topology.shards:
                Cluster(shard, admin).form(shard.first_primary, self._node_timeout_ms, deadline)
        except NotReady as error:
            raise NotReady(
                f"{error} after {self._settings.start_timeout_seconds:g} s. "
                f"The tail of its log:\n{self.logs(error.node)}\n"
                "A slow machine may need a higher start_timeout_seconds.",
                error.node,
            ) from error
        finally:
            admin.close()

    def _translated(self, error: BaseException) -> BaseException:
        """Return a Docker error as a cachesim error, with a next step if known."""
        if (it := lost(error)) is not None:
            return it
        text = explained(error)
        if "port is already allocated" in text or "address already in use" in text:
            return PortTaken(f"{text}. Stop what uses the port, or start again for other ports.")
        if "is already in use" in text or "already exists" in text:
            name = self._prefix.removeprefix("cachesim-")
            return NameInUse(
                f"a topology named {name!r} is running already. Choose another name, or take it "
                f"down first: `cachesim down --name {name}`."
            )
        if isinstance(error, StartError) or not isinstance(error, Exception):
            return error
        return StartError(f"the Docker engine refused: {text}. `cachesim doctor` checks it.")
