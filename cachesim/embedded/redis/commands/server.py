"""The server commands: INFO, CONFIG, FLUSHALL, replication, logs. See also `acl` and `command`."""

from collections.abc import Mapping
from typing import cast

from cachesim.embedded.redis.admin.info import info as info_text
from cachesim.embedded.redis.commands import acl, command, diagnostics
from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.commands.common.session import session_of
from cachesim.embedded.redis.commands.common.unsupported import not_supported
from cachesim.embedded.redis.commands.generic import restore
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.dispatch.guards import PROTECTED, not_allowed
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, printed
from cachesim.protocols.resp import Error, Pairs, Reply, Verbatim


def info(client: Client, arguments: list[bytes]) -> Answer:
    """INFO [section...]."""
    wanted = [word.lower().decode(errors="replace") for word in arguments[1:]]
    return Verbatim(info_text(client.server, wanted).encode())


# --- CONFIG ----------------------------------------------------------------------------------


def config_get(client: Client, arguments: list[bytes]) -> Answer:
    """CONFIG GET pattern..."""
    found = client.server.settings.get(arguments[2:])
    return Pairs(word.encode() for pair in found.items() for word in pair)


def config_set(client: Client, arguments: list[bytes]) -> Answer:
    """CONFIG SET name value..."""
    if len(arguments) % 2:
        raise Error(SYNTAX)
    client.server.settings.set(list(zip(arguments[2::2], arguments[3::2], strict=True)))
    return "OK"


def config_resetstat(client: Client, arguments: list[bytes]) -> Answer:
    """CONFIG RESETSTAT."""
    client.server.reset_stats()
    return "OK"


def config_rewrite(client: Client, arguments: list[bytes]) -> Answer:
    """CONFIG REWRITE."""
    raise Error("ERR The server is running without a config file")


# --- data ------------------------------------------------------------------------------------


def dbsize(client: Client, arguments: list[bytes]) -> Answer:
    """DBSIZE."""
    return len(client.store)


def flushall(client: Client, arguments: list[bytes]) -> Answer:
    """FLUSHALL [ASYNC | SYNC], FLUSHDB [ASYNC | SYNC]."""
    if len(arguments) > 2 or (
        len(arguments) == 2 and arguments[1].lower() not in (b"async", b"sync")
    ):
        raise Error(SYNTAX)
    client.server.clear()
    client.server.executor.effects = [arguments]
    return "OK"


def swapdb(client: Client, arguments: list[bytes]) -> Answer:
    """SWAPDB a b."""
    raise Error("ERR SWAPDB is not allowed in cluster mode")


# --- replication -----------------------------------------------------------------------------


def role(client: Client, arguments: list[bytes]) -> Answer:
    """ROLE."""
    server = client.server
    link = server.replica_link
    if link is not None:
        primary = link.primary
        offset = server.stream.offset if link.is_up else -1
        host = primary.host.encode()
        return [b"slave", host, primary.port, link.state.encode(), offset]
    replicas: list[Reply] = [
        [replica.host.encode(), b"%d" % replica.port, b"%d" % replica.acknowledged]
        for replica in server.replicas
        if replica.state == "online"
    ]
    return [b"master", server.stream.offset, replicas]


def replconf(client: Client, arguments: list[bytes]) -> Answer:
    """REPLCONF name value...: replicas report their address and their offset."""
    session = session_of(client)
    if len(arguments) % 2 == 0:
        raise Error(SYNTAX)
    replica = client.server.replicas.of(session)
    for word, value in zip(arguments[1::2], arguments[2::2], strict=True):
        name = word.lower()
        if name == b"ack":
            client.server.replicas.acknowledge(session, integer(value))
            return NO_REPLY
        if name == b"listening-port":
            replica.port = integer(value)
        elif name == b"ip-address":
            replica.host = value.decode(errors="replace")
        elif name not in (b"capa", b"getack", b"rdb-only", b"rdb-filter-only"):
            raise Error(f"ERR Unrecognized REPLCONF option: {printed(word)}")
    return "OK"


def psync(client: Client, arguments: list[bytes]) -> Answer:
    """PSYNC replicationid offset."""
    server = client.server
    session = session_of(client)
    if server.replica_link is not None and not server.replica_link.is_up:
        raise Error("NOMASTERLINK Can't SYNC while not connected with my master")
    history = arguments[1].decode(errors="replace")
    server.replicas.sync(session, history, integer(arguments[2]) - 1)
    return NO_REPLY


def not_in_cluster(client: Client, arguments: list[bytes]) -> Answer:
    """REPLICAOF, SLAVEOF, FAILOVER."""
    name = arguments[0].upper().decode()
    if name == "FAILOVER":
        raise Error(
            "ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead."
        )
    raise Error("ERR REPLICAOF not allowed in cluster mode.")


# --- diagnostics -----------------------------------------------------------------------------


_COUNT = "ERR count should be greater than or equal to -1"


def slowlog_get(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG GET [count]."""
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    count = integer(arguments[2], _COUNT) if len(arguments) == 3 else 10
    if count < -1:
        raise Error(_COUNT)
    return cast(Reply, client.server.slowlog.last(count))


def slowlog_len(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG LEN."""
    return len(client.server.slowlog)


def slowlog_reset(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG RESET."""
    client.server.slowlog.reset()
    return "OK"


def time(client: Client, arguments: list[bytes]) -> Answer:
    """TIME."""
    microseconds = int(client.server.wall() * 1_000_000)
    return [b"%d" % (microseconds // 1_000_000), b"%d" % (microseconds % 1_000_000)]


def monitor(client: Client, arguments: list[bytes]) -> Answer:
    """MONITOR."""
    session = session_of(client)
    if not client.may_block:
        raise Error("ERR MONITOR isn't allowed for DENY BLOCKING client")
    session.is_monitor = True
    client.server.monitors.add(session.id, session.show)
    client.update_guards()
    return "OK"


# --- persistence and the rest ----------------------------------------------------------------


def bgrewriteaof(client: Client, arguments: list[bytes]) -> Answer:
    """BGREWRITEAOF."""
    if client.server.aof_rewrite.is_running:
        raise Error("ERR Background append only file rewriting already in progress")
    client.server.aof_rewrite.start()
    return "Background append only file rewriting started"


def lastsave(client: Client, arguments: list[bytes]) -> Answer:
    """LASTSAVE."""
    return int(client.server.wall())


def protected(client: Client, arguments: list[bytes]) -> Answer:
    """DEBUG, MODULE LOAD: disabled, as by default in Redis."""
    raise not_allowed(arguments[0])


def lolwut(client: Client, arguments: list[bytes]) -> Answer:
    """LOLWUT [VERSION version]: without a picture."""
    if len(arguments) > 2 and arguments[1].lower() == b"version":
        integer(arguments[2])
    version = client.server.version
    return Verbatim(f"{version.name.capitalize()} ver. {version.number}\n".encode())


def module_list(client: Client, arguments: list[bytes]) -> Answer:
    """MODULE LIST."""
    return []


HANDLERS: Mapping[str, Handler] = {
    **acl.HANDLERS,
    **command.HANDLERS,
    **diagnostics.HANDLERS,
    **help_of("config", "module", "slowlog"),
    **dict.fromkeys(("bgsave", "save", "shutdown", "sync"), not_supported),
    **dict.fromkeys(PROTECTED, protected),
    **dict.fromkeys(("failover", "replicaof", "slaveof"), not_in_cluster),
    "bgrewriteaof": bgrewriteaof,
    "config|get": config_get,
    "config|resetstat": config_resetstat,
    "config|rewrite": config_rewrite,
    "config|set": config_set,
    "dbsize": dbsize,
    "flushall": flushall,
    "flushdb": flushall,
    "info": info,
    "lastsave": lastsave,
    "lolwut": lolwut,
    "module|list": module_list,
    "monitor": monitor,
    "psync": psync,
    "replconf": replconf,
    "restore-asking": restore,
    "role": role,
    "slowlog|get": slowlog_get,
    "slowlog|len": slowlog_len,
    "slowlog|reset": slowlog_reset,
    "swapdb": swapdb,
    "time": time,
}
