"""MONITOR, without connections."""

from cachesim.embedded.redis.connections.monitors import Monitors


def test_feed() -> None:
    """A line has the time, the source, and the quoted words."""
    monitors = Monitors()
    sent: list[bytes] = []
    monitors.add(1, sent.append)
    monitors.feed(12.5, "127.0.0.1:9", [b"SET", b'a"\n\x00', b"v"])
    monitors.feed(12.25, "", [b"GET", b"k"])
    monitors.remove(1)
    monitors.feed(13.0, "", [b"GET", b"k"])
    assert sent == [
        b'+12.500000 [0 127.0.0.1:9] "SET" "a\\"\\n\\x00" "v"\r\n',
        b'+12.250000 [0 lua] "GET" "k"\r\n',
    ]
