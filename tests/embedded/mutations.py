"""Helpers of the tests with broken requests: breaking requests, and a sink for replies."""

import asyncio
import random
from collections.abc import Sequence

HANG = 0.1  # seconds


def broken(data: bytearray, tokens: Sequence[bytes], r: random.Random) -> bytes:
    """Return requests with a few errors.

    Args:
        tokens: texts to insert anywhere.
    """
    for _ in range(r.choice((0, 1, 1, 2, 3, 8))):
        at = r.randrange(len(data) + 1)
        match r.randrange(6):
            case 0:
                data[at : at + 1] = bytes([r.randrange(256)])
            case 1:
                del data[at : at + r.choice((1, 1, 2, 5, 50))]
            case 2:
                data[at:at] = r.choice(tokens)
            case 3:
                end = at + r.randrange(20)
                data[at:at] = data[at:end] * r.choice((1, 2, 50))
            case 4:
                data[at:at] = r.randbytes(r.choice((1, 3, 30)))
            case 5:
                del data[at:]
    return bytes(data)


class Sink(asyncio.Transport):
    """A transport that drops what a server sends."""

    is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop data."""

    def close(self) -> None:
        """Close."""
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        """Return 0."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""
