"""Where programs on this machine find everything, as from a zone that they are placed in."""

from functools import partial
from typing import TYPE_CHECKING

from cachesim.runs.calls import Seen
from cachesim.topology import Endpoint, Service, endpoint_name

if TYPE_CHECKING:
    from cachesim.daemon.provisioning import Provision


def seen_from(provision: "Provision", zone: str) -> dict[str, Seen]:
    """Return all nodes and configuration endpoints as they are seen from a zone, by name.

    Args:
        zone: its name, such as `a` or `az-a`.

    Raises:
        ValueError: there is no such zone.
        FaultError: nothing here leads to its links.
    """
    zone = provision.topology.zone(zone).name
    configuration = provision.configuration
    seen = _seen(provision, zone)
    placed = configuration.in_zone(zone, partial(_way, provision, zone))
    for service in (Service.REDIS, Service.MEMCACHED):
        name = endpoint_name(service)
        seen[name] = configuration.address(service), placed[name]
    return {
        name: {"announced": str(announced), "seen": str(address)}
        for name, (announced, address) in seen.items()
    }


def _way(provision: "Provision", zone: str, announced: Endpoint) -> Endpoint:
    """Return the address to take from a zone in place of a node's announced one."""
    return dict(_seen(provision, zone).values()).get(announced, announced)


def _seen(provision: "Provision", zone: str) -> dict[str, tuple[Endpoint, Endpoint]]:
    """Return each node's announced address, and the one to take from a zone, by name."""
    backend = provision.backend
    while True:
        nodes = provision.nodes
        try:
            seen = backend.seen_from(zone, nodes)
            return {node: (backend.endpoint(node), address) for node, address in seen.items()}
        except Exception:
            if nodes == provision.nodes:
                raise  # else one was removed meanwhile
