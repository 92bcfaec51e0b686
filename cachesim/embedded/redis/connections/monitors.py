"""MONITOR: connections that get every request."""

from collections.abc import Callable

_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b"}

_REDACTED = b"(redacted)"


class Monitors:
    """All connections that have sent MONITOR.

    Attributes:
        by_id: the functions that send to the connections, by client id.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, Callable[[bytes], object]] = {}

    def add(self, client_id: int, send: Callable[[bytes], object]) -> None:
        """Add a connection."""
        self.by_id[client_id] = send

    def remove(self, client_id: int) -> None:
        """Remove a connection. Idempotent."""
        self.by_id.pop(client_id, None)

    def feed(self, now: float, source: str, arguments: list[bytes]) -> None:
        """Send a request to all connections.

        Args:
            now: seconds since the epoch.
            source: the address of the client; empty for a script.
        """
        name = arguments[0].lower()
        if name == b"auth" and len(arguments) <= 3:
            arguments = [arguments[0], *[_REDACTED] * (len(arguments) - 1)]
        elif name == b"hello":
            at = next((at for at, word in enumerate(arguments) if word.lower() == b"auth"), None)
            if at is not None and at + 2 < len(arguments):
                arguments = [*arguments[: at + 1], _REDACTED, _REDACTED, *arguments[at + 3 :]]
        shown = " ".join(_quoted(word) for word in arguments)
        line = f"+{int(now)}.{int(now % 1 * 1_000_000):06} [0 {source or 'lua'}] {shown}\r\n"
        for send in list(self.by_id.values()):
            send(line.encode("latin-1"))


def _quoted(word: bytes) -> str:
    shown = (_ESCAPES.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in word)
    return f'"{"".join(shown)}"'
