"""A client that sees every byte that a node sends, and when the connection ends."""

import re
from typing import Self

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.protocols.resp import request
from tests.contract.helpers import raw_tls

CLOSED = "(closed)"
"""Stands after the last bytes of a connection that the node has closed."""


class Wire:
    """A bare connection to a node, over the link that clients use.

    What the node sends is a text: each line ends with a space, and the address of a node is its
    name. So `+OK ` is a reply, and `-MOVED 7629 redis-b ` an error.

    Args:
        node: the node's name.
        resp: the version of the protocol.
    """

    def __init__(self, sim: Simulator, node: str, resp: int = 2) -> None:
        self.node = node
        self.resp = resp
        self._addresses = {f"{n.endpoint.host}:{n.endpoint.port}": n.name for n in sim.redis}
        self._socket = raw_tls(sim, sim.nodes[node].endpoint)
        self._data = b""
        self._is_closed = False
        self.ask("AUTH", sim.env()["CACHESIM_REDIS_PASSWORD"]).expect("+OK ")
        if resp == 3:
            self.ask("HELLO", 3).find(r"modules (\*|~)\d+ ")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, *words: str | int) -> Self:
        """Send a request."""
        self._socket.sendall(request([str(word).encode() for word in words]))
        return self

    def push(self, *items: str | int) -> str:
        """Return what a push message is, in the client's protocol."""
        texts = [f":{i} " if isinstance(i, int) else f"${len(i)} {i} " for i in items]
        return f"{'>' if self.resp == 3 else '*'}{len(items)} " + "".join(texts)

    def expect(self, text: str, seconds: float = 10.0) -> None:
        """Check that this, and nothing else, is sent now."""
        deadline = Deadline(seconds)
        while len(self._text) < len(text) and not (self._is_closed or deadline.expired):
            self._receive(deadline.remaining)
        said, self._data = self._text, b""
        assert said == text, f"{self.node}, RESP{self.resp}: {said!r}, not {text!r}"

    def find(self, pattern: str, seconds: float = 10.0) -> str:
        """Wait until a regular expression is found in what is sent; return all that."""
        deadline = Deadline(seconds)
        while not re.search(pattern, self._text):
            if self._is_closed or deadline.expired:
                raise AssertionError(self._text)
            self._receive(deadline.remaining)
        said, self._data = self._text, b""
        return said

    @property
    def _text(self) -> str:
        text = self._data.decode()
        for address, name in self._addresses.items():
            text = text.replace(address, name)
        return text.replace("\r\n", " ") + CLOSED * self._is_closed

    def _receive(self, seconds: float) -> None:
        self._socket.settimeout(max(seconds, 0.001))
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return
        except OSError:
            data = b""
        self._is_closed = not data
        self._data += data
