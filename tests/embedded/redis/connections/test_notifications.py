"""Keyspace notifications on a shard; the events of each command are compared with real ones."""

from pathlib import Path

import pytest

from cachesim.embedded.redis.connections.notifications import Notifications, classes_of, shown
from cachesim.embedded.redis.connections.pubsub import PubSub
from tests.embedded.redis.shard import Shard, in_sync, run


@pytest.mark.parametrize(
    ("given", "kept", "listed"),
    [("KEA", "AKE", "AKE"), ("KEAmn", "AnKEm", "AKEm"), ("Kg$", "g$K", "g$K"), ("", "", "")],
)
def test_classes(given: str, kept: str, listed: str) -> None:
    """Classes are kept in Redis's order, and shown without `n` beside `A`."""
    assert classes_of(given) == kept
    assert shown(kept) == listed
    assert classes_of("xq") is None


def test_on_and_off() -> None:
    """Without K and E, or without a class, nothing is sent."""
    notifications = Notifications(PubSub())
    states = []
    for classes in ("", "A", "K", "Kx", "Ex"):
        notifications.configure(classes)
        states.append(notifications.are_on)
    assert states == [False, False, False, True, True]


def test_on_replicas(tmp_path: Path) -> None:
    """Replicas send the events of what they repeat: `del` for a key that has expired."""

    async def test(shard: Shard) -> None:
        heard = {}
        for zone in "ab":
            admin = await shard.call(zone, admin=True)
            await admin("CONFIG", "SET", "notify-keyspace-events", "EA")
            heard[zone] = await shard.call(zone)
            await heard[zone]("PSUBSCRIBE", "__key*@0__:*")
        client = await shard.call("a")
        await client("SET", "k", "v", "PX", 20)
        await client("LPUSH", "l", "x")
        await client("LPOP", "l")
        await client("HINCRBYFLOAT", "h", "f", "1.5")
        await in_sync(shard)
        for zone, float_event, end in (("a", b"hincrbyfloat", b"expired"), ("b", b"hset", b"del")):
            events = [(await heard[zone].receive())[2:] for _ in range(7)]
            names = [channel.removeprefix(b"__keyevent@0__:") for channel, _ in events]
            assert names == [b"set", b"expire", b"lpush", b"lpop", b"del", float_event, end]
            assert events[-1][1] == b"k"

    run(tmp_path, test)
