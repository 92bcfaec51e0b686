"""The state of a topology as one JSON value: for `cachesim top` and for the web page. Pure.

A link is cut in a direction if no data gets through that way, and slow if it comes late. Both are
told from the active faults; what is done to the proxies by hand is not seen.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Literal, NamedTuple, TypedDict

from cachesim.faults import catalogue
from cachesim.faults.fields import Name, Names, Part
from cachesim.faults.spec import FaultSpec
from cachesim.runs.calls import FaultData, Status
from cachesim.topology import CLIENT, ENDPOINTS, Endpoint, Link, NodeState, Topology
from cachesim.toxiproxy.toxics import BOTH, Bandwidth, ResetPeer, Stream, Timeout, Toxic

State = Literal["open", "slow", "partly", "cut"]
"""What gets through: all, all but late, over some links only, nothing."""
_ORDER: tuple[State, ...] = ("open", "slow", "partly", "cut")
_CUTTING = (catalogue.Blackhole, catalogue.Refuse, catalogue.Reset)


class FaultPicture(TypedDict):
    """One active fault, with all that it is on."""

    id: str
    name: str
    kind: str
    target: str
    seconds: float | None
    """Until it is healed; None: it is healed by hand."""
    zones: list[str]
    nodes: list[str]
    links: list[str]
    endpoints: list[str]


class NodePicture(TypedDict):
    """One node."""

    name: str
    zone: str
    service: str
    role: str | None
    state: str
    endpoint: str
    has_power: bool
    faults: list[str]
    """The ids of the faults on it."""


class LinkPicture(TypedDict):
    """One link, by direction."""

    name: str
    source: str
    target: str
    zone: str
    """The target's."""
    service: str
    there: State
    """From the source to the target."""
    back: State
    faults: list[str]


class PathPicture(TypedDict):
    """All links between two places: zones, or a zone and the clients."""

    one: str
    other: str
    there: State
    """From the one to the other."""
    back: State
    links: list[str]
    faults: list[str]


class EndpointPicture(TypedDict):
    """One configuration endpoint, with the link to it."""

    name: str
    service: str
    address: str
    link: str
    there: State
    """From clients to it."""
    back: State
    faults: list[str]
    """The ids of the faults on it and on the link."""


class ZonePicture(TypedDict):
    """One zone."""

    name: str
    has_power: bool
    faults: list[str]
    reach: dict[str, State]
    """How much of each zone's nodes connections from here reach."""


class Picture(TypedDict):
    """The state of a topology."""

    name: str
    backend: str
    engine: str
    speed: float
    seed: int
    leased_by: str | None
    shard: str
    """The states of the shards."""
    primary: str | None
    clients: dict[str, State]
    """How much of each zone's nodes clients reach."""
    zones: list[ZonePicture]
    nodes: list[NodePicture]
    links: list[LinkPicture]
    paths: list[PathPicture]
    endpoints: list[EndpointPicture]
    faults: list[FaultPicture]


class _Touch(NamedTuple):
    """What a fault is on. The links with what gets through, from the source and back."""

    links: Mapping[str, tuple[State, State]]
    nodes: Sequence[str] = ()
    zones: Sequence[str] = ()
    endpoints: Sequence[str] = ()


def picture(
    topology: Topology, status: Status, addresses: Mapping[str, Endpoint] = MappingProxyType({})
) -> Picture:
    """Return the state of a topology.

    Args:
        status: as its process tells it.
        addresses: those of the configuration endpoints, by service.
    """
    touched = {it["id"]: _touch(topology, _spec(it)) for it in status["faults"]}
    dark = {
        zone
        for it in status["faults"]
        if isinstance(_spec(it), catalogue.AzPower)
        for zone in touched[it["id"]].zones
    }
    links = [_link(link, touched) for link in topology.links]
    return {
        "name": status["name"],
        "backend": status["backend"],
        "engine": status["engine"],
        "speed": status["speed"],
        "seed": status["seed"],
        "leased_by": status["leased_by"],
        "shard": status["control_plane"],
        "primary": next((it["name"] for it in status["nodes"] if it["role"] == "primary"), None),
        "clients": _reach(topology, CLIENT, links, dark),
        "zones": [
            {
                "name": zone.name,
                "has_power": zone.name not in dark,
                "faults": [key for key, it in touched.items() if zone.name in it.zones],
                "reach": _reach(topology, zone.name, links, dark),
            }
            for zone in topology.zones
        ],
        "nodes": [
            {
                "name": it["name"],
                "zone": it["zone"],
                "service": str(topology.node(it["name"]).service),
                "role": it["role"],
                "state": it["state"],
                "endpoint": it["endpoint"],
                "has_power": it["zone"] not in dark,
                "faults": [key for key, touch in touched.items() if it["name"] in touch.nodes],
            }
            for it in status["nodes"]
        ],
        "links": links,
        "paths": list(_paths(topology, links)),
        "endpoints": [_endpoint(it, touched, addresses) for it in links if it["zone"] == ENDPOINTS],
        "faults": [_fault(it, touched[it["id"]]) for it in status["faults"]],
    }


def is_up(node: NodePicture) -> bool:
    """Return whether a node's process runs, in a zone with power."""
    return node["has_power"] and node["state"] == NodeState.RUNNING


def worst(states: Iterable[State]) -> State:
    """Return the worst of some states."""
    return max(states, key=_ORDER.index, default="open")


def _spec(fault: FaultData) -> FaultSpec:
    return catalogue.CATALOGUE.read(fault["fault"])


def _touch(topology: Topology, spec: FaultSpec) -> _Touch:
    zones, nodes = _named(spec, Part.ZONE), _named(spec, Part.NODE, Part.REDIS_NODE)
    match spec:
        case catalogue.Partition(a, b, one_way):
            found: dict[str, tuple[State, State]] = {}
            for link in topology.links:
                if link.joins(a, b):
                    forward: tuple[State, State] = ("cut", "open")
                    backward: tuple[State, State] = ("open", "cut")
                    one = forward if link.source == a else backward
                    found[link.name] = one if one_way else ("cut", "cut")
            return _Touch(found, nodes, zones)
        case catalogue.Isolate(zone) | catalogue.AzPower(zone):
            around = [k for k in topology.links if (k.source == zone) != (k.target_zone == zone)]
            return _Touch({link.name: ("cut", "cut") for link in around}, nodes, zones)
        case catalogue.ReplicationLag(_, replicas):
            sources = {topology.node(name).zone for name in replicas or ()}
            late = [k for k in topology.links if k.is_replication and k.source in sources]
            return _Touch({link.name: ("open", "slow") for link in late}, nodes, zones)
        case catalogue.Toxic(on, toxic, streams, toxicity):
            return _Touch(dict.fromkeys(on, _ways(toxic, streams, toxicity)))
    state: State = "cut" if isinstance(spec, _CUTTING) else "slow"
    links = dict.fromkeys(_named(spec, Part.LINK), (state, state))
    return _Touch(links, nodes, zones, _named(spec, Part.ENDPOINT))


def _ways(toxic: Toxic, streams: Sequence[Stream], toxicity: float) -> tuple[State, State]:
    """Return what a toxic lets through, from a link's source and back."""
    match toxic:
        case Timeout() | Bandwidth(rate=0) if toxicity == 1:
            state: State = "cut"
        case ResetPeer() if toxicity == 1:  # the connection has both directions
            return "cut", "cut"
        case _:
            state = "slow"
    there, back = (state if it in streams else "open" for it in BOTH)
    return there, back


def _named(spec: FaultSpec, *parts: Part) -> list[str]:
    """Return the names of parts that a fault has in its fields."""
    found: list[str] = []
    for name, field in spec.fields().items():
        value = getattr(spec, name)
        if isinstance(field, Name) and field.part in parts:
            found.append(value)
        elif isinstance(field, Names) and field.part in parts:
            found += value or ()
    return found


def _fault(it: FaultData, touch: _Touch) -> FaultPicture:
    return {
        "id": it["id"],
        "name": str(it["fault"]["fault"]),
        "kind": it["kind"],
        "target": it["target"],
        "seconds": it["seconds"],
        "zones": list(touch.zones),
        "nodes": list(touch.nodes),
        "links": list(touch.links),
        "endpoints": list(touch.endpoints),
    }


def _link(link: Link, touched: Mapping[str, _Touch]) -> LinkPicture:
    on = {key: it.links[link.name] for key, it in touched.items() if link.name in it.links}
    return {
        "name": link.name,
        "source": link.source,
        "target": link.target,
        "zone": link.target_zone,
        "service": str(link.service),
        "there": worst(there for there, _ in on.values()),
        "back": worst(back for _, back in on.values()),
        "faults": list(on),
    }


def _endpoint(
    link: LinkPicture, touched: Mapping[str, _Touch], addresses: Mapping[str, Endpoint]
) -> EndpointPicture:
    on = [key for key, it in touched.items() if link["target"] in it.endpoints]
    return {
        "name": link["target"],
        "service": link["service"],
        "address": str(addresses.get(link["service"], "")),
        "link": link["name"],
        "there": link["there"],
        "back": link["back"],
        "faults": [*link["faults"], *on],
    }


def _together(states: Sequence[State]) -> State:
    """Return what gets through some links side by side."""
    if "cut" in states and not all(it == "cut" for it in states):
        return "partly"
    return worst(states)


def _paths(topology: Topology, links: Sequence[LinkPicture]) -> Iterator[PathPicture]:
    places = [CLIENT, *(zone.name for zone in topology.zones)]
    for one, other in combinations(places, 2):
        both = [it for it in links if {it["source"], it["zone"]} == {one, other}]
        yield {
            "one": one,
            "other": other,
            "there": _together([it["there" if it["source"] == one else "back"] for it in both]),
            "back": _together([it["back" if it["source"] == one else "there"] for it in both]),
            "links": [it["name"] for it in both],
            "faults": list(dict.fromkeys(key for it in both for key in it["faults"])),
        }


def _reach(
    topology: Topology, source: str, links: Sequence[LinkPicture], dark: set[str]
) -> dict[str, State]:
    """Return what connections from a place reach: they need both directions."""
    found: dict[str, State] = {}
    for zone in topology.zones:
        ways = [it for it in links if it["source"] == source and it["zone"] == zone.name]
        states = [worst((it["there"], it["back"])) for it in ways if it["service"] != "bus"]
        is_dark = zone.name in dark or source in dark
        found[zone.name] = "cut" if is_dark else _together(states)
    return found
