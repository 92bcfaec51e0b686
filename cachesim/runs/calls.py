"""The calls that the process of a topology answers, and the JSON that they take and return.

Arguments are by name; those with a default may be left out. Faults, settings and timings are
values: `FaultSpec.as_dict`, `Settings.model_dump` and `Timing.as_dict`. Errors arrive as they were
raised. While a client has the lease, only it may make the calls of `VERBS`.
"""

from enum import StrEnum
from typing import Any, TypedDict


class Call(StrEnum):
    """The name of a call."""

    # Looking.
    DESCRIBE = "describe"
    """() -> Description"""
    STATUS = "status"
    """() -> Status"""
    NODE = "node"
    """(node) -> NodeStatus"""
    SHARD = "shard"
    """(shard=None) -> ShardStatus; without an id, of the only shard."""
    LOGS = "logs"
    """(node, lines, follow=False) -> str; with `follow`, new lines in parts."""
    EVENTS = "events"
    """(after=0, wait=0) -> list of events: `Event.as_dict`, and `number`, which counts from 1.
    wait: seconds for the first one."""
    FOLLOW_EVENTS = "follow-events"
    """(after=0) -> nothing; lists of events in parts."""
    FAULTS = "faults"
    """() -> list[FaultData]: the active ones."""
    LINKS = "links"
    """() -> list[LinkStatus]"""
    LINK = "link"
    """(link) -> LinkStatus"""
    SEEN_FROM = "seen-from"
    """(zone) -> dict[str, Seen]: every node and configuration endpoint by name, for programs on
    this machine that are placed in a zone."""
    READINGS = "readings"
    """() -> Readings: what the servers say now, over their admin addresses."""
    VALUES = "values"
    """(node, keys, length) -> list[str | None]: the first bytes of the strings that a Redis node
    has, over its admin address; None: it has none."""
    TIMING = "timing"
    """() -> the control plane's timing, a value."""
    WAIT = "wait"
    """(what, shard=None, after=None, seconds=None, node=None) -> ShardStatus; what: a `Condition`;
    after: the number of failovers to exceed; None: of those that a wait has returned; seconds: at
    most; None: as long as it may take, and 10 s more; node: the one that is to be healthy; None:
    all. Raises WaitTimeout."""

    METRICS = "metrics"
    """(after=0, running=False, last=False) -> MetricsData: the first minutes after a number, at
    most `MINUTES`; last: the last of them alone. This call and the next three begin the monitoring,
    if it has not begun."""
    ALARMS = "alarms"
    """() -> list[AlarmStatus]"""
    WAIT_FOR_ALARM = "wait-for-alarm"
    """(alarm, state, seconds=None) -> AlarmStatus; seconds: at most; None: as long as the alarm
    may take at this speed, and 10 s more. Raises AlarmTimeout."""
    INBOX = "inbox"
    """(after=0) -> list of messages: `Message.as_dict`, after a number."""

    # Breaking and restoring.
    APPLY = "apply"
    """(faults, seconds=None, over=None, flap=None) -> list[FaultData]; a list of faults, all or
    none; seconds until they are healed, in which they grow, and for which they come and go."""
    HEAL = "heal"
    """(fault=None) -> list[FaultData]: the healed ones; fault: an id; None: all faults, and what
    was done to the proxies by hand."""
    RESUME = "resume"
    """(node) -> nothing"""
    RESTART = "restart"
    """(node) -> nothing"""
    REPLACE = "replace"
    """(node, new_address=False, hangs=False) -> NodeStatus, when the new one runs. hangs: whether
    connections to the former address hang; else they are refused."""
    ROLL = "roll"
    """(new_addresses=False, hangs=False) -> list[NodeStatus], when all nodes are replaced."""
    SCALE = "scale"
    """(memcached) -> list[NodeStatus]: the Memcached nodes, when there are so many."""
    RESET = "reset"
    """(draws="", timing=None, seed=None) -> nothing"""
    FAILOVER = "failover"
    """(to=None, shard=None) -> ShardStatus; begins one."""
    SET_TIMING = "set-timing"
    """(timing) -> nothing"""
    SUSPEND = "suspend"
    """() -> nothing; the control plane decides nothing while this connection is open."""

    # Life.
    LEASE = "lease"
    """(settings) -> Description; settings: the changed ones by name. The lease belongs
    to this connection: its end without RETURN resets the topology."""
    RETURN = "return"
    """() -> nothing; heals the topology and ends the lease of this connection."""
    OFFER = "offer"
    """() -> nothing; commands without a name may choose the topology, although it has an owner."""
    DETACH = "detach"
    """() -> nothing; from now on the topology outlives its owner."""
    DOWN = "down"
    """(force=False) -> nothing, when all is down; before, in a part, the folder of
    `cachesim compose` or None. force: even while another client has the lease."""


class Condition(StrEnum):
    """What can be waited for."""

    FAILOVER = "failover"
    """A failover is completed, and its primary is up."""
    DECIDED = "decided"
    """No failover is in progress."""
    AVAILABLE = "available"
    """The shard is available: no failover is in progress, and every old primary is back."""
    HEALTHY = "healthy"
    """And all nodes run and answer, and the replicas follow without a lag."""


VERBS = frozenset(
    {
        *(Call.APPLY, Call.HEAL, Call.RESUME, Call.RESTART, Call.RESET, Call.FAILOVER),
        *(Call.REPLACE, Call.ROLL, Call.SCALE),
        *(Call.SET_TIMING, Call.SUSPEND, Call.OFFER, Call.DETACH),
    }
)
"""The calls that only the holder of the lease may make, if there is one."""


class Description(TypedDict):
    """What stays the same from start to end, but for settings, seed and addresses."""

    name: str
    backend: str
    reason: str
    """Why this backend was chosen."""
    settings: dict[str, Any]
    seed: int
    endpoints: dict[str, str]
    """Each node's address for clients."""
    memcached: int
    """The number of Memcached nodes."""
    configuration: dict[str, str]
    """The addresses of the configuration endpoints for clients, by service."""
    toxiproxy: dict[str, str]
    """The URL of each zone's Toxiproxy."""
    ca_file: str
    token: str
    env: dict[str, str]
    """The variables that a service reads, secrets included."""
    folder: str
    """The run's folder."""
    owner: str
    """The topology's process, as `Owner` writes it."""
    events: int
    """The number of the newest event."""


class NodeStatus(TypedDict):
    """One node."""

    name: str
    zone: str
    role: str | None
    state: str
    endpoint: str


class Seen(TypedDict):
    """Where a program on this machine finds a node or an endpoint, as from a zone."""

    announced: str
    """Its address for clients in no zone, which a node tells them."""
    seen: str
    """The address to take in its place."""


class ShardStatus(TypedDict):
    """One Redis shard."""

    id: str
    state: str
    primary: str
    failovers: int
    """Completed ones, since the start or the last reset."""


class FaultData(TypedDict):
    """One applied fault."""

    id: str
    kind: str
    target: str
    fault: dict[str, Any]
    """The fault as a value."""
    seconds: float | None
    """Seconds that are left until it is healed; None: it is healed by hand."""


class LinkStatus(TypedDict):
    """One link, as its Toxiproxy has it."""

    name: str
    listen: str
    enabled: bool
    toxics: list[dict[str, Any]]


class Reading(TypedDict):
    """One reading of a server."""

    at: float
    """Monotonic seconds."""
    took: float
    """Seconds that the answer took."""
    own_connections: int
    """How many of its connections are the control plane's and those of this call."""
    values: dict[str, float]
    """What it said, by the names of `cachesim.history.rows.SampleName`. Connections are all."""


class Readings(TypedDict):
    """What the servers say now."""

    nodes: dict[str, Reading]
    """By name. Those that did not answer at once are left out."""
    heard: dict[str, dict[str, float]]
    """When each Redis node last heard each other one over the cluster bus, in monotonic seconds."""


MINUTES = 10
"""The minutes in an answer at most. While it is written, emulated nodes answer nobody."""


class MetricsData(TypedDict):
    """Metrics of all nodes."""

    since: float
    """When the monitoring began, or began anew at a reset, in monotonic seconds."""
    metrics: dict[str, dict[str, str]]
    """The unit of each metric, by node and by name."""
    minutes: list[dict[str, Any]]
    """`Minute.as_dict` each, the oldest first."""
    running: dict[str, Any] | None
    """The minute that has not ended, if it was asked for."""


class ChangeData(TypedDict):
    """An alarm that changed its state."""

    old: str
    new: str
    at: float
    """Monotonic seconds."""
    date: str
    """In UTC, ISO 8601."""
    reason: str
    value: float | None
    node: str


class AlarmStatus(TypedDict):
    """One alarm."""

    name: str
    state: str
    since: float | None
    """When the state changed last, in monotonic seconds; None: never."""
    reason: str
    metric: str
    """What is compared with the threshold."""
    comparison: str
    threshold: float
    period: int
    """Seconds of production."""
    periods: int
    """How many periods it looks at to decide."""
    missing: str
    """What it makes of missing data, as `TreatMissingData` has it."""
    level: str | None
    """`warning` or `critical`, of the thresholds of the architecture's table."""
    value: float | None
    """What it saw last; None: no data."""
    node: str
    """Where it saw that; empty: on several nodes, or no data."""
    actions: list[str]
    """Where its messages go."""
    out_of_reach: str
    """Why it can't fire; empty: it can."""
    changes: list[ChangeData]
    """The last ones, the oldest first."""


class Status(TypedDict):
    """What runs, and its state."""

    name: str
    backend: str
    folder: str | None
    """The folder of `cachesim compose`."""
    engine: str
    speed: float
    seed: int
    pid: int
    uptime_seconds: float
    owned_by: str | None
    """The process whose end is the topology's; None: it is detached."""
    leased_by: str | None
    control_plane: str
    """The states of the shards."""
    nodes: list[NodeStatus]
    faults: list[FaultData]
    toxiproxy: dict[str, str]
