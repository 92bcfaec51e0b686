"""The metrics as values: their CloudWatch names, their units, and what they are made of. No I/O.

They are made of what `INFO` and `stats` say, by the servers' own names, and of what the reader adds
to it: see `Readings`. Source: "Metrics for Valkey and Redis OSS", "Metrics for Memcached" and
"Host-Level Metrics" in the Amazon ElastiCache user guide.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cachesim.monitoring.datapoints import CROSS_ZONE_BYTES
from cachesim.topology import Service

Unit = Literal["Percent", "Bytes", "Count", "Seconds", "Number"]
Values = Mapping[str, float]
"""What a server says, by name."""

VCPUS = 2
"""The processors of an r6g.large."""


@dataclass(frozen=True)
class Gauge:
    """A state, read again and again. Its datapoint is the mean of the readings.

    Attributes:
        of: the names whose sum it is.
        minus: the names that are subtracted.
        per: what it is divided by; nothing if there are no names.
        factor: what it is multiplied by.
    """

    of: tuple[str, ...]
    minus: tuple[str, ...] = ()
    per: tuple[str, ...] = ()
    factor: float = 1.0

    def value(self, values: Values) -> float | None:
        """Return it; None if the server does not tell."""
        top, less = total(values, self.of), total(values, self.minus)
        below = total(values, self.per) if self.per else 1.0
        if top is None or less is None or not below:
            return None
        # What is subtracted was counted a moment later.
        return self.factor * (max(0.0, top - less) if self.minus else top) / below


@dataclass(frozen=True)
class Count:
    """By how much counters grew. Its datapoint is the count of a minute of production.

    Attributes:
        of: the counters' names.
        instead: the names for servers that don't have those.
    """

    of: tuple[str, ...]
    instead: tuple[str, ...] = ()

    def names(self, values: Values) -> tuple[str, ...]:
        """Return the names that a server has."""
        return self.instead if self.instead and not set(self.of) <= values.keys() else self.of


@dataclass(frozen=True)
class Share:
    """By how much counters grew, in percent of the growth of others, or of real time.

    Attributes:
        of: the counters' names.
        per: the others' names; without any, real seconds.
        factor: what it is multiplied by.
    """

    of: tuple[str, ...]
    per: tuple[str, ...] = ()
    factor: float = 100.0


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in CloudWatch.
        source: what it is made of.
        is_of_process: whether it is about the server's process, which emulated nodes don't have.
        is_published: whether CloudWatch has it.
    """

    name: str
    unit: Unit
    source: Gauge | Count | Share
    is_of_process: bool = False
    is_published: bool = True


def total(values: Values, names: Iterable[str]) -> float | None:
    """Return the sum of some values; None if one is missing."""
    found = [values.get(name) for name in names]
    return None if None in found else sum(it for it in found if it is not None)


def _counts(names: Mapping[str, str]) -> Iterable[Metric]:
    return (Metric(name, "Count", Count((field,))) for name, field in names.items())


_CONNECTIONS = "own_connections"

REDIS = (
    Metric("CPUUtilization", "Percent",
           Share(("used_cpu_user", "used_cpu_sys", "used_cpu_user_children",
                  "used_cpu_sys_children"), factor=100 / VCPUS), is_of_process=True),
    Metric("EngineCPUUtilization", "Percent",
           Share(("used_cpu_user_main_thread", "used_cpu_sys_main_thread")), is_of_process=True),
    Metric("DatabaseMemoryUsagePercentage", "Percent",
           Gauge(("used_memory",), per=("maxmemory",), factor=100)),
    Metric("BytesUsedForCache", "Bytes", Gauge(("used_memory",))),
    Metric("MemoryFragmentationRatio", "Number", Gauge(("mem_fragmentation_ratio",)),
           is_of_process=True),
    Metric("CacheHitRate", "Percent",
           Share(("keyspace_hits",), per=("keyspace_hits", "keyspace_misses"))),
    *_counts({"CacheHits": "keyspace_hits", "CacheMisses": "keyspace_misses",
              "Evictions": "evicted_keys", "Reclaimed": "expired_keys"}),
    Metric("CurrConnections", "Count", Gauge(("connected_clients",), minus=(_CONNECTIONS,))),
    Metric("NewConnections", "Count", Count(("total_connections_received",))),
    Metric("MaxConnections", "Count", Gauge(("maxclients",), minus=(_CONNECTIONS,)),
           is_published=False),
    Metric("CurrItems", "Count", Gauge(("keys",))),
    Metric("ReplicationLag", "Seconds", Gauge(("lag",))),
    Metric("ReplicationBytes", "Bytes", Count(("master_repl_offset",))),
    Metric("MasterLinkHealthStatus", "Count", Gauge(("link_up",))),
    Metric("IsPrimary", "Count", Gauge(("is_primary",))),
    Metric("SaveInProgress", "Count", Gauge(("rdb_bgsave_in_progress",))),
    Metric("NetworkBytesIn", "Bytes",
           Count(("total_net_input_bytes", "total_net_repl_input_bytes"),
                 ("total_net_input_bytes",))),
    Metric("NetworkBytesOut", "Bytes",
           Count(("total_net_output_bytes", "total_net_repl_output_bytes"),
                 ("total_net_output_bytes",))),
    # Redis 7.0 counts error answers by their first word only.
    Metric("AuthenticationFailures", "Count",
           Count(("acl_access_denied_auth",), ("errorstat_WRONGPASS",))),
    Metric("CommandAuthorizationFailures", "Count",
           Count(("acl_access_denied_cmd",), ("errorstat_NOPERM",))),
    Metric("KeyAuthorizationFailures", "Count", Count(("acl_access_denied_key",))),
    Metric("ChannelAuthorizationFailures", "Count", Count(("acl_access_denied_channel",))),
)  # fmt: skip
"""The metrics of a Redis node."""

MEMCACHED = (
    Metric("CPUUtilization", "Percent",
           Share(("rusage_user", "rusage_system"), factor=100 / VCPUS), is_of_process=True),
    Metric("BytesUsedForCacheItems", "Bytes", Gauge(("bytes",))),
    Metric("BytesUsedForHash", "Bytes", Gauge(("hash_bytes",))),
    Metric("UnusedMemory", "Bytes", Gauge(("limit_maxbytes",), minus=("bytes",))),
    Metric("BytesReadIntoMemcached", "Bytes", Count(("bytes_read",))),
    Metric("BytesWrittenOutFromMemcached", "Bytes", Count(("bytes_written",))),
    Metric("NetworkBytesIn", "Bytes", Count(("bytes_read",))),
    Metric("NetworkBytesOut", "Bytes", Count(("bytes_written",))),
    Metric("CurrConnections", "Count", Gauge(("curr_connections",), minus=(_CONNECTIONS,))),
    Metric("NewConnections", "Count", Count(("total_connections",))),
    Metric("MaxConnections", "Count", Gauge(("max_connections",), minus=(_CONNECTIONS,)),
           is_published=False),
    Metric("CurrItems", "Count", Gauge(("curr_items",))),
    *_counts({
        "CasBadval": "cas_badval", "CasHits": "cas_hits", "CasMisses": "cas_misses",
        "CmdFlush": "cmd_flush", "CmdGet": "cmd_get", "CmdSet": "cmd_set", "CmdTouch": "cmd_touch",
        "DecrHits": "decr_hits", "DecrMisses": "decr_misses", "DeleteHits": "delete_hits",
        "DeleteMisses": "delete_misses", "EvictedUnfetched": "evicted_unfetched",
        "Evictions": "evictions", "ExpiredUnfetched": "expired_unfetched", "GetHits": "get_hits",
        "GetMisses": "get_misses", "IncrHits": "incr_hits", "IncrMisses": "incr_misses",
        "NewItems": "total_items", "Reclaimed": "reclaimed", "SlabsMoved": "slabs_moved",
        "TouchHits": "touch_hits", "TouchMisses": "touch_misses",
    }),
)  # fmt: skip
"""The metrics of a Memcached node."""

OF_LINK = Metric(CROSS_ZONE_BYTES, "Bytes", Count(("passed",)), is_published=False)
"""The metric of a link between zones."""

METRICS: Mapping[Service, tuple[Metric, ...]] = {
    Service.REDIS: REDIS,
    Service.MEMCACHED: MEMCACHED,
}

_OF_HOSTS = (
    *("FreeableMemory", "SwapUsage", "CPUCreditBalance", "CPUCreditUsage"),
    *("NetworkPacketsIn", "NetworkPacketsOut", "NetworkMaxBytesIn", "NetworkMaxBytesOut"),
    *("NetworkMaxPacketsIn", "NetworkMaxPacketsOut", "NetworkBandwidthInAllowanceExceeded"),
    *("NetworkBandwidthOutAllowanceExceeded", "NetworkConntrackAllowanceExceeded"),
    *("NetworkPacketsPerSecondAllowanceExceeded", "NetworkLinkLocalAllowanceExceeded"),
)
_OF_COMMANDS = (
    *("GetTypeCmds", "SetTypeCmds", "NonKeyTypeCmds", "ClusterBasedCmds", "EvalBasedCmds"),
    *("GeoSpatialBasedCmds", "HashBasedCmds", "HyperLogLogBasedCmds", "JsonBasedCmds"),
    *("KeyBasedCmds", "ListBasedCmds", "PubSubBasedCmds", "SearchBasedCmds", "SetBasedCmds"),
    *("SortedSetBasedCmds", "StreamBasedCmds", "StringBasedCmds"),
)
NOT_EMULATED: Mapping[Service, frozenset[str]] = {
    Service.REDIS: frozenset(
        (
            *_OF_HOSTS,
            *_OF_COMMANDS,
            *(f"{name}Latency" for name in _OF_COMMANDS),
            *("SuccessfulReadRequestLatency", "SuccessfulWriteRequestLatency", "ErrorCount"),
            *("ActiveDefragHits", "CurrVolatileItems", "DB0AverageTTL", "IsMaster", "KeysTracked"),
            *("BytesReadFromDisk", "BytesWrittenToDisk", "NumItemsReadFromDisk"),
            *("NumItemsWrittenToDisk", "DatabaseCapacityUsagePercentage"),
            *("DatabaseCapacityUsageCountedForEvictPercentage", "TrafficManagementActive"),
            *("DatabaseMemoryUsageCountedForEvictPercentage", "DatabaseAuthorizationFailures"),
            *("IamAuthenticationExpirations", "IamAuthenticationThrottling"),
            *(
                "GlobalDatastoreReplicationLag",
                "DurabilityLag",
                "DurabilityBufferExceededErrorCount",
            ),
        )
    ),
    Service.MEMCACHED: frozenset((*_OF_HOSTS, "CmdConfigGet", "CmdConfigSet", "CurrConfig")),
}
"""The further metrics of an engine in CloudWatch, which are not taken here."""


def find(service: Service, name: str) -> Metric | None:
    """Return a metric of an engine by its name."""
    return next((it for it in METRICS[service] if it.name == name), None)


def fields(service: Service) -> frozenset[str]:
    """Return the names of all that the metrics of an engine are made of."""
    found: set[str] = {"uptime"}
    for metric in METRICS[service]:
        match metric.source:
            case Gauge(of, minus, per):
                found.update(of, minus, per)
            case Count(of, instead):
                found.update(of, instead)
            case Share(of, per):
                found.update(of, per)
    return frozenset(found)
