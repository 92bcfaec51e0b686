"""Faults of addresses, as values. They belong to `cachesim.faults.catalogue`."""

from dataclasses import dataclass
from typing import Annotated

from cachesim.faults.fields import Flag, Names, Part, Whole
from cachesim.faults.spec import FaultSpec
from cachesim.faults.word_fields import Choice
from cachesim.topology import FEWEST_MEMCACHED, MOST_MEMCACHED, Service, endpoint_name

REFUSE, HANG = FORMER = ("refuse", "hang")
"""What becomes of connections to the former address of a node."""


@dataclass(frozen=True)
class Replace(FaultSpec):
    """Replace nodes, one after the other, as an upgrade of the engine does."""

    name = "replace"
    effect = (
        "connections are closed. A Redis primary is succeeded by a replica first, without lost "
        "writes; Memcached nodes come back empty. Healing does not bring old addresses back, "
        "`reset` does"
    )

    nodes: Annotated[
        tuple[str, ...],
        Names("Names of nodes, or patterns of them such as `redis-*`.", part=Part.NODE),
    ]
    new_address: Annotated[bool, Flag("The new nodes have other addresses.")] = False
    old: Annotated[
        str, Choice("What becomes of connections to the former addresses.", words=FORMER)
    ] = REFUSE

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return "replacement at a new address" if self.new_address else "replacement"


@dataclass(frozen=True)
class Scale(FaultSpec):
    """Change the number of Memcached nodes; healing changes it back."""

    name = "scale"
    effect = (
        "clients that follow auto discovery ask other nodes for a share of the keys, which are "
        "missing there; clients that do not go on as before, or lose nodes"
    )

    memcached: Annotated[
        int,
        Whole(
            "The number of Memcached nodes.", "nodes", least=FEWEST_MEMCACHED, most=MOST_MEMCACHED
        ),
    ]

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"scale to {self.memcached} nodes"

    @property
    def target(self) -> str:
        """See `FaultSpec.target`."""
        return str(Service.MEMCACHED)


@dataclass(frozen=True)
class Stale(FaultSpec):
    """Lead new connections to configuration endpoints where they are led now."""

    name = "stale"
    effect = (
        "new connections to the endpoint go on to the nodes that were healthy when it began, at "
        "their addresses of then, whatever becomes of them"
    )

    endpoints: Annotated[
        tuple[str, ...],
        Names("Names of configuration endpoints.", part=Part.ENDPOINT),
    ] = (endpoint_name(Service.REDIS), endpoint_name(Service.MEMCACHED))
