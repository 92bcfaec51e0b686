"""Commands about the server: its settings, commands, users, replication, and what it remembers."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cachesim.embedded.redis.admin.info import info as info_text
from cachesim.embedded.redis.admin.versions import version_of
from cachesim.embedded.redis.commands.connection import session_of
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.acl import CATEGORIES, in_category
from cachesim.embedded.redis.dispatch.command_table import (
    Command,
    asked_keys,
    commands,
    data,
    everything,
)
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, words
from cachesim.protocols.resp import NULL_ARRAY, Error, Pairs, Reply, Unordered, Verbatim


def info(client: Client, arguments: list[bytes]) -> Answer:
    """INFO [section...]."""
    wanted = [word.lower().decode(errors="replace") for word in arguments[1:]]
    return Verbatim(info_text(client.server, wanted).encode())


# --- CONFIG -----------------------------------------------------------------------------------


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


# --- COMMAND ----------------------------------------------------------------------------------


def _shape(row: Sequence[Any]) -> Reply:
    name, arity, flags, first, last, step, categories, tips, specs, subcommands = row
    return [
        name.encode(),
        arity,
        Unordered(flags),
        first,
        last,
        step,
        Unordered(categories),
        Unordered(tip.encode() for tip in tips),
        Unordered(_spec(spec) for spec in specs),
        Unordered(_shape(sub) for sub in subcommands),
    ]


def _spec(flat: Any) -> Reply:
    pairs = Pairs()
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        pairs.append(key.encode())
        if key == "flags":
            pairs.append(Unordered(value))
        elif isinstance(value, list):
            pairs.append(_spec(value))
        else:
            pairs.append(value.encode() if isinstance(value, str) else value)
    return pairs


def _named(word: bytes) -> Command | None:
    outer, _, inner = word.lower().decode(errors="replace").partition("|")
    command = commands().get(outer)
    return command.subcommands.get(inner) if command is not None and inner else command


def command(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND."""
    return [_shape(one.row) for one in commands().values()]


def command_count(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND COUNT."""
    return len(commands())


def command_info(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND INFO [name...]."""
    if len(arguments) == 2:
        return command(client, arguments)
    found = map(_named, arguments[2:])
    return [NULL_ARRAY if one is None else _shape(one.row) for one in found]


def command_docs(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND DOCS [name...]: texts for people are not kept here."""
    return Pairs()


def command_list(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND LIST [FILTERBY MODULE | ACLCAT | PATTERN x]."""
    if len(arguments) == 2:
        return [one.name.encode() for one in commands().values()]
    if len(arguments) != 5 or arguments[2].lower() != b"filterby":
        raise Error(SYNTAX)
    kind, word = arguments[3].lower(), arguments[4]
    if kind == b"aclcat":
        category = word.decode(errors="replace")
        return [one.name.encode() for one in everything() if category in one.categories]
    if kind == b"pattern":
        matches = matcher(word)
        return [one.name.encode() for one in everything() if matches(one.name.encode())]
    if kind == b"module":
        return []
    raise Error(SYNTAX)


def _asked(arguments: list[bytes]) -> tuple[Command, list[bytes]]:
    request = arguments[2:]
    one = _named(request[0])
    if one is not None and one.subcommands and len(request) > 1:
        one = one.subcommands.get(request[1].lower().decode(errors="replace"))
    if one is None:
        raise Error("ERR Invalid command specified")
    return one, request


def command_getkeys(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND GETKEYS command argument..."""
    one, request = _asked(arguments)
    return [request[use.at] for use in asked_keys(one, request)]


def _in_order(flags: frozenset[str]) -> list[str]:
    return sorted(flags, key=lambda flag: (not flag.isupper(), flag))


def command_getkeysandflags(client: Client, arguments: list[bytes]) -> Answer:
    """COMMAND GETKEYSANDFLAGS command argument..."""
    one, request = _asked(arguments)
    return [[request[use.at], Unordered(_in_order(use.flags))] for use in asked_keys(one, request)]


# --- ACL --------------------------------------------------------------------------------------


def acl_whoami(client: Client, arguments: list[bytes]) -> Answer:
    """ACL WHOAMI."""
    return client.user.name if client.user is not None else None


def acl_users(client: Client, arguments: list[bytes]) -> Answer:
    """ACL USERS."""
    return sorted(client.server.acl.users)


def acl_list(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LIST."""
    users = sorted(client.server.acl.users.items())
    return [user.describe().encode(errors="surrogateescape") for _, user in users]


def acl_cat(client: Client, arguments: list[bytes]) -> Answer:
    """ACL CAT [category]."""
    if len(arguments) == 2:
        return [category.encode() for category in CATEGORIES]
    category = arguments[2].lower().decode(errors="replace")
    if len(arguments) > 3 or category not in CATEGORIES:
        raise Error(f"ERR Unknown category '{words(arguments[2])}'")
    return [one.name.encode() for one in in_category(category)]


def acl_genpass(client: Client, arguments: list[bytes]) -> Answer:
    """ACL GENPASS [bits]."""
    bits = integer(arguments[2]) if len(arguments) == 3 else 256
    if not 0 < bits <= 4096:
        raise Error(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a "
            "positive number up to 4096"
        )
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()


def acl_setuser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL SETUSER name [rule...]."""
    server = client.server
    server.acl.set_user(arguments[2], arguments[3:])
    for session in server.sessions.values():
        session.be(session.user)
    return "OK"


def acl_deluser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL DELUSER name..."""
    server = client.server
    if b"default" in arguments[2:]:
        raise Error("ERR The 'default' user cannot be removed")
    gone = [user for name in arguments[2:] if (user := server.acl.users.pop(name, None))]
    for session in list(server.sessions.values()):
        if session.user in gone:
            session.close() if session is client else session.abort()
    return len(gone)


def acl_getuser(client: Client, arguments: list[bytes]) -> Answer:
    """ACL GETUSER name."""
    user = client.server.acl.users.get(arguments[2])
    if user is None:
        return NULL_ARRAY
    flags = ["on" if user.enabled else "off", *(["nopass"] if user.nopass else [])]

    def selector(one: Any) -> list[Reply]:
        return [
            b"commands", " ".join(one.rules).encode(),
            b"keys", one.key_rules().encode(errors="surrogateescape"),
            b"channels", one.channel_rules().encode(errors="surrogateescape"),
        ]  # fmt: skip

    return Pairs(
        [
            b"flags", Unordered(flag.encode() for flag in flags),
            b"passwords", [digest.encode() for digest in user.hashes],
            *selector(user.root),
            b"selectors", [Pairs(selector(one)) for one in user.selectors],
        ]
    )  # fmt: skip


def acl_dryrun(client: Client, arguments: list[bytes]) -> Answer:
    """ACL DRYRUN user command argument..."""
    user = client.server.acl.users.get(arguments[2])
    if user is None:
        raise Error(f"ERR User '{words(arguments[2])}' not found")
    try:
        entry = client.server.executor.find(arguments[3:])
    except Error as error:
        if "wrong number" in error.text:
            raise
        raise Error(f"ERR Command '{words(arguments[3])}' not found") from None
    denial = user.denial(entry.command, arguments[3:])
    if denial is None:
        return "OK"
    kind, _, thing = denial
    if kind == "command":
        return f"This user has no permissions to run the '{entry.name}' command".encode()
    return b"This user has no permissions to access the '%b' %b" % (thing, kind.encode())


def acl_log(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LOG [count | RESET]."""
    log = client.server.acl_log
    if len(arguments) == 3 and arguments[2].lower() == b"reset":
        log.reset()
        return "OK"
    count = integer(arguments[2]) if len(arguments) == 3 else 10
    entries = log.last(max(0, count))
    return [Pairs(word for pair in entry.items() for word in pair) for entry in entries]  # type: ignore[misc]


def acl_file(client: Client, arguments: list[bytes]) -> Answer:
    """ACL LOAD, ACL SAVE."""
    raise Error(
        "ERR This Redis instance is not configured to use an ACL file. You may want to specify "
        "users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a "
        "Redis configuration file set) in order to store users in the Redis configuration."
    )


# --- replication ------------------------------------------------------------------------------


def role(client: Client, arguments: list[bytes]) -> Answer:
    """ROLE."""
    server = client.server
    following = server.following
    if following is not None:
        primary = following.primary
        offset = server.stream.offset if following.is_up else -1
        host = primary.host.encode()
        return [b"slave", host, primary.port, following.state.encode(), offset]
    replicas: list[Reply] = [
        [replica.host.encode(), b"%d" % replica.port, b"%d" % replica.acknowledged]
        for replica in server.replicas
        if replica.state == "online"
    ]
    return [b"master", server.stream.offset, replicas]


def replconf(client: Client, arguments: list[bytes]) -> Answer:
    """REPLCONF name value...: what replicas say of themselves."""
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
            raise Error(f"ERR Unrecognized REPLCONF option: {words(word)}")
    return "OK"


def psync(client: Client, arguments: list[bytes]) -> Answer:
    """PSYNC replicationid offset."""
    server = client.server
    session = session_of(client)
    if server.following is not None and not server.following.is_up:
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


# --- what is remembered -----------------------------------------------------------------------


def slowlog_get(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG GET [count]."""
    count = integer(arguments[2], _COUNT) if len(arguments) == 3 else 10
    if count < -1:
        raise Error(_COUNT)
    return cast(Reply, client.server.slowlog.last(count))


_COUNT = "ERR count should be greater than or equal to -1"


def slowlog_len(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG LEN."""
    return len(client.server.slowlog)


def slowlog_reset(client: Client, arguments: list[bytes]) -> Answer:
    """SLOWLOG RESET."""
    client.server.slowlog.reset()
    return "OK"


def no_samples(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY LATEST, LATENCY HISTORY: latencies of this process say nothing of Redis's."""
    return []


def latency_reset(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY RESET [event...]."""
    return 0


def latency_histogram(client: Client, arguments: list[bytes]) -> Answer:
    """LATENCY HISTOGRAM [command...]."""
    return Pairs()


def time(client: Client, arguments: list[bytes]) -> Answer:
    """TIME."""
    microseconds = int(client.server.wall() * 1_000_000)
    return [b"%d" % (microseconds // 1_000_000), b"%d" % (microseconds % 1_000_000)]


def memory_usage(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY USAGE key [SAMPLES count]."""
    if len(arguments) not in (3, 5) or (len(arguments) == 5 and arguments[3].lower() != b"samples"):
        raise Error(SYNTAX)
    if len(arguments) == 5 and integer(arguments[4]) < 0:
        raise Error(SYNTAX)
    return client.server.memory.size(arguments[2])


def memory_purge(client: Client, arguments: list[bytes]) -> Answer:
    """MEMORY PURGE."""
    return "OK"


def object_encoding(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT ENCODING key."""
    item = client.store.get(arguments[2])
    return None if item is None else client.store.encoding(item.value).encode()


def object_refcount(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT REFCOUNT key."""
    return None if client.store.get(arguments[2]) is None else 1


def object_idletime(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT IDLETIME key: it is not kept."""
    return None if client.store.get(arguments[2]) is None else 0


def object_freq(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT FREQ key."""
    if client.store.get(arguments[2]) is None:
        return None
    raise Error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
        "that when switching between policies at runtime LRU and LFU data will take some time to "
        "adjust."
    )


# --- persistence ------------------------------------------------------------------------------


def bgrewriteaof(client: Client, arguments: list[bytes]) -> Answer:
    """BGREWRITEAOF."""
    if client.server.is_rewriting:
        raise Error("ERR Background append only file rewriting already in progress")
    client.server.rewrite_aof()
    return "Background append only file rewriting started"


def lastsave(client: Client, arguments: list[bytes]) -> Answer:
    """LASTSAVE."""
    return int(client.server.wall())


def not_here(client: Client, arguments: list[bytes]) -> Answer:
    """What a node in this process can't do."""
    raise Error(f"ERR {arguments[0].upper().decode()} is not supported by an embedded node")


def protected(client: Client, arguments: list[bytes]) -> Answer:
    """DEBUG, MODULE LOAD: off, as Redis has it by default."""
    name = arguments[0].lower().decode()
    raise Error(
        f"ERR {name.upper()} command not allowed. If the enable-{name}-command option is set to "
        '"local", you can run it from a local connection, otherwise you need to set this option '
        "in the configuration file, and then restart the server."
    )


def lolwut(client: Client, arguments: list[bytes]) -> Answer:
    """LOLWUT."""
    version = version_of(client.server.config.engine)
    return Verbatim(f"{version.name.capitalize()} ver. {version.number}\n".encode())


def module_list(client: Client, arguments: list[bytes]) -> Answer:
    """MODULE LIST."""
    return []


def _helper(lines: list[str]) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        return list(lines)

    return run


HANDLERS: Mapping[str, Handler] = {
    **{f"{name}|help": _helper(lines) for name, lines in data("help.json")},
    **dict.fromkeys(("bgsave", "save", "shutdown", "sync", "migrate"), not_here),
    **dict.fromkeys(("debug", "module|load", "module|loadex", "module|unload"), protected),
    **dict.fromkeys(("failover", "replicaof", "slaveof"), not_in_cluster),
    **dict.fromkeys(("acl|load", "acl|save"), acl_file),
    **dict.fromkeys(("latency|history", "latency|latest"), no_samples),
    "acl|cat": acl_cat,
    "acl|deluser": acl_deluser,
    "acl|dryrun": acl_dryrun,
    "acl|genpass": acl_genpass,
    "acl|getuser": acl_getuser,
    "acl|list": acl_list,
    "acl|log": acl_log,
    "acl|setuser": acl_setuser,
    "acl|users": acl_users,
    "acl|whoami": acl_whoami,
    "bgrewriteaof": bgrewriteaof,
    "command": command,
    "command|count": command_count,
    "command|docs": command_docs,
    "command|getkeys": command_getkeys,
    "command|getkeysandflags": command_getkeysandflags,
    "command|info": command_info,
    "command|list": command_list,
    "config|get": config_get,
    "config|resetstat": config_resetstat,
    "config|rewrite": config_rewrite,
    "config|set": config_set,
    "info": info,
    "lastsave": lastsave,
    "latency|histogram": latency_histogram,
    "latency|reset": latency_reset,
    "lolwut": lolwut,
    "memory|purge": memory_purge,
    "memory|usage": memory_usage,
    "module|list": module_list,
    "object|encoding": object_encoding,
    "object|freq": object_freq,
    "object|idletime": object_idletime,
    "object|refcount": object_refcount,
    "psync": psync,
    "replconf": replconf,
    "role": role,
    "slowlog|get": slowlog_get,
    "slowlog|len": slowlog_len,
    "slowlog|reset": slowlog_reset,
    "time": time,
}
