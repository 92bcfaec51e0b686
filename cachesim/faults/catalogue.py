"""Every fault as a value: its name, its fields with their bounds, and one line of help.

The methods of `sim.faults`, the commands of `cachesim fault`, the daemon's call, the JSON Schema
and the reference page are made from it. To add a fault, add its class here and its function to
`APPLY` in `cachesim.faults.appliers`. Data, no I/O; nothing here knows a running topology.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Self

from cachesim.elasticache import MAX_CONNECTIONS
from cachesim.errors import InvalidFault
from cachesim.faults.collection import Catalogue as Catalogue
from cachesim.faults.fields import (
    Flag,
    Name,
    Names,
    Number,
    OneToxic,
    Part,
    Seconds,
    Streams,
    Text,
    Whole,
)
from cachesim.faults.fields import unknown as unknown
from cachesim.faults.named import OnePart as OnePart
from cachesim.faults.named import Parts as Parts
from cachesim.faults.named import name_of as name_of
from cachesim.faults.named import names_of as names_of
from cachesim.faults.of_addresses import FORMER as FORMER
from cachesim.faults.of_addresses import HANG as HANG
from cachesim.faults.of_addresses import REFUSE as REFUSE
from cachesim.faults.of_addresses import Replace as Replace
from cachesim.faults.of_addresses import Scale as Scale
from cachesim.faults.of_addresses import Stale as Stale
from cachesim.faults.of_servers import Answer as Answer
from cachesim.faults.of_servers import AofError as AofError
from cachesim.faults.of_servers import AuthRotate as AuthRotate
from cachesim.faults.of_servers import BadCertificate as BadCertificate
from cachesim.faults.of_servers import Delay as Delay
from cachesim.faults.of_servers import Expire as Expire
from cachesim.faults.of_servers import Flush as Flush
from cachesim.faults.of_servers import HotKey as HotKey
from cachesim.faults.of_servers import NodeNames
from cachesim.faults.of_servers import Slow as Slow
from cachesim.faults.spec import FaultSpec
from cachesim.topology import Topology, Zone
from cachesim.toxiproxy import toxics
from cachesim.toxiproxy.toxics import MS_MAX, TOXICITY_MIN, Stream

_SECONDS_MAX = MS_MAX // 1000


# --- on links ---------------------------------------------------------------------------------

LinkNames = Annotated[
    tuple[str, ...],
    Names("Names of links, or patterns of them such as `client-to-*`.", part=Part.LINK),
]


@dataclass(frozen=True)
class Latency(FaultSpec):
    """Add milliseconds to the round trip."""

    name = "latency"
    strength = "ms"
    effect = "every answer comes that many milliseconds later"

    links: LinkNames
    ms: Annotated[int, Whole("Milliseconds, added once to each round trip.", "ms", most=MS_MAX)]
    jitter: Annotated[int, Whole("Random milliseconds more or less.", "ms", most=MS_MAX)] = 0

    def check(self) -> None:
        """See `FaultSpec.check`."""
        try:
            toxics.Latency(self.ms, self.jitter).check_effect()
        except ValueError as error:
            raise InvalidFault(str(error)) from error

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"latency of {self.ms} ms"


@dataclass(frozen=True)
class Bandwidth(FaultSpec):
    """Limit both streams."""

    name = "bandwidth"
    effect = "large values are slow, both ways"

    links: LinkNames
    kb_s: Annotated[
        int,
        Whole(
            "Kilobytes a second.",
            "KB/s",
            least=1,
            most=toxics.Bandwidth.largest,
            instead="`blackhole` stops all",
        ),
    ]

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"bandwidth of {self.kb_s} KB/s"


@dataclass(frozen=True)
class Loss(FaultSpec):
    """Lose a share of the packets, so that what they carry comes late."""

    name = "loss"
    strength = "share"
    effect = (
        "a share of the requests and of the answers comes late, with all that is sent after it. "
        "Nothing is missing: TCP sends again what was lost"
    )

    links: LinkNames
    share: Annotated[
        float, Number("The share of the pieces of data that comes late.", least=0.001, most=1)
    ]
    ms: Annotated[
        int,
        Whole(
            "Milliseconds that they come late on average, and twice that at most. Linux sends "
            "again after 200 ms or more.",
            "ms",
            least=10,
            most=60_000,
        ),
    ] = 200

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"loss of {self.share * 100:g} %"


@dataclass(frozen=True)
class Blackhole(FaultSpec):
    """Hold all data back, so that connections hang."""

    name = "blackhole"
    effect = (
        "everything hangs, nothing is refused or closed. On heal the same sockets go on, and "
        "nothing is lost"
    )

    links: LinkNames


@dataclass(frozen=True)
class Refuse(FaultSpec):
    """Close established connections and refuse new ones."""

    name = "refuse"
    effect = "connections are closed, and new ones are refused"

    links: LinkNames


@dataclass(frozen=True)
class Reset(FaultSpec):
    """Reset every connection when the client next sends."""

    name = "reset"
    effect = "every connection, also a new one, is reset when the client next sends"

    links: LinkNames


@dataclass(frozen=True)
class Toxic(FaultSpec):
    """Add any toxic of Toxiproxy."""

    name = "toxic"
    effect = f"the effect of the toxic: {', '.join(f'`{cls.type}`' for cls in toxics.TOXICS)}"

    links: LinkNames
    toxic: Annotated[toxics.Toxic, OneToxic("A toxic: its type and its attributes.")]
    streams: Annotated[tuple[Stream, ...], Streams("The directions that it works on.")] = (
        Stream.DOWNSTREAM,
    )
    toxicity: Annotated[
        float, Number("The share of connections that it works on.", least=TOXICITY_MIN, most=1)
    ] = 1.0
    label: Annotated[str | None, Text("The fault's name in the event log.")] = None

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return self.label or self.toxic.type


@dataclass(frozen=True)
class ReplicationLag(FaultSpec):
    """Delay everything that replicas receive by SECONDS."""

    name = "replication-lag"
    strength = "seconds"
    effect = (
        "replicas answer with old data. A failover then loses the data that they don't have yet"
    )

    seconds: Annotated[
        float, Seconds("The delay, rounded to milliseconds.", least=0.001, most=_SECONDS_MAX)
    ]
    replicas: Annotated[
        tuple[str, ...] | None,
        Names(
            "Redis nodes that lag while they are replicas; by default all.", part=Part.REDIS_NODE
        ),
    ] = None

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"replication lag of {self.seconds:g} s"

    def resolve(self, topology: Topology) -> Self:
        """See `FaultSpec.resolve`."""
        every = self.replicas or tuple(Part.REDIS_NODE.names(topology))
        return super(ReplicationLag, dataclasses.replace(self, replicas=every)).resolve(topology)


# --- on zones ---------------------------------------------------------------------------------

ZoneName = Annotated[str, Name("A zone.", part=Part.ZONE)]


@dataclass(frozen=True)
class Partition(FaultSpec):
    """Cut two zones off from each other."""

    name = "partition"
    effect = (
        "in those zones: as `blackhole`. From this machine: nothing, but replicas behind it lag. "
        "`one_way` cuts one direction"
    )

    a: ZoneName
    b: ZoneName
    one_way: Annotated[bool, Flag("Cut only the direction from the first zone to the second.")] = (
        False
    )

    def check(self) -> None:
        """See `FaultSpec.check`."""
        one, other = (Zone(name.removeprefix("az-")) for name in (self.a, self.b))
        if one == other:
            raise InvalidFault(f"a partition is between two zones, not {one} and itself")

    @property
    def target(self) -> str:
        """See `FaultSpec.target`."""
        return f"{Zone(self.a)}{'>' if self.one_way else '|'}{Zone(self.b)}"


@dataclass(frozen=True)
class Isolate(FaultSpec):
    """Cut a zone off from the others and from clients."""

    name = "isolate"
    effect = "as `blackhole` to the zone's nodes, from everywhere else. A primary there is replaced"

    zone: ZoneName


@dataclass(frozen=True)
class AzPower(FaultSpec):
    """Cut the power of a zone, until it is healed."""

    name = "az-power"
    effect = (
        "as `blackhole`. On heal connections are closed, and up to 1 s of writes is missing from "
        "the disk"
    )

    zone: ZoneName


# --- on nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill(FaultSpec):
    """SIGKILL nodes; healing starts them."""

    name = "kill"
    effect = (
        "connections are closed at once, and new ones are refused. Redis loses nothing that it has "
        "written"
    )

    nodes: NodeNames


@dataclass(frozen=True)
class Stop(FaultSpec):
    """Shut nodes down cleanly; healing starts them."""

    name = "stop"
    effect = "as `kill`, after an orderly shutdown"

    nodes: NodeNames


@dataclass(frozen=True)
class Pause(FaultSpec):
    """SIGSTOP nodes; healing resumes them."""

    name = "pause"
    effect = "as `blackhole`"

    nodes: NodeNames


@dataclass(frozen=True)
class MemoryFill(FaultSpec):
    """Fill the memory of nodes."""

    name = "memory-fill"
    strength = "to"
    effect = (
        "Redis: what needs memory fails with OOM, as nothing is evicted. Memcached: what was not "
        "asked for lately is missing. It ends with the node's process"
    )

    nodes: NodeNames
    to: Annotated[
        float,
        Number(
            "The share of the memory that is in use then. 1: nothing more fits. More: so many "
            "times too much.",
            least=0.1,
            most=10,
        ),
    ] = 1.0

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"memory filled to {self.to * 100:g} %"


@dataclass(frozen=True)
class ConnectionLimit(FaultSpec):
    """Limit the connections of clients to nodes."""

    name = "connection-limit"
    effect = (
        "Redis closes a connection beyond the limit at once, Memcached lets it wait until another "
        "one is closed. Those that are open stay. It ends with the node's process"
    )

    nodes: NodeNames
    most: Annotated[
        int,
        Whole(
            "The most connections of clients to each node.",
            "connections",
            least=1,
            most=MAX_CONNECTIONS,
        ),
    ]

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"limit of {self.most} connections"


# --- all of them ------------------------------------------------------------------------------

CATALOGUE = Catalogue(
    (
        *(Latency, Bandwidth, Loss, Blackhole, Refuse, Reset, Toxic, ReplicationLag),
        *(Partition, Isolate, AzPower),
        *(Kill, Stop, Pause, MemoryFill, ConnectionLimit),
        *(Answer, Delay, Slow, HotKey, AofError, AuthRotate, BadCertificate, Expire, Flush),
        *(Replace, Scale, Stale),
    )
)
"""All faults of cachesim."""
