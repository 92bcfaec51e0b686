"""Statuses of a topology, as its process would tell them."""

from typing import Any

from cachesim.faults.catalogue import CATALOGUE
from cachesim.runs.calls import Status
from cachesim.topology import Topology, production

TOPOLOGY: Topology = production()


def status(*faults: dict[str, Any], **values: Any) -> Status:
    """Return a status with these faults, whose ids count from 1.

    Args:
        faults: in their JSON form.
        values: further fields of the status; `states`: of nodes by name, others are running.
    """
    specs = [CATALOGUE.read(it).resolve(TOPOLOGY) for it in faults]
    states = values.pop("states", {})
    found: Status = {
        "name": "demo",
        "backend": "embedded",
        "folder": None,
        "engine": "redis",
        "speed": 30.0,
        "seed": 7,
        "pid": 1,
        "uptime_seconds": 2.0,
        "owned_by": None,
        "leased_by": None,
        "control_plane": "available",
        "nodes": [
            {
                "name": node.name,
                "zone": node.zone,
                "role": {"redis-a": "primary", "redis-b": "replica", "redis-c": "replica"}.get(
                    node.name
                ),
                "state": states.get(node.name, "running"),
                "endpoint": "127.0.0.1:17000",
            }
            for node in TOPOLOGY.nodes
        ],
        "faults": [
            {
                "id": str(number),
                "kind": spec.kind,
                "target": spec.target,
                "fault": spec.as_dict(),
                "seconds": None,
            }
            for number, spec in enumerate(specs, 1)
        ],
        "toxiproxy": {},
    }
    return {**found, **values}  # type: ignore[typeddict-item]
