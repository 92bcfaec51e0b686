"""The configuration that a Redis node is started with."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AOF_NAME = "appendonly.aof"
NODES_NAME = "nodes.conf"


@dataclass(frozen=True)
class NodeAddress:
    """The id of a node in the cluster, and the address that it announces.

    Attributes:
        id: 40 hexadecimal digits.
        hostname: announced to clients instead of the host, if there is one.
    """

    id: str
    host: str
    port: int
    bus_port: int
    hostname: str | None = None


@dataclass(frozen=True)
class RedisNodeConfig:
    """A node of a shard at its first start.

    Attributes:
        directory: for its files. It must exist.
        engine: `redis` or `valkey`.
        nodes: the addresses of all nodes of the shard by name, this node included.
        primary: the name of the first primary.
        users: ACL rules by user name, as in a configuration file: `on #<hash> ~* &* +@all`.
        replication_user: the user that replicas authenticate as.
        replication_password: that user's password; it also authenticates the cluster bus.
        server_tls: for connections to the node; None for plain ones.
        peer_tls: for connections to other nodes; None for plain ones.
        peer_hostname: the name in the peers' certificates.
        settings: those that are not Redis's defaults, by name, in the units of `redis.conf`.
    """

    name: str
    directory: Path
    nodes: Mapping[str, NodeAddress]
    primary: str
    engine: str = "redis"
    users: Mapping[str, str] = field(default_factory=dict)
    replication_user: str = "default"
    replication_password: str = field(default="", repr=False)
    server_tls: ssl.SSLContext | None = None
    peer_tls: ssl.SSLContext | None = None
    peer_hostname: str = "localhost"
    settings: Mapping[str, str] = field(default_factory=dict)


def initial_settings(config: RedisNodeConfig) -> dict[str, str]:
    """Return the settings of a node, with those that are true of emulated nodes alone."""
    return {
        **config.settings,
        "bind": "127.0.0.1",
        "dir": str(config.directory),
        "daemonize": "no",
        "enable-debug-command": "no",
        "cluster-config-file": NODES_NAME,
        "masteruser": config.replication_user,
        "masterauth": config.replication_password,
    }
