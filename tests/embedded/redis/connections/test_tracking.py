"""Client-side caching, without connections."""

from dataclasses import dataclass, field

from cachesim.embedded.redis.connections.tracking import CHANNEL, Tracked, Tracking
from cachesim.protocols.resp import Push


@dataclass(eq=False)
class Client:
    """A client that records what it is sent."""

    resp: int = 3
    channels: dict[bytes, None] = field(default_factory=dict)
    tracking: Tracked | None = None
    sent: list[object] = field(default_factory=list)

    def push_later(self, message: Push) -> None:
        """Record a message."""
        self.sent.append(list(message))

    def send(self, data: bytes) -> None:
        """Record data."""
        self.sent.append(data)


def test_a_key_that_was_read() -> None:
    """A client is told once of each key that it has read, and of no other."""
    client, tracking = Client(), Tracking(lambda _: None, lambda call: call(), lambda _: False)
    tracking.start(client, Tracked())
    tracking.read(client, [b"a", b"b"])
    tracking.changed([b"a", b"c"], None)
    tracking.changed([b"a"], None)
    assert client.sent == [[b"invalidate", [b"a"]]]
    tracking.stop(client)
    tracking.changed([b"b"], None)
    assert len(client.sent) == 1
    assert client.tracking is None


def test_noloop() -> None:
    """With NOLOOP, a client is not told of its own changes."""
    client, tracking = Client(), Tracking(lambda _: None, lambda call: call(), lambda _: False)
    tracking.start(client, Tracked(noloop=True))
    tracking.read(client, [b"a"])
    tracking.changed([b"a"], client)
    assert not client.sent


def test_broadcast() -> None:
    """With BCAST, a client is told of all keys with its prefixes, read or not."""
    client, tracking = Client(), Tracking(lambda _: None, lambda call: call(), lambda _: False)
    tracking.start(client, Tracked(broadcasts=True, prefixes=[b"user:"]))
    tracking.changed([b"user:1", b"other"], None)
    assert client.sent == [[b"invalidate", [b"user:1"]]]


def test_redirect() -> None:
    """With REDIRECT, another client is told on a channel, until it is gone."""
    client, listener = Client(), Client(resp=2, channels={CHANNEL: None})
    others = {7: listener}
    tracking = Tracking(others.get, lambda call: call(), lambda _: False)
    tracked = Tracked(redirect=7)
    tracking.start(client, tracked)
    tracking.flushed()
    assert listener.sent == [b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n"]
    others.clear()
    tracking.flushed()
    assert client.sent == [[b"tracking-redir-broken", 7]]
    assert tracked.is_broken
