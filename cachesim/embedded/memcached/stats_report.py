"""The reports of the `stats` commands, as pairs of name and value."""

import os
import sys
from collections.abc import Iterable, Iterator

from cachesim.embedded.memcached.items import Item, Items
from cachesim.embedded.memcached.server import Server
from cachesim.embedded.memcached.slabs import SlabClass

_MAX_DUMP = 2 * 1024 * 1024  # bytes
Lines = Iterable[tuple[str, object]]


def encode(lines: Lines) -> bytes:
    """Encode lines as a reply."""
    return "".join([*(f"STAT {name} {value}\r\n" for name, value in lines), "END\r\n"]).encode()


def general(server: Server) -> Lines:
    """Return the report of `stats`. Values that only a real process has are 0."""
    items, counters = server.items, server.counters
    classes = items.slabs.classes

    def total(name: str) -> int:
        return sum(getattr(slab, name) for slab in classes)

    get_hits, touch_hits = total("get_hits"), total("touch_hits")
    connections = len(server.sessions)
    yield "pid", os.getpid()
    yield "uptime", items.now - 60
    yield "time", items.started + items.now
    yield "version", server.config.version
    yield "libevent", "2.1.12-stable"
    yield "pointer_size", 64 if sys.maxsize > 2**32 else 32
    yield "rusage_user", "0.000000"
    yield "rusage_system", "0.000000"
    yield "max_connections", server.config.max_connections
    yield "curr_connections", connections
    yield "total_connections", counters.connections
    yield "rejected_connections", counters.rejected_connections
    yield "connection_structures", connections + 1
    yield "response_obj_oom", 0
    yield "response_obj_count", connections
    yield "response_obj_bytes", 16384
    yield "read_buf_count", connections + 1
    yield "read_buf_bytes", 16384 * (connections + 1)
    yield "read_buf_bytes_free", 0
    yield "read_buf_oom", 0
    yield "reserved_fds", 20
    yield "cmd_get", get_hits + counters.get_misses
    yield "cmd_set", total("cmd_set")
    yield "cmd_flush", counters.cmd_flush
    yield "cmd_touch", counters.cmd_touch
    yield "cmd_meta", counters.cmd_meta
    yield "get_hits", get_hits
    yield "get_misses", counters.get_misses
    yield "get_expired", counters.get_expired
    yield "get_flushed", counters.get_flushed
    yield "delete_misses", counters.delete_misses
    yield "delete_hits", total("delete_hits")
    yield "incr_misses", counters.incr_misses
    yield "incr_hits", total("incr_hits")
    yield "decr_misses", counters.decr_misses
    yield "decr_hits", total("decr_hits")
    yield "cas_misses", counters.cas_misses
    yield "cas_hits", total("cas_hits")
    yield "cas_badval", total("cas_badval")
    yield "touch_hits", touch_hits
    yield "touch_misses", counters.touch_misses
    yield "store_too_large", counters.store_too_large
    yield "store_no_memory", counters.store_no_memory
    yield "auth_cmds", 0
    yield "auth_errors", 0
    yield "bytes_read", counters.bytes_read
    yield "bytes_written", counters.bytes_written
    yield "limit_maxbytes", items.slabs.limit
    yield "accepting_conns", int(server.backlog.is_accepting)
    yield "listen_disabled_num", server.backlog.waits
    yield "time_in_listen_disabled_us", 0
    yield "threads", 4
    yield "conn_yields", 0
    yield "hash_power_level", 16
    yield "hash_bytes", 524288
    yield from _zeros(
        "hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues "
        "slab_reassign_evictions_nomem slab_reassign_inline_reclaim slab_reassign_busy_items "
        "slab_reassign_busy_deletes slab_reassign_running"
    )
    yield "slabs_moved", items.slabs.moved
    yield from _zeros(
        "lru_crawler_running lru_crawler_starts lru_maintainer_juggles malloc_fails "
        "log_worker_dropped log_worker_written log_watcher_skipped log_watcher_sent log_watchers"
    )
    if server.config.server_tls is not None:
        yield "ssl_handshake_errors", 0
        yield "time_since_server_cert_refresh", items.now
    yield from _zeros("unexpected_napi_ids round_robin_fallback")
    yield "bytes", items.bytes
    yield "curr_items", len(items.by_key)
    yield "total_items", counters.total_items
    yield "slab_global_page_pool", 0
    yield "expired_unfetched", total("expired_unfetched")
    yield "evicted_unfetched", total("evicted_unfetched")
    yield "evicted_active", 0
    yield "evictions", total("evicted")
    yield "reclaimed", total("reclaimed")
    yield from _zeros("crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold")
    yield "moves_to_warm", total("moves_to_warm")
    yield from _zeros("moves_within_lru direct_reclaims lru_bumps_dropped")
    if server.answers.injected:
        yield "injected_answers", server.answers.injected


def settings(server: Server) -> Lines:
    """Return the report of `stats settings`: what the node and commands have set, else defaults."""
    return [(name, server.tuned.get(name, value)) for name, value in _settings(server)]


def _settings(server: Server) -> Lines:
    config, tls = server.config, server.config.server_tls is not None
    yield "maxbytes", server.items.slabs.limit
    yield "maxconns", config.max_connections
    yield "tcpport", config.port
    yield "udpport", 0
    yield "inter", "NULL"
    yield "verbosity", server.verbosity
    yield "oldest", server.items.flush_at
    yield from _words(
        "evictions on domain_socket NULL umask 700 shutdown_command no growth_factor 1.25 "
        "chunk_size 48 num_threads 4 num_threads_per_udp 4 stat_key_prefix :"
    )
    yield "detail_enabled", "yes" if server.details.is_on else "no"
    yield from _words(
        "reqs_per_event 20 cas_enabled yes tcp_backlog 1024 binding_protocol auto-negotiate "
        "auth_enabled_sasl no auth_enabled_ascii no"
    )
    yield "item_size_max", config.max_item_size
    yield from _words(
        "maxconns_fast yes hashpower_init 0 slab_reassign yes slab_automove 1 "
        "slab_automove_ratio 0.80 slab_automove_window 30 slab_chunk_max 524288 lru_crawler yes "
        "lru_crawler_sleep 100 lru_crawler_tocrawl 0 tail_repair_time 0 flush_enabled yes "
        "dump_enabled yes hash_algorithm murmur3 lru_maintainer_thread yes lru_segmented yes "
        "hot_lru_pct 20 warm_lru_pct 40 hot_max_factor 0.20 warm_max_factor 2.00 temp_lru no "
        "temporary_ttl 61 idle_timeout 0 watcher_logbuf_size 262144 worker_logbuf_size 65536 "
        "read_buf_mem_limit 0"
    )
    yield "track_sizes", "no" if server.sizes_from is None else "yes"
    yield from _words(
        "inline_ascii_response no ext_item_size 512 ext_item_age 4294967295 ext_low_ttl 0 "
        "ext_recache_rate 2000 ext_wbuf_size 4194304 ext_compact_under 0 ext_drop_under 0 "
        "ext_max_sleep 1000000 ext_max_frag 0.80 slab_automove_freeratio 0.010 ext_drop_unread no"
    )
    yield "ssl_enabled", "yes" if tls else "no"
    yield "ssl_chain_cert", "(null)"
    yield "ssl_key", "(null)"
    yield from _words(
        "ssl_verify_mode 0 ssl_keyformat 1 ssl_ciphers NULL ssl_ca_cert NULL ssl_wbuf_size 16384 "
        "ssl_session_cache no ssl_kernel_tls no ssl_min_version tlsv1.2 num_napi_ids (null) "
        "memory_file (null)"
    )


def items(server: Server) -> Lines:
    """Return the report of `stats items`. A class has one list, whose items count as cold."""
    now = server.items.now
    for slab in server.items.slabs.classes:
        if not slab.items:
            continue
        oldest = next(iter(slab.items.values()))
        for name, value in (
            ("number", len(slab.items)), ("number_hot", 0), ("number_warm", 0),
            ("number_cold", len(slab.items)), ("age_hot", 0), ("age_warm", 0),
            ("age", now - oldest.time), ("mem_requested", slab.requested),
            ("evicted", slab.evicted), ("evicted_nonzero", slab.evicted_nonzero),
            ("evicted_time", slab.evicted_time), ("outofmemory", slab.out_of_memory),
            ("tailrepairs", 0), ("reclaimed", slab.reclaimed),
            ("expired_unfetched", slab.expired_unfetched),
            ("evicted_unfetched", slab.evicted_unfetched), ("evicted_active", 0),
            ("crawler_reclaimed", 0), ("crawler_items_checked", 0), ("lrutail_reflocked", 0),
            ("moves_to_cold", 0), ("moves_to_warm", slab.moves_to_warm), ("moves_within_lru", 0),
            ("direct_reclaims", 0), ("hits_to_hot", 0), ("hits_to_warm", 0),
            ("hits_to_cold", slab.get_hits), ("hits_to_temp", 0),
        ):  # fmt: skip
            yield f"items:{slab.id}:{name}", value


def slabs(server: Server) -> Lines:
    """Return the report of `stats slabs`."""
    active = [slab for slab in server.items.slabs.classes if slab.pages]
    for slab in active:
        for name, value in (
            ("chunk_size", slab.size), ("chunks_per_page", slab.per_page),
            ("total_pages", slab.pages), ("total_chunks", slab.pages * slab.per_page),
            ("used_chunks", slab.used), ("free_chunks", slab.free), ("free_chunks_end", 0),
            ("get_hits", slab.get_hits), ("cmd_set", slab.cmd_set),
            ("delete_hits", slab.delete_hits), ("incr_hits", slab.incr_hits),
            ("decr_hits", slab.decr_hits), ("cas_hits", slab.cas_hits),
            ("cas_badval", slab.cas_badval), ("touch_hits", slab.touch_hits),
        ):  # fmt: skip
            yield f"{slab.id}:{name}", value
    yield "active_slabs", len(active)
    yield "total_malloced", server.items.slabs.allocated


def sizes(server: Server) -> Lines:
    """Return the report of `stats sizes`: the number of items by size, in steps of 32 bytes."""
    if server.sizes_from is None:
        return [("sizes_status", "disabled")]
    counts: dict[int, int] = {}
    for item in server.items.by_key.values():
        if item.cas >= server.sizes_from:
            step = (item.size + 31) // 32 * 32
            counts[step] = counts.get(step, 0) + 1
    return [(str(step), counts[step]) for step in sorted(counts)]


def dump(items: Items, slab: SlabClass[Item], limit: int) -> bytes:
    """Return the reply to `stats cachedump`: the keys of a class, the latest first.

    Args:
        limit: the largest number of keys; 0: as many as fit into 2 MB.
    """
    out: list[bytes] = []
    size = 0
    for item in reversed(slab.items.values()):
        if item.is_binary:
            continue
        expires = item.expires + items.started if item.expires else 0
        line = b"ITEM %b [%d b; %d s]\r\n" % (item.key, len(item.data) - 2, expires)
        size += len(line)
        if size > _MAX_DUMP:
            break
        out.append(line)
        if len(out) == limit:
            break
    out.append(b"END\r\n")
    return b"".join(out)


def connections(server: Server) -> Lines:
    """Return the report of `stats conns`."""
    now = server.items.now
    here = f"tcp:127.0.0.1:{server.config.port}"
    for number, session in server.sessions.items():
        yield f"{number}:addr", session.address
        yield f"{number}:listen_addr", here
        yield f"{number}:state", "conn_parse_cmd"
        yield f"{number}:secs_since_last_cmd", now - session.last_used


def _zeros(names: str) -> Iterator[tuple[str, object]]:
    return ((name, 0) for name in names.split())


def _words(text: str) -> Iterator[tuple[str, object]]:
    words = text.split()
    return zip(words[::2], words[1::2], strict=True)
