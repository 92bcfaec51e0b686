"""What is removed: a run's containers, networks and volumes, and what dead processes left."""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachesim.backends.containers.engine import side_by_side
from cachesim.clock import Deadline
from cachesim.errors import (
    CachesimError,
)
from cachesim.runs.owner import Owner

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient


RUN_LABEL = "cachesim.run"


ID_LABEL = "cachesim.id"


OWNER_LABEL = "cachesim.owner"


_REMOVAL_LIMIT = 30.0  # seconds


_PAUSE = 0.05  # seconds between two tries to remove what is in use


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
            side_by_side(
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


def join_reaper(client: "DockerClient") -> None:
    """Have testcontainers' reaper remove what a killed process leaves, some seconds later.

    Only where its image is there already: `remove_orphans` does without.
    """
    from testcontainers.core.config import testcontainers_config

    if testcontainers_config.ryuk_disabled:
        return
    with contextlib.suppress(Exception):  # then there is none
        client.client.images.get(testcontainers_config.ryuk_image)
        from testcontainers.core.container import Reaper

        Reaper.get_instance()


def reaped(labels: dict[str, str]) -> dict[str, str]:
    """Labels with those that testcontainers gives its containers, by which the reaper goes."""
    from testcontainers.core.labels import create_labels

    return create_labels("", labels)


def _remove(verb: Callable[..., object], item: str, **options: bool) -> None:
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        verb(item, **options)
