"""WATCH, without connections."""

from dataclasses import dataclass, field

from cachesim.embedded.redis.connections.watched_keys import WatchedKeys


@dataclass(eq=False)
class Client:
    """A client that watches keys."""

    watched: dict[bytes, bool] = field(default_factory=dict)
    watch_failed: bool = False


def test_watch() -> None:
    """A change of a watched key is noted until UNWATCH; other keys do not matter."""
    keys, client, other = WatchedKeys(), Client(), Client()
    keys.add(client, b"a")
    keys.add(other, b"b")
    keys.changed([b"a", b"c"])
    assert client.watch_failed
    assert not other.watch_failed
    keys.remove(client)
    keys.changed([b"a"])
    assert not client.watch_failed
    assert list(keys.by_key) == [b"b"]
