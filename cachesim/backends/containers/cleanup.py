"""Removing a run's containers, networks and volumes, and what dead processes left behind."""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachesim.backends.containers.engine import answering, explained, in_parallel
from cachesim.clock import Deadline
from cachesim.errors import CachesimError
from cachesim.runs.owner import Owner

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

RUN_LABEL = "cachesim.run"
"""The label with the run's name, `cachesim-` and the topology's name."""
ID_LABEL = "cachesim.id"
"""The label with the run's id. Two runs may have the same name; the id tells them apart."""
OWNER_LABEL = "cachesim.owner"
"""The label with the process that owns the run."""

_REMOVAL_TIMEOUT = 30.0  # seconds
_RETRY_INTERVAL = 0.05  # seconds between two tries to remove what is in use


@answering()
def remove_run(client: "DockerClient", run_id: str) -> None:
    """Remove all containers, networks and volumes of a run, also those created meanwhile.

    Raises:
        BackendUnavailable: the engine does not answer any more.
        CachesimError: some of it is still in use.
    """
    from docker.errors import APIError

    api, of_run = client.client.api, {"label": f"{ID_LABEL}={run_id}"}
    deadline = Deadline(_REMOVAL_TIMEOUT)
    while True:
        containers = [item["Id"] for item in api.containers(all=True, filters=of_run)]
        networks = [item["Id"] for item in api.networks(filters=of_run)]
        volumes = [item["Name"] for item in api.volumes(filters=of_run)["Volumes"] or []]
        if not (containers or networks or volumes):
            return
        try:
            in_parallel(
                lambda it: _remove(api.remove_container, it, force=True, v=True), containers
            )
            for network in networks:
                _remove(api.remove_network, network)
            for volume in volumes:
                _remove(api.remove_volume, volume)
        except APIError as error:
            # Another process may be removing the same run.
            if deadline.expired:
                raise CachesimError(
                    f"not everything could be removed: {explained(error)}. Remove what "
                    "uses it, then run `cachesim gc`."
                ) from error
            time.sleep(_RETRY_INTERVAL)


@answering()
def remove_orphans(client: "DockerClient") -> list[str]:
    """Remove the runs whose owner has ended, and nothing else.

    Returns:
        The names of their topologies.

    Raises:
        BackendUnavailable: the engine does not answer any more.
        CachesimError: some of it is still in use.
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


def start_reaper(client: "DockerClient") -> None:
    """Let testcontainers' reaper remove what a killed process leaves, some seconds later.

    It is started only if its image is present. Without it, `remove_orphans` removes the same.
    """
    from testcontainers.core.config import testcontainers_config

    if testcontainers_config.ryuk_disabled:
        return
    with contextlib.suppress(Exception):  # it is optional
        client.client.images.get(testcontainers_config.ryuk_image)
        from testcontainers.core.container import Reaper

        Reaper.get_instance()


def with_reaper_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return `labels` plus those that the reaper looks for."""
    from testcontainers.core.labels import create_labels

    return create_labels("", labels)


def _remove(verb: Callable[..., object], item: str, **options: bool) -> None:
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        verb(item, **options)
