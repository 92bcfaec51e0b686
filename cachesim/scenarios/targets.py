"""The targets of steps: how a file names them, and what they are when a step fires."""

import fnmatch
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from cachesim.faults.fields import Part, unknown
from cachesim.topology import CLIENT, Node, Service, Topology, production

RoleName = Literal["primary", "replica", "best-replica"]
ROLES: tuple[RoleName, ...] = ("primary", "replica", "best-replica")


@dataclass(frozen=True)
class Of:
    """The zone of a node: of a name, or of those that have a role."""

    node: str

    def __str__(self) -> str:
        return f"of {self.node}"


@dataclass(frozen=True)
class Roles:
    """What the Redis nodes are at one moment.

    Attributes:
        primary: its name. None: there is none.
        replicas: the replication offset of each replica, in bytes, by name.
    """

    primary: str | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)

    def having(self, role: str, topology: Topology) -> list[str]:
        """Return the nodes that have a role, in the topology's order.

        The best replica is the one that a failover would promote: the one with the least lag.
        """
        known = {self.primary} if role == "primary" else set(self.replicas)
        found = [node.name for node in topology.redis if node.name in known]
        if role == "best-replica" and found:
            return [max(found, key=lambda name: self.replicas[name])]
        return found


def _names(part: Part) -> list[str]:
    names = part.names(production())
    if part is Part.ZONE:
        return names
    return [*names, Service.REDIS, Service.MEMCACHED] if part is Part.NODE else names


def _checked(value: object, part: Part) -> str:
    names = _names(part)
    if not isinstance(value, str):
        raise ValueError(f"should be the name of a {part}, got {value!r}")
    name = value.removeprefix("az-") if part is Part.ZONE else value
    if not any(fnmatch.fnmatchcase(known, name) for known in names):
        raise ValueError(unknown(part, value, names))
    return name


def _node(value: object) -> str:
    return _checked(value, Part.NODE)


def _link(value: object) -> str:
    return _checked(value, Part.LINK)


def _zone(value: object) -> str | Of:
    if not isinstance(value, dict):
        return _checked(value, Part.ZONE)
    if value.keys() != {"of"}:
        raise ValueError(f"should be a zone, or {{of: primary}}, got {value!r}")
    known = [*ROLES, *(node.name for node in production().nodes)]
    if value["of"] not in known:
        raise ValueError(unknown("role or node", value["of"], known))
    return Of(value["of"])


def _dumped(zones: tuple[str | Of, ...]) -> list[object]:
    return [{"of": it.node} if isinstance(it, Of) else it for it in zones]


def _some(one: Any) -> Any:
    def read(value: object) -> tuple[Any, ...]:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError("should have at least one name")
        return tuple(dict.fromkeys(map(one, items)))

    return read


_TEXT = {"type": "string", "minLength": 1}
_ZONE = {
    "anyOf": [
        {"enum": [*(z.name for z in production().zones), *map(str, production().zones), "*"]},
        {
            "type": "object",
            "properties": {
                "of": {"enum": [*ROLES, *(node.name for node in production().nodes)]},
            },
            "required": ["of"],
            "additionalProperties": False,
        },
    ]
}


def _several(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


_Nodes = Annotated[tuple[str, ...], PlainValidator(_some(_node)), WithJsonSchema(_several(_TEXT))]
_Links = Annotated[tuple[str, ...], PlainValidator(_some(_link)), WithJsonSchema(_several(_TEXT))]
_Zones = Annotated[
    tuple[str | Of, ...],
    PlainValidator(_some(_zone)),
    PlainSerializer(_dumped, return_type=list),
    WithJsonSchema(_several(_ZONE), mode="validation"),
]


class Target(BaseModel):
    """What a fault works on. It is found when the step fires. Keys narrow each other."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    node: _Nodes | None = Field(None, description="A node, by name.")
    nodes: _Nodes | None = Field(
        None, description="Nodes: names, patterns such as `*-b`, `redis` or `memcached`."
    )
    link: _Links | None = Field(None, description="A link, by name.")
    links: _Links | None = Field(
        None, description="Links: names, or patterns such as `client-to-*`."
    )
    zone: _Zones | None = Field(None, description="A zone, or the zone `{of: primary}`.")
    zones: _Zones | None = Field(
        None, description='Zones, in this order: names, `{of: best-replica}`, or `"*"` for all.'
    )
    role: RoleName | None = Field(
        None, description="Only Redis nodes that have this role when the step fires."
    )
    pick: int | None = Field(
        None, ge=1, le=30, description="How many of them, drawn from the seed."
    )

    def names(self, part: Part, topology: Topology, roles: Roles, draw: str) -> tuple[str, ...]:
        """Return the nodes, links or zones that it is now.

        Args:
            part: what the fault works on.
            draw: the seed of `pick`.

        Returns:
            Their names; none if nothing has what is asked for, or fewer than are to be picked.
        """
        match part:
            case Part.ZONE:
                found = self._zones(topology, roles)
            case Part.LINK:
                found = self._links(topology, roles)
            case _:
                found = [node.name for node in self._nodes(topology, roles)]
                if part is Part.REDIS_NODE:
                    redis = Part.REDIS_NODE.names(topology)
                    found = [name for name in found if name in redis]
        if self.pick is None:
            return tuple(found)
        if self.pick > len(found):
            return ()
        return tuple(random.Random(draw).sample(sorted(found), self.pick))

    def __str__(self) -> str:
        return ", ".join(
            f"{key} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
            for key, value in self
            if value is not None
        )

    def _zones(self, topology: Topology, roles: Roles) -> list[str]:
        known = [zone.name for zone in topology.zones]
        found = []
        for wanted in (*(self.zone or ()), *(self.zones or ())):
            if isinstance(wanted, Of):
                is_role = wanted.node in ROLES
                names = roles.having(wanted.node, topology) if is_role else [wanted.node]
                found += [topology.node(name).zone for name in names]
            else:
                found += fnmatch.filter(known, wanted)
        return list(dict.fromkeys(found))

    def _nodes(self, topology: Topology, roles: Roles) -> list[Node]:
        patterns = (*(self.node or ()), *(self.nodes or ())) or ("*",)
        found = [node for node in topology.nodes if _matches(node, patterns)]
        return [node for node in found if self._fits(node.name, topology, roles)]

    def _links(self, topology: Topology, roles: Roles) -> list[str]:
        patterns = (*(self.link or ()), *(self.links or ()))
        nodes = {node.name for node in self._nodes(topology, roles)}
        return [
            link.name
            for link in topology.links
            if link.target in nodes
            and (
                any(fnmatch.fnmatchcase(link.name, pattern) for pattern in patterns)
                if patterns
                else link.source == CLIENT
            )
        ]

    def _fits(self, name: str, topology: Topology, roles: Roles) -> bool:
        if self.role is not None and name not in roles.having(self.role, topology):
            return False
        has_zones = bool(self.zone or self.zones)
        return not has_zones or topology.node(name).zone in self._zones(topology, roles)


def _matches(node: Node, patterns: Iterable[str]) -> bool:
    names = (node.name, str(node.service))
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def why_unfit(given: Iterable[str], part: Part) -> str | None:
    """Return why a fault that works on such parts can't have a target with these keys, or None."""
    keys = set(given)
    if part is Part.ZONE:
        if not keys & {"zone", "zones"}:
            return "should have zone or zones: the fault works on zones"
        wrong = sorted(keys & {"node", "nodes", "link", "links", "role"})
        if wrong:
            return f"has {wrong[0]}, but the fault works on zones: use {{zone: {{of: primary}}}}"
    elif part is not Part.LINK and keys & {"link", "links"}:
        return "has links, but the fault works on nodes"
    if not keys & {"node", "nodes", "link", "links", "zone", "zones", "role"}:
        return "should have one of node, nodes, link, links, zone, zones, role"
    return None
