"""The topology in containers that `docker compose` created from a folder and owns.

`cachesim.backends.compose.folder` writes the folder.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.backends.address_plan import PART_LABEL, pod_name
from cachesim.backends.base import Progress, host_for_clients
from cachesim.backends.compose.folder import compose_command, read_folder
from cachesim.backends.containers.engine import connect
from cachesim.backends.containers.nodes import ContainerNodes
from cachesim.clock import Deadline
from cachesim.errors import CachesimError, NotReady, StartError, ToxiproxyError, ToxiproxyTimeout
from cachesim.servers.admin import NodeClients
from cachesim.servers.certificates import client_context
from cachesim.servers.credentials import ADMIN_USER
from cachesim.servers.redis_cluster import Cluster
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

_FOLDER_LABEL = "com.docker.compose.project.working_dir"
_NOT_BY_RUN = "com.docker.compose.oneoff=False"


class ComposeBackend(ContainerNodes):
    """Containers that `docker compose` created and owns. cachesim never removes them.

    Args:
        folder: the folder that `cachesim compose` wrote.
        start_timeout: seconds that the cluster may take to become healthy.

    Raises:
        StartError: `cachesim compose` did not write the folder, or it has no secrets.
        BackendUnavailable: no Docker engine answers.

    Attributes:
        composed: the contents of the folder.
    """

    name = "compose"

    def __init__(
        self, folder: Path, start_timeout: float = 60.0, client: "DockerClient | None" = None
    ) -> None:
        self.composed = read_folder(folder)
        super().__init__(client or connect())
        self._plan = self.composed.plan
        advertised = self.composed.settings["advertise_host"]
        self._client_host = host_for_clients(advertised, self._host)
        self._start_timeout = start_timeout

    @property
    def endpoint_ports(self) -> Mapping[str, int]:
        """The ports of the configuration endpoints, by name."""
        return self._plan.endpoints

    def start(self, progress: Progress) -> None:
        """Find the containers, heal their links and their cluster. See `Backend.start`.

        This undoes what a dead control plane left: toxics, disabled proxies, and a primary that is
        not the first one.

        Raises:
            StartError: containers are missing or not running, or could not be healed.
        """
        if self.host != "127.0.0.1":
            raise StartError(
                f"the Docker engine is remote ({self.host}) and publishes a composed topology on "
                "that machine's 127.0.0.1. Run this command there."
            )
        progress("looking for the composed containers")
        self._containers = self._find()
        progress("healing the links")
        for zone in self._plan.topology.zones:
            self._heal_links(zone.name)
        with contextlib.suppress(ToxiproxyError):  # the folder was written without endpoints
            self.lead_zones_to(self._plan.topology.shards[0].first_primary)
        progress("checking the cluster")
        self._heal_cluster()

    def _find(self) -> "dict[str, Container]":
        """Return the folder's running containers by the name of their node or pod.

        Raises:
            StartError: some are missing or not running.
        """
        folder, topology = self.composed.path, self._plan.topology
        candidates = self._client.client.containers.list(
            all=True,
            ignore_removed=True,
            filters={"label": [PART_LABEL, _FOLDER_LABEL, _NOT_BY_RUN]},
        )
        # Running ones last, to replace those that another project of this folder has left.
        found = {
            container.labels[PART_LABEL]: container
            for container in sorted(candidates, key=lambda c: c.status == "running")
            if Path(container.labels[_FOLDER_LABEL]).resolve() == folder
        }
        compose = compose_command(folder)
        if not found:
            raise StartError(f"{folder} is not up. Bring it up with `{compose} up -d --wait`.")
        parts = *(pod_name(z.name) for z in topology.zones), *(n.name for n in topology.nodes)
        states = {part: found[part].status if part in found else "missing" for part in parts}
        if paused := [part for part, state in states.items() if state == "paused"]:
            raise StartError(
                f"containers of {folder} are paused: {', '.join(paused)}. "
                f"Resume them with `{compose} unpause`."
            )
        if down := [f"{part} ({state})" for part, state in states.items() if state != "running"]:
            raise StartError(
                f"containers of {folder} are not running: {', '.join(down)}. "
                f"Bring them up with `{compose} up -d --wait`."
            )
        return found

    def _heal_links(self, zone: str) -> None:
        url = self.toxiproxy(zone)
        with contextlib.closing(ToxiproxyClient(url)) as server:
            try:
                try:
                    server.reset()
                except ToxiproxyTimeout:
                    # A receiver does not read. Only a new Toxiproxy helps.
                    self.renew_toxiproxy(zone)
                present = server.proxies().keys()
                if missing := [p for p in self._plan.proxies(zone) if p["name"] not in present]:
                    server.populate(missing)
            except CachesimError as error:
                raise StartError(
                    f"the links of zone {zone} can't be healed: {error}. "
                    f"Restart everything with `{compose_command(self.composed.path)} restart`."
                ) from error

    def _heal_cluster(self) -> None:
        """Make the cluster healthy under its first primary, and change nothing if it is."""
        composed = self.composed
        tls = client_context(composed.ca)
        admin = NodeClients(self.admin, ADMIN_USER, composed.credentials.admin_password, tls)
        node_timeout_ms = int(composed.settings["node_timeout_seconds"] * 1000)
        deadline = Deadline(self._start_timeout)
        try:
            for shard in self._plan.topology.shards:
                Cluster(shard, admin).converge(shard.first_primary, node_timeout_ms, deadline)
        except NotReady as error:
            raise NotReady(
                f"{error} after {self._start_timeout:g} s. "
                f"The tail of its log:\n{self.logs(error.node)}\n"
                "If the folder was written again since it was brought up, run "
                f"`{compose_command(self.composed.path)} up -d --wait --force-recreate`.",
                error.node,
            ) from error
        finally:
            admin.close()
