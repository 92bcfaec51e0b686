"""Facts about ElastiCache: what it forbids, its limits and the texts of its events.

Sources: "Supported and restricted commands" and "Event notifications" in the Amazon ElastiCache
user guide.
"""

FORBIDDEN_COMMANDS = (
    "bgrewriteaof", "bgsave", "config", "debug", "migrate", "psync", "replicaof", "save",
    "slaveof", "shutdown", "sync",
    "acl|deluser", "acl|load", "acl|save", "acl|setuser",
    "cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|delslots",
    "cluster|delslotsrange", "cluster|failover", "cluster|flushslots", "cluster|forget",
    "cluster|meet", "cluster|replicate", "cluster|reset", "cluster|setslot",
)  # fmt: skip
"""The commands that clients may not use, as ACL rules name them."""

ROTATE, SET = TOKEN_STRATEGIES = ("rotate", "set")
"""How an AUTH token is changed: at first the old and the new one are valid, then the new one."""
MAX_CONNECTIONS = 65_000
"""The connection limit of a Redis node."""


def test_failover_called(shard: str) -> str:
    """Return the text of the event that begins a test failover.

    Args:
        shard: the id of the node group, such as `0001`.
    """
    return f"Test Failover API called for node group {shard}"


def failover_completed(primary: str, replica: str) -> str:
    """Return the text of the event that ends a failover."""
    return f"Failover from primary node {primary} to replica node {replica} completed"


def nodes_added(before: int, after: int) -> str:
    """Return the text of the event that ends the addition of nodes to a cluster."""
    return f"Finished modifying number of nodes from {before} to {after}"


def nodes_removed(*nodes: str) -> str:
    """Return the text of the event that ends the removal of nodes from a cluster."""
    return f"Removed cache nodes {', '.join(nodes)}"


def recovering(node: str) -> str:
    """Return the text of the event that begins a node's recovery."""
    return f"Recovering cache nodes {node}"


def recovered(node: str) -> str:
    """Return the text of the event that ends a node's recovery."""
    return f"Finished recovery for cache nodes {node}"
