"""Listeners before real Memcached nodes, each of which answers `config get cluster` for its node.

Their addresses are those that the nodes announce. They lead to the links of clients, which Docker
publishes elsewhere then: no byte goes around these.
"""

import contextlib
from typing import TYPE_CHECKING

from cachesim.aio.loop import LoopThread
from cachesim.embedded.toxiproxy.proxies import Proxies
from cachesim.embedded.toxiproxy.proxy import ProxySpec
from cachesim.errors import CachesimError
from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from cachesim.backends.discovery import Discovery
    from cachesim.embedded.toxiproxy.proxy import Connected, Factory


class NodeListeners:
    """The listeners of all nodes, on 127.0.0.1.

    Args:
        thread: the loop that serves them.
        host: the name or address that clients use.
    """

    def __init__(self, thread: LoopThread, discovery: "Discovery", host: str) -> None:
        self.host = host
        self._thread = thread
        self._discovery = discovery
        self._proxies = Proxies(thread.loop, self._dial)
        # The ports that nodes had at first, and the listeners of each, its present one last.
        self._first: dict[str, int] = {}
        self._of: dict[str, list[str]] = {}

    async def _dial(self, factory: "Factory", link: str) -> "Connected":
        return self._discovery.accept(self._thread.loop, factory, Endpoint.parse(link))

    def open(self, node: str, port: int, link: Endpoint, *, beside: bool = False) -> None:
        """Listen for a node. If it has its first port again, all its other listeners are closed.

        Args:
            link: where its link of clients is published.
            beside: whether its present listener stays too. Else that refuses from now on.

        Raises:
            ToxiproxyError: the port is taken.
        """
        self._thread.call(self._open, node, port, link, beside)

    def _open(self, node: str, port: int, link: Endpoint, beside: bool) -> None:
        first, there = self._first.setdefault(node, port), self._of.setdefault(node, [])
        spec = ProxySpec(f"{node} at {port}", str(link), f"127.0.0.1:{port}")
        former = [name for name in there if name != spec.name]
        if spec.name not in there:
            # Nobody else may take the first port while the node is elsewhere.
            self._proxies.create(spec, keep_port=port == first)
            there.append(spec.name)
        for name in former if port == first else [] if beside else former[-1:]:
            self._proxies.delete(name)
            there.remove(name)

    def close(self, node: str) -> None:
        """Close the listeners of a node, and their connections. Repeating it is harmless."""

        def close() -> None:
            for name in self._of.pop(node, ()):
                self._proxies.delete(name)
            if (port := self._first.pop(node, None)) is not None:
                self._proxies.give_up(f"127.0.0.1:{port}")

        with contextlib.suppress(CachesimError):  # the loop does not run any more
            self._thread.call(close)

    def stop(self) -> None:
        """Close all of them. Call it in the loop's thread."""
        self._proxies.close()
