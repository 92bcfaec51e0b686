"""The cluster commands: CLUSTER, READONLY, READWRITE, ASKING."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachesim.embedded.redis.cluster.nodes import Member
from cachesim.embedded.redis.cluster.slots import SLOTS, slot_of, slot_ranges
from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, printed
from cachesim.embedded.redis.replication.backlog import first_id
from cachesim.protocols.resp import Error, Pairs, Reply, Verbatim

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_ONE_SHARD = "ERR the nodes and slots of an emulated cluster are fixed"


def _member(client: Client, word: bytes) -> Member:
    member = client.server.nodes.members.get(word.decode("utf-8", "replace"))
    if member is None:
        raise Error(f"ERR Unknown node {printed(word)}")
    return member


def _offset(server: "Server", member: Member) -> int:
    return server.stream.offset if member is server.nodes.me else member.offset


def info(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER INFO."""
    nodes, gossip = client.server.nodes, client.server.gossip
    assigned = nodes.assigned.bit_count()
    pfail = sum(m.slots.bit_count() for m in nodes.primaries if m.suspected)
    fail = sum(m.slots.bit_count() for m in nodes.primaries if m.failed_at is not None)
    me = nodes.me
    epoch = me.epoch if me.primary is None else nodes.members.get(me.primary, me).epoch
    fields: dict[str, object] = {
        "cluster_state": "ok" if gossip.is_ok else "fail",
        "cluster_slots_assigned": assigned,
        "cluster_slots_ok": assigned - pfail - fail,
        "cluster_slots_pfail": pfail,
        "cluster_slots_fail": fail,
        "cluster_known_nodes": len(nodes.members),
        "cluster_size": len(nodes.primaries),
        "cluster_current_epoch": gossip.current_epoch,
        "cluster_my_epoch": epoch,
    }
    for way, counts in (("sent", gossip.sent), ("received", gossip.received)):
        for kind, count in sorted(counts.items()):
            fields[f"cluster_stats_messages_{kind}_{way}"] = count
        fields[f"cluster_stats_messages_{way}"] = sum(counts.values())
    fields["total_cluster_links_buffer_limit_exceeded"] = 0
    return Verbatim("".join(f"{key}:{value}\r\n" for key, value in fields.items()).encode())


def nodes(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER NODES."""
    server = client.server
    lines = server.nodes.lines(server.cluster.milliseconds)
    return Verbatim("".join(f"{line}\n" for line in lines).encode())


def myid(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER MYID."""
    return client.server.nodes.me.id.encode()


def _by_name(server: "Server", member: Member) -> list[bytes]:
    """Return the metadata of a node in CLUSTER SLOTS: the address that is not the preferred one."""
    by_hostname = server.settings["cluster-preferred-endpoint-type"] == "hostname"
    if by_hostname:
        return [b"ip", member.host.encode()]
    return [b"hostname", member.hostname.encode()] if member.hostname else []


def slots(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER SLOTS."""
    server = client.server
    nodes = server.nodes
    rows: list[Reply] = []
    for owner in nodes.primaries:
        told = [owner, *(m for m in nodes.replicas_of(owner) if m.is_available)]
        entries: list[Reply] = [
            [
                server.redirects.endpoint(member).encode(),
                member.port,
                member.id.encode(),
                Pairs(_by_name(server, member)),
            ]
            for member in told
        ]
        rows += [[first, last, *entries] for first, last in slot_ranges(owner.slots)]
    return rows


def shards(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER SHARDS."""
    server = client.server
    nodes = server.nodes
    ports = [b"port"]
    if server.config.server_tls is not None:
        # With TLS the plain port is the one that is announced, if there is one.
        announced = server.settings.number("cluster-announce-port")
        ports = [b"port", b"tls-port"] if announced else [b"tls-port"]
    rows: list[Reply] = []
    for owner in (m for m in nodes.members.values() if m.is_primary):
        told: list[Reply] = []
        for member in [owner, *nodes.replicas_of(owner)]:
            fields: list[Reply] = [b"id", member.id.encode()]
            for port in ports:
                fields += [port, member.port]
            fields += [b"ip", member.host.encode()]
            fields += [b"endpoint", server.redirects.endpoint(member).encode()]
            if member.hostname:
                fields += [b"hostname", member.hostname.encode()]
            fields += [b"role", b"master" if member.is_primary else b"replica"]
            fields += [b"replication-offset", _offset(server, member)]
            health = b"online" if member.is_primary or member.is_synced else b"loading"
            fields += [b"health", b"fail" if member.failed_at is not None else health]
            told.append(Pairs(fields))
        flat: list[Reply] = [slot for pair in slot_ranges(owner.slots) for slot in pair]
        rows.append(Pairs([b"slots", flat, b"nodes", told]))
    return rows


def links(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER LINKS."""
    server = client.server
    rows: list[Reply] = []
    for id_, link in server.bus.outbound.items():
        created = server.cluster.milliseconds(server.bus.opened_at[id_])
        waiting = link.transport.get_write_buffer_size()
        rows.append(_link(b"to", id_, created, waiting))
    rows.extend(
        _link(b"from", link.peer.id, server.cluster.milliseconds(link.opened_at), 0)
        for link in server.bus.inbound
        if link.peer is not None
    )
    return rows


def _link(direction: bytes, node: str, created: int, waiting: int) -> Reply:
    return Pairs(
        [
            b"direction", direction, b"node", node.encode(), b"create-time", created,
            b"events", b"rw" if waiting else b"r", b"send-buffer-allocated", waiting,
            b"send-buffer-used", waiting,
        ]
    )  # fmt: skip


def keyslot(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER KEYSLOT key."""
    return slot_of(arguments[2])


def countkeysinslot(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER COUNTKEYSINSLOT slot."""
    slot = integer(arguments[2])
    if not 0 <= slot < SLOTS:
        raise Error("ERR Invalid slot")
    return sum(slot_of(key) == slot for key in client.store.values)


def getkeysinslot(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER GETKEYSINSLOT slot count."""
    slot, count = integer(arguments[2]), integer(arguments[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise Error("ERR Invalid slot or number of keys")
    return [key for key in client.store.values if slot_of(key) == slot][:count]


def replicas(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER REPLICAS id, CLUSTER SLAVES id."""
    server, member = client.server, _member(client, arguments[2])
    if not member.is_primary:
        raise Error("ERR The specified node is not a master")
    lines = {line[:40]: line for line in server.nodes.lines(server.cluster.milliseconds)}
    return [lines[m.id].encode() for m in server.nodes.replicas_of(member)]


def count_failure_reports(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER COUNT-FAILURE-REPORTS id."""
    return client.server.gossip.failure_reports(_member(client, arguments[2]))


def failover(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER FAILOVER [FORCE | TAKEOVER]: only TAKEOVER promotes, as nobody votes."""
    server = client.server
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    mode = arguments[2].lower() if len(arguments) == 3 else b""
    if len(arguments) == 3 and mode not in (b"force", b"takeover"):
        raise Error(SYNTAX)
    if server.nodes.me.is_primary:
        raise Error("ERR You should send CLUSTER FAILOVER to a replica")
    if mode == b"takeover":
        server.log("Taking over the master (user request).", "#")
        server.gossip.take_over()
        return "OK"
    if mode == b"" and (server.replica_link is None or not server.replica_link.is_up):
        raise Error("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
    server.log("Forced failover user request accepted; nobody votes here.", "#")
    return "OK"


def replicate(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER REPLICATE id."""
    server, member = client.server, _member(client, arguments[2])
    me = server.nodes.me
    if member is me:
        raise Error("ERR Can't replicate myself")
    if not member.is_primary:
        raise Error("ERR I can only replicate a master, not a replica.")
    if me.is_primary and (me.slots or server.store.values):
        raise Error("ERR To set a master the node must be empty and without assigned slots.")
    server.gossip.replicate(member)
    return "OK"


def myshardid(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER MYSHARDID, since 7.2."""
    return first_id(client.server.nodes.members).encode()


def saveconfig(client: Client, arguments: list[bytes]) -> Answer:
    """CLUSTER SAVECONFIG."""
    client.server.cluster.save()
    return "OK"


def fixed(client: Client, arguments: list[bytes]) -> Answer:
    """Refuse a command that changes the nodes or slots."""
    raise Error(_ONE_SHARD)


# --- for one connection ---------------------------------------------------------------------


def readonly(client: Client, arguments: list[bytes]) -> Answer:
    """READONLY: a replica answers reads from now on."""
    client.is_readonly = True
    return "OK"


def readwrite(client: Client, arguments: list[bytes]) -> Answer:
    """READWRITE: a replica redirects all requests from now on."""
    client.is_readonly = False
    return "OK"


def asking(client: Client, arguments: list[bytes]) -> Answer:
    """ASKING: no effect, as slots never migrate."""
    return "OK"


_FIXED = (
    "addslots", "addslotsrange", "bumpepoch", "delslots", "delslotsrange", "flushslots",
    "forget", "meet", "reset", "set-config-epoch", "setslot",
)  # fmt: skip

HANDLERS: Mapping[str, Handler] = {
    **{f"cluster|{name}": fixed for name in _FIXED},
    **help_of("cluster"),
    "asking": asking,
    "cluster|count-failure-reports": count_failure_reports,
    "cluster|countkeysinslot": countkeysinslot,
    "cluster|failover": failover,
    "cluster|getkeysinslot": getkeysinslot,
    "cluster|info": info,
    "cluster|keyslot": keyslot,
    "cluster|links": links,
    "cluster|myid": myid,
    "cluster|myshardid": myshardid,
    "cluster|nodes": nodes,
    "cluster|replicas": replicas,
    "cluster|replicate": replicate,
    "cluster|saveconfig": saveconfig,
    "cluster|shards": shards,
    "cluster|slaves": replicas,
    "cluster|slots": slots,
    "readonly": readonly,
    "readwrite": readwrite,
}
