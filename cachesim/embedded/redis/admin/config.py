"""What a Redis node is started with."""

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class NodeAddress:
    """Where the cluster says that a node is.

    Attributes:
        id: the node's in the cluster, 40 hex digits.
        hostname: what clients are told instead of the host, if anything.
    """

    id: str
    host: str
    port: int
    bus_port: int
    hostname: str | None = None


def node_id(run: str, name: str) -> str:
    """An id for a node of a run, the same whoever asks."""
    return hashlib.sha1(f"{run} {name}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class RedisNodeConfig:
    """A node of a shard, as it is at its first start.

    Attributes:
        directory: for its files; must exist.
        engine: `redis` or `valkey`.
        nodes: the addresses of all nodes of the shard by name, this one's too.
        primary: the name of the node that is the primary at the first start.
        users: ACL rules by user name, as in a configuration file: `on #<hash> ~* &* +@all`.
        replication_user: the user as whom nodes follow each other.
        replication_password: that user's password; it also authenticates the cluster bus.
        server_tls: for connections to the node; None for plain ones.
        peer_tls: for connections to other nodes; None for plain ones.
        peer_hostname: the name in the peers' certificates.
        settings: further ones, as in a configuration file.
    """

    name: str
    zone: str
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
    max_memory: int = 0
    node_timeout_ms: int = 15_000
    settings: Mapping[str, str] = field(default_factory=dict)
