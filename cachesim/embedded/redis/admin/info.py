"""The text of INFO."""

import os
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cachesim.embedded.redis.admin.constant_info import CONSTANT
from cachesim.embedded.redis.keyspace.memory import EMPTY

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

Fields = dict[str, object]
_DEFAULT = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules",
    "errorstats", "cluster", "keyspace",
)  # fmt: skip


def _human(size: int) -> str:
    for unit, scale in (("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if size >= scale:
            return f"{size / scale:.2f}{unit}"
    return f"{size}B"


def _server(server: "Server") -> Fields:
    version = server.version
    is_valkey = version.name == "valkey"
    fields: Fields = {"redis_version": version.redis}
    if is_valkey:
        fields |= {"server_name": "valkey", "valkey_version": version.number}
        fields["valkey_release_stage"] = "ga"
    uptime = int(server.clock() - server.started)
    return fields | {
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0" * 16,
        ("server_mode" if is_valkey else "redis_mode"): "cluster",
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "asyncio",
        "process_id": os.getpid(),
        "process_supervised": "no",
        "run_id": server.run_id,
        "tcp_port": server.settings["tls-port"],
        "server_time_usec": int(server.wall() * 1_000_000),
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86400,
        "hz": 10,
        "configured_hz": 10,
        "lru_clock": int(server.wall()) & 0xFFFFFF,
        "executable": "",
        "config_file": "",
        "io_threads_active": 0,
        **({"availability_zone": server.settings.zone} if is_valkey else {}),
    }


def _clients(server: "Server") -> Fields:
    replicas = len(server.replicas)
    return {
        "connected_clients": len(server.clients.sessions) - replicas,
        "cluster_connections": len(server.bus.outbound) + len(server.bus.inbound),
        "maxclients": server.settings["maxclients"],
        "client_recent_max_input_buffer": 20480,
        "client_recent_max_output_buffer": 0,
        "blocked_clients": len(server.blocked_clients.everyone) + server.clients.postponed,
        "tracking_clients": len(server.tracking.clients),
        "clients_in_timeout_table": 0,
    }


def _memory(server: "Server") -> Fields:
    import psutil

    memory = server.memory
    used, limit, peak = memory.used, memory.limit, max(memory.peak, memory.used)
    libraries, functions = server.functions.counts
    machine = psutil.virtual_memory().total
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": used,
        "used_memory_rss_human": _human(used),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
        "used_memory_peak_perc": f"{100 * used / peak:.2f}%",
        "used_memory_overhead": used - memory.dataset,
        "used_memory_startup": EMPTY,
        "used_memory_dataset": memory.dataset,
        "used_memory_dataset_perc": f"{100 * memory.dataset / max(1, used - EMPTY):.2f}%",
        "allocator_allocated": used,
        "allocator_active": used,
        "allocator_resident": used,
        "total_system_memory": machine,
        "total_system_memory_human": _human(machine),
        "number_of_cached_scripts": len(server.scripts.known),
        "number_of_functions": functions,
        "number_of_libraries": libraries,
        "maxmemory": limit,
        "maxmemory_human": _human(limit),
        "maxmemory_policy": server.settings["maxmemory-policy"],
        "mem_fragmentation_ratio": "1.00",
        "mem_replication_backlog": memory.backlog,
        "mem_total_replication_buffers": memory.backlog,
        "mem_allocator": "none",
    }


def _persistence(server: "Server") -> Fields:
    server.stream.flush()  # so that the file has all of it
    loading: Fields = {}
    if server.loader.is_loading:
        aof = server.aof
        taken = max(1e-3, server.wall() - server.loader.since)
        left = taken * (aof.size - aof.loaded) / max(1, aof.loaded)
        loading = {
            "loading_start_time": int(server.loader.since),
            "loading_total_bytes": aof.size,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": aof.loaded,
            "loading_loaded_perc": f"{100 * aof.loaded / max(1, aof.size):.2f}",
            "loading_eta_seconds": int(left),
        }
    return {
        "loading": int(server.loader.is_loading),
        "async_loading": 0,
        "rdb_changes_since_last_save": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_save_time": int(server.wall() - (server.clock() - server.started)),
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": 1,
        "aof_rewrite_in_progress": int(server.aof_rewrite.is_running),
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": server.aof_rewrite.seconds,
        "aof_current_rewrite_time_sec": 0 if server.aof_rewrite.is_running else -1,
        "aof_rewrites": server.aof_rewrite.finished,
        "aof_rewrites_consecutive_failures": 0,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "err" if server.aof.has_failed else "ok",
        "aof_current_size": server.aof.size,
        "aof_base_size": server.aof.base_size,
        "aof_pending_rewrite": 0,
        "aof_buffer_length": 0,
        "aof_pending_bio_fsync": 0,
        "aof_delayed_fsync": 0,
        **loading,
    }


def _stats(server: "Server") -> Fields:
    stats, pubsub, injected = server.stats, server.pubsub, server.executor.answers.injected
    calls = sum(entry.calls for entry in server.executor.entries.by_command.values())
    return {
        "total_connections_received": stats.connections,
        "total_commands_processed": calls,
        "instantaneous_ops_per_sec": 0,
        "instantaneous_input_kbps": "0.00",
        "instantaneous_output_kbps": "0.00",
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "total_net_input_bytes": stats.net_input,
        "total_net_output_bytes": stats.net_output,
        "total_net_repl_input_bytes": stats.repl_input,
        "total_net_repl_output_bytes": stats.repl_output,
        "rejected_connections": stats.rejected_connections,
        "sync_full": stats.sync_full,
        "sync_partial_ok": stats.sync_partial_ok,
        "sync_partial_err": stats.sync_partial_err,
        "expired_keys": stats.expired,
        "evicted_keys": 0,
        "keyspace_hits": stats.hits,
        "keyspace_misses": stats.misses,
        "pubsub_channels": len(pubsub.channels),
        "pubsub_patterns": len(pubsub.patterns),
        "pubsubshard_channels": len(pubsub.shard_channels),
        **server.tracking.totals(),
        "total_error_replies": sum(stats.errors.values()),
        **({"injected_answers": injected} if injected else {}),
    }


def _replication(server: "Server") -> Fields:
    stream, link = server.stream, server.replica_link
    fields: Fields = {"role": "master" if link is None else "slave"}
    if link is not None:
        now = server.clock()
        is_up = link.is_up
        fields |= {
            "master_host": link.primary.host,
            "master_port": link.primary.port,
            "master_link_status": "up" if is_up else "down",
            "master_last_io_seconds_ago": int(now - link.last_heard) if is_up else -1,
            "master_sync_in_progress": int(link.state == "sync"),
            "slave_read_repl_offset": stream.offset,
            "slave_repl_offset": stream.offset,
        }
        if link.down_since is not None:
            fields["master_link_down_since_seconds"] = int(now - link.down_since)
        fields |= {"slave_priority": 100, "slave_read_only": 1, "replica_announced": 1}
    replicas = list(server.replicas)
    fields["connected_slaves"] = len(replicas)
    wanted = server.settings.number("min-replicas-to-write")
    if wanted:
        longest = server.settings.number("min-replicas-max-lag")
        fields["min_slaves_good_slaves"] = server.replicas.healthy(longest)
    for number, replica in enumerate(replicas):
        is_online = replica.state == "online"
        lag = int(server.clock() - replica.acknowledged_at) if is_online else 0
        fields[f"slave{number}"] = (
            f"ip={replica.host},port={replica.port},state={replica.state},"
            f"offset={replica.acknowledged},lag={lag}"
        )
    return fields | {
        "master_failover_state": "no-failover",
        "master_replid": stream.id,
        "master_replid2": stream.former_id,
        "master_repl_offset": stream.offset,
        "second_repl_offset": stream.former_end,
        "repl_backlog_active": int(stream.is_active),
        "repl_backlog_size": server.settings["repl-backlog-size"],
        "repl_backlog_first_byte_offset": stream.first_offset + 1 if stream.is_active else 0,
        "repl_backlog_histlen": stream.backlog_length,
    }


def _cpu(_server: "Server") -> Fields:
    times = os.times()
    return {
        "used_cpu_sys": f"{times.system:.6f}",
        "used_cpu_user": f"{times.user:.6f}",
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
        "used_cpu_sys_main_thread": f"{times.system:.6f}",
        "used_cpu_user_main_thread": f"{times.user:.6f}",
    }


def _commandstats(server: "Server") -> Fields:
    fields: Fields = {}
    for entry in server.executor.entries.by_command.values():
        if entry.calls or entry.rejected:
            taken = entry.nanoseconds // 1000
            fields[f"cmdstat_{entry.name}"] = (
                f"calls={entry.calls},usec={taken},"
                f"usec_per_call={taken / max(1, entry.calls):.2f},"
                f"rejected_calls={entry.rejected},failed_calls={entry.failed}"
            )
    return fields


_PERCENTILES = (50, 99, 99.9)


def _latencystats(server: "Server") -> Fields:
    """Return for each command the durations that most of its calls did not exceed."""
    found: Fields = {}
    for entry in server.executor.entries.by_command.values():
        within = list(entry.within())
        if within:
            total = within[-1][1]
            shown = (
                f"p{one:g}={next(t for t, n in within if n * 100 >= total * one) / 1000:.3f}"
                for one in _PERCENTILES
            )
            found[f"latency_percentiles_usec_{entry.name}"] = ",".join(shown)
    return found


def _errorstats(server: "Server") -> Fields:
    errors = sorted(server.stats.errors.items())
    return {f"errorstat_{code}": f"count={count}" for code, count in errors}


def _keyspace(server: "Server") -> Fields:
    count = len(server.store)
    if not count:
        return {}
    return {"db0": f"keys={count},expires={server.store.volatile},avg_ttl=0"}


_SECTIONS: Mapping[str, Callable[["Server"], Fields]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "modules": lambda _: {},
    "commandstats": _commandstats,
    "errorstats": _errorstats,
    "latencystats": _latencystats,
    "cluster": lambda _: {"cluster_enabled": 1},
    "keyspace": _keyspace,
}


def info(server: "Server", sections: list[str]) -> str:
    """Return the text of the given sections; if none is given, of the default sections."""
    names = set(sections or ["default"])
    if names & {"all", "everything"}:
        names |= set(_SECTIONS)
    if "default" in names:
        names |= set(_DEFAULT)
    parts = []
    for name, section in _SECTIONS.items():
        if name in names:
            title = name.upper() if name == "cpu" else name.capitalize()
            fields = {**section(server), **CONSTANT.get(name, {})}
            lines = [f"{key}:{value}\r\n" for key, value in fields.items()]
            parts.append("".join([f"# {title}\r\n", *lines]))
    return "\r\n".join(parts)
