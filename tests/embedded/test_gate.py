"""The gate that holds a node's connections."""

import asyncio
from typing import cast

from cachesim.aio.pipe import pipe
from cachesim.embedded.gate import Gate


class Noting(asyncio.Protocol):
    """Notes data and the end."""

    def __init__(self) -> None:
        self.data = b""
        self.is_made = self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.is_made = True

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


def test_connections_that_were_given_up_are_left_out() -> None:
    """Those that are still wanted are served when the gate opens, as are those of before."""

    async def main() -> None:
        gate, loop = Gate(), asyncio.get_running_loop()
        old, given_up, wanted = Noting(), Noting(), Noting()
        before, _ = pipe(loop, Noting(), gate.wrap(old))
        gate.shut()
        first, _ = pipe(loop, Noting(), gate.wrap(given_up))
        second, _ = pipe(loop, Noting(), gate.wrap(wanted))
        for transport in (before, first, second):
            transport.write(b"hello")
        before.close()
        first.close()
        gate.open()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (old.data, old.is_lost) == (b"hello", True)
        assert (wanted.data, wanted.is_lost) == (b"hello", False)
        assert not given_up.is_made
        assert given_up.data == b""

    asyncio.run(main())


def test_paused_reading_stays_paused() -> None:
    """What a protocol does not read yet, it is not given when the gate opens."""

    async def main() -> None:
        gate, inside = Gate(), Noting()
        transport, _ = pipe(asyncio.get_running_loop(), Noting(), gate.wrap(inside))
        inside.transport.pause_reading()
        gate.shut()
        gate.open()
        transport.write(b"late")
        transport.write_eof()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (inside.data, inside.is_lost) == (b"", False)
        gate.shut()
        inside.transport.resume_reading()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (inside.data, inside.is_lost) == (b"", False)
        gate.open()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (inside.data, inside.is_lost) == (b"late", True)

    asyncio.run(main())
