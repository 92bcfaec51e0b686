"""How clients find and reach nodes, and who has to know when one moves, is added or removed."""

from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.events import Event
from cachesim.scenarios.running.address_witnesses import Ways
from cachesim.scenarios.running.attempts import Access
from cachesim.scenarios.running.beats import Beats
from cachesim.scenarios.running.operations import Workload
from cachesim.topology import Endpoint, Service, endpoint_name

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator


def ways_of(sim: "Simulator", beats: Beats) -> Ways:
    """Return how clients of a topology find its nodes."""
    found = sim.control_plane.endpoints.items()
    endpoints = {endpoint_name(Service(service)): address for service, address in found}
    timing = sim.control_plane.timing
    return Ways(beats, endpoints, beats.tls, timing.dns_ttl[1] / timing.speed)


def access_of(sim: "Simulator", beats: Beats) -> Access:
    """Return how clients reach the nodes of a topology."""
    from cachesim.runs import env as names

    env = sim.env()
    token_file = Path(env[names.REDIS_PASSWORD_FILE])
    return Access(sim.topology, beats.endpoints, env[names.REDIS_PASSWORD], token_file, beats.tls)


def follow(event: Event, beats: Beats, workload: Workload | None) -> None:
    """Let beats go where an event of the topology says that nodes are, and the workload know it.

    Args:
        workload: None: there is none yet.
    """
    known: dict[str, str] = {}
    if event.kind == "moved":
        known = {event.source: event.data["address"]}
    elif event.kind == "scaled":
        known = event.data.get("added", {})
        for node in event.data.get("removed", ()):
            beats.forget(node)
    for node, text in known.items():
        address = Endpoint.parse(text)
        beats.follow(node, address)
        if workload is not None:
            workload.know(node, address)
