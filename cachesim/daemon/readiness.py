"""Waits until nodes answer: one by one, or all of them through their links."""

import contextlib
import time
from typing import TYPE_CHECKING

from cachesim.clock import Deadline
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.credentials import DEFAULT_USER
from cachesim.servers.redis_health import RedisHealth

if TYPE_CHECKING:
    from cachesim.daemon.provisioning import Provision

_POLL = 0.005  # seconds


def wait_through_links(provision: "Provision", deadline: Deadline) -> None:
    """Wait until every node is ready as clients see it, through its client link.

    Raises:
        NotReady: a node was not ready in time.
    """
    through = NodeClients(
        provision.backend.endpoint,
        DEFAULT_USER,
        provision.credentials.token,
        provision.tls,
    )
    try:
        for shard in provision.topology.shards:
            RedisHealth(shard, through).wait_healthy(shard.first_primary, deadline)
        for node in provision.topology.memcached:
            wait_for_memcached(node.name, through, deadline)
    except NotReady as error:
        log = provision.backend.logs(error.node)
        raise NotReady(
            f"{error} (seen by a client). The tail of its log:\n{log}\n"
            "A slow machine may need a higher start_timeout_seconds.",
            error.node,
        ) from error
    finally:
        through.close()


def wait_for_memcached(node: str, at: NodeClients, deadline: Deadline) -> None:
    """Wait until a Memcached node answers.

    Args:
        at: connects to the node, at its admin address or through its link.

    Raises:
        NotReady: it did not answer in time.
    """
    client = at.new_memcached(node)
    with contextlib.closing(client):
        while True:
            try:
                client.version()
                return
            except errors() as error:
                client.close()
                if deadline.expired:
                    raise NotReady(f"{node}: does not answer: {error}", node) from error
                time.sleep(_POLL)
