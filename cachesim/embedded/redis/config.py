"""The configuration that a Redis node is started with."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

AOF_NAME = "appendonly.aof"
NODES_NAME = "nodes.conf"
ANNOUNCED_PORTS = (
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "replica-announce-port",
)
"""The settings with the port that a node announces."""


@dataclass(frozen=True)
class NodeAddress:
    """The id of a node in the cluster, and the address that it announces.

    Attributes:
        id: 40 hexadecimal digits.
        hostname: the hostname announced to clients; None announces the host.
    """

    id: str
    host: str
    port: int
    bus_port: int
    hostname: str | None = None


@dataclass(frozen=True)
class RedisNodeConfig:
    """The configuration of a node at its first start.

    Attributes:
        directory: the existing folder for the node's files.
        engine: `redis` or `valkey`.
        redis_version: Redis's release: `7.0`, `7.2`, `7.4` or `8.0`.
        nodes: the addresses of all nodes of the shard by name, this node included.
        primary: the name of the first primary.
        users: ACL rules by user name, as in a configuration file: `on #<hash> ~* &* +@all`.
        replication_user: the user that replicas authenticate as.
        replication_password: that user's password; it also authenticates the cluster bus.
        server_tls: the TLS of connections to the node; None: plain TCP.
        peer_tls: the TLS of connections to other nodes; None: plain TCP.
        peer_hostname: the name in the peers' certificates.
        settings: the changed settings by name, in the units of `redis.conf`.
    """

    name: str
    directory: Path
    nodes: Mapping[str, NodeAddress]
    primary: str
    engine: str = "redis"
    redis_version: str = "7.0"
    users: Mapping[str, str] = field(default_factory=dict)
    replication_user: str = "default"
    replication_password: str = field(default="", repr=False)
    server_tls: ssl.SSLContext | None = None
    peer_tls: ssl.SSLContext | None = None
    peer_hostname: str = "localhost"
    settings: Mapping[str, str] = field(default_factory=dict)


def initial_settings(config: RedisNodeConfig) -> dict[str, str]:
    """Return the settings of a node, with the values that an emulated node sets itself."""
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
