"""The gate that holds a node's connections."""

import asyncio

from cachesim.aio.pipe import pipe
from cachesim.embedded.gate import Gate


class Noting(asyncio.Protocol):
    """Notes data and the end."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Note the data."""
        self.data += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the end."""
        self.is_lost = True


def test_end_leaves_no_connection() -> None:
    """At the end held data is passed on, then connections that are still open are reset."""

    async def main() -> None:
        gate, inside, outside = Gate(), Noting(), Noting()
        gate.shut()
        transport, _ = pipe(asyncio.get_running_loop(), outside, gate.wrap(inside))
        transport.write(b"late")
        gate.end()
        for _ in range(5):
            await asyncio.sleep(0)
        assert inside.is_lost
        assert outside.is_lost

    asyncio.run(main())
