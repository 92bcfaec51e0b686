"""The configuration of Redis and Valkey servers, real or emulated: settings, users, the cluster.

Real nodes do not find each other by themselves, as that takes Redis 2 to 11 s. Each one is started
with a `nodes.conf` in which it knows all nodes of its shard, as replicas of a placeholder primary
that owns the slots and never existed. So the wanted primary is `ok` at once and takes over with
`CLUSTER FAILOVER TAKEOVER`, the others follow it, and all forget the placeholder. Measured with
Redis 7.0.15, 8.0.2 and Valkey 8.1.1.

If the placeholder were one of the three nodes, it would become a replica of its own replica. A
third node that hears of that before it hears of the takeover may hang (Valkey 8.1, see
`cachesim.servers.redis_health`) or follow the wrong one (Redis 8.0).
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachesim.elasticache import FORBIDDEN_COMMANDS, MAX_CONNECTIONS
from cachesim.servers.credentials import ADMIN_USER, Credentials, acl_hash
from cachesim.servers.redis_cluster import PLACEHOLDER_PRIMARY
from cachesim.topology import Node, Shard, Topology, Zone

FENCED = 1000
"""The `min-replicas-to-write` of a primary that must take no writes: more than there ever are."""
REDIS_PORT = 6379
BUS_PORT = 16379


@dataclass(frozen=True)
class AnnouncedPorts:
    """The ports that a node announces, on 127.0.0.1: those of the links that lead to it."""

    redis: int
    bus: int


def redis_settings(
    node: Node,
    announced: AnnouncedPorts,
    *,
    hostname: str | None,
    node_timeout_ms: int,
    tells_zone: bool = False,
) -> dict[str, str]:
    """Return the settings of production for a node, by name, in the units of `redis.conf`.

    Real servers get them in their `redis.conf`, emulated ones directly. Paths are not
    among them.

    Args:
        hostname: the name that clients are told instead of the announced IP; peers use the IP.
        node_timeout_ms: `cluster-node-timeout`.
        tells_zone: whether clients are told the node's zone; see `can_tell_zone`.
    """
    settings = {
        "port": "0",
        "tls-port": str(REDIS_PORT),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
        "tls-cluster": "yes",
        "tls-protocols": "TLSv1.2 TLSv1.3",
        "protected-mode": "no",
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(node_timeout_ms),
        # Only the control plane promotes.
        "cluster-replica-no-failover": "yes",
        "cluster-announce-ip": "127.0.0.1",
        "cluster-announce-tls-port": str(announced.redis),
        "cluster-announce-port": str(announced.redis),
        "cluster-announce-bus-port": str(announced.bus),
        "replica-announce-ip": "127.0.0.1",
        "replica-announce-port": str(announced.redis),
        # With diskless replication a replica gets nothing for up to 1 s if it acknowledges too
        # early (1 of 8 full resyncs of Redis 7.0), or for the 5 s of the default delay.
        "repl-diskless-sync": "no",
        # A partition shorter than repl-timeout must end without a full resync.
        "repl-backlog-size": "16mb",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(node.max_memory),
        "maxclients": str(MAX_CONNECTIONS),
    }
    if hostname:
        settings["cluster-announce-hostname"] = hostname
        settings["cluster-preferred-endpoint-type"] = "hostname"
    if tells_zone:
        settings["availability-zone"] = str(Zone(node.zone))
    return settings


def can_tell_zone(engine: str, image: str | None = None) -> bool:
    """Return whether servers have the setting `availability-zone`, as Valkey has from 8.0 on.

    Args:
        image: the servers' image, whose tag has the version; None: they are emulated.
    """
    if engine != "valkey" or image is None:
        return engine == "valkey"
    major = re.match(r"\d+", image.rpartition(":")[2])
    return major is not None and int(major[0]) >= 8


def redis_conf(settings: Mapping[str, str], directory: str) -> str:
    """Return the `redis.conf` of a node. It contains no secret: it includes `auth.conf`.

    Args:
        settings: see `redis_settings`.
        directory: where `auth.conf`, the certificates and `nodes.conf` are; the server must be able
            to write to it.
    """
    lines = [
        f"include {directory}/auth.conf",
        f"tls-cert-file {directory}/cert.pem",
        f"tls-key-file {directory}/key.pem",
        f"tls-ca-cert-file {directory}/ca.pem",
        f"cluster-config-file {directory}/nodes.conf",
        *(f"{name} {_quoted(value)}" for name, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value if value and " " not in value else f'"{value}"'


def acl_users(credentials: Credentials, tokens: Iterable[str] | None = None) -> dict[str, str]:
    """Return the ACL rules of each user, by name. They have hashes in place of passwords.

    Args:
        tokens: the AUTH tokens that are valid; None: the first one.
    """
    forbidden = " ".join(f"-{command}" for command in FORBIDDEN_COMMANDS)
    valid = " ".join(map(acl_hash, [credentials.token] if tokens is None else tokens))
    return {
        "default": f"on {valid} ~* &* +@all {forbidden}",
        ADMIN_USER: f"on {acl_hash(credentials.admin_password)} ~* &* +@all",
    }


def auth_conf(credentials: Credentials, tokens: Iterable[str] | None = None) -> str:
    """Return the file with users and passwords that each node's `redis.conf` includes.

    Args:
        tokens: see `acl_users`.
    """
    lines = [
        *(f"user {name} {rules}" for name, rules in acl_users(credentials, tokens).items()),
        f"masteruser {ADMIN_USER}",
        f"masterauth {credentials.admin_password}",
    ]
    return "\n".join(lines) + "\n"


def random_node_ids(topology: Topology) -> dict[str, str]:
    """Draw an id for each Redis node, by name.

    Each run has ids of its own, so that no node is mistaken for another run's.
    """
    return {node.name: secrets.token_hex(20) for node in topology.redis}


def nodes_conf(
    shard: Shard, announced: Mapping[str, AnnouncedPorts], ids: Mapping[str, str]
) -> dict[str, str]:
    """Return the `nodes.conf` of each node of a shard, by name, as Redis 7.0 and later read it.

    Args:
        shard: the only shard of its cluster.
        announced: by the node's name.
        ids: the id of each node, 40 hexadecimal digits, by its name.
    """
    # From 7.2 on, each node would otherwise draw a shard id of its own, and may leave itself out of
    # its CLUSTER SHARDS. Redis 7.0 reads a host name there, until it hears from the node.
    shard_id = f",,shard-id={ids[shard.first_primary]}"
    slots = f"{shard.slots[0]}-{shard.slots[-1]}"
    # Nobody listens there. A node without an address would count as failed.
    placeholder = (
        f"{PLACEHOLDER_PRIMARY} 127.0.0.1:1@1{shard_id} master - 0 0 1 connected {slots}\n"
    )

    def line(name: str, myself: str) -> str:
        ports = announced[name]
        address = f"127.0.0.1:{ports.redis}@{ports.bus}{shard_id}"
        flags = "myself,slave" if name == myself else "slave"
        return f"{ids[name]} {address} {flags} {PLACEHOLDER_PRIMARY} 0 0 1 connected\n"

    return {
        node.name: "".join(line(other.name, node.name) for other in shard.nodes)
        + placeholder
        + "vars currentEpoch 1 lastVoteEpoch 0\n"
        for node in shard.nodes
    }
