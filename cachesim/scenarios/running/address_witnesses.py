"""Witnesses of what leads to nodes: addresses, endpoints and auto discovery.

They try it over connections of their own, as clients do.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cachesim.scenarios.running.attempts import TIMEOUT, Attempts
from cachesim.scenarios.running.beats import Beats
from cachesim.topology import Endpoint

_RECENT = 1.0
"""Seconds within which a node has answered a beat, or a connection to an endpoint has failed."""


@dataclass(frozen=True)
class Ways:
    """How clients find nodes.

    Attributes:
        endpoints: the configuration endpoints, by name.
        tls: the context of connections.
        ttl: seconds for which an endpoint may lead to where a node was before, without a fault.
    """

    beats: Beats
    endpoints: Mapping[str, Endpoint]
    tls: ssl.SSLContext
    ttl: float
    _astray: dict[str, tuple[float, float]] = field(default_factory=dict)

    def has_left(self, node: str) -> bool:
        """Return whether nothing answers at a node's former address, and it does at another."""
        former = self.beats.former.get(node)
        return former is not None and self._answers([node]) and not self._connects(former)

    def is_astray(self, endpoint: str) -> bool:
        """Return whether an endpoint leads to nothing although all its nodes answer.

        So it was for longer than without a fault.
        """
        service, now = endpoint.removeprefix("endpoint-"), time.monotonic()
        nodes = [it for it in tuple(self.beats.endpoints) if it.startswith(f"{service}-")]
        first, last = self._astray.get(endpoint, (now, now))
        are_there = self._answers(nodes)
        if not are_there or now - last > _RECENT:
            self._astray.pop(endpoint, None)
        if are_there and not self._connects(self.endpoints[endpoint]):
            first, _ = self._astray.get(endpoint, (now, now))
            self._astray[endpoint] = first, now
        return endpoint in self._astray and now - first > self.ttl

    def tells(self, count: str) -> bool:
        """Return whether the Memcached endpoint tells so many nodes."""
        from pymemcache.exceptions import MemcacheError

        from cachesim.workload.discovery import discovered

        at = self.endpoints["endpoint-memcached"]
        with contextlib.suppress(OSError, MemcacheError, ValueError):
            return len(discovered((at.host, at.port), self.tls)) == int(count)
        return False

    def _answers(self, nodes: Collection[str]) -> bool:
        since = time.monotonic() - _RECENT
        return all(any(it.ok for it in self.beats.recent(node, since)) for node in nodes)

    def _connects(self, endpoint: Endpoint) -> bool:
        try:
            with socket.create_connection((endpoint.host, endpoint.port), TIMEOUT) as plain:
                self.tls.wrap_socket(plain, server_hostname=endpoint.host).close()
        except OSError:
            return False
        return True


class Left(Attempts):
    """Nodes have left their addresses, for good."""

    def __init__(self, nodes: Sequence[str], ways: Ways) -> None:
        super().__init__("connections to former addresses", nodes, ways.has_left)

    def gone(self, since: float) -> float | None:
        """Return when the heal was: nothing comes back."""
        return since
