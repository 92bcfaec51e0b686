"""Fields of hashes that expire: on replicas, in the append-only file, and as events."""

from pathlib import Path

from tests.embedded.redis.shard import Shard, in_sync, loaded, run, until

CLASSES = {"notify-keyspace-events": "KEA"}


def deadlines(shard: Shard, zone: str, key: bytes = b"h") -> dict[bytes, int]:
    """Return when the fields of a hash expire, as a node has it."""
    return dict(shard[zone].server.store.values[key].deadlines or {})


def test_replicas(tmp_path: Path) -> None:
    """Replicas get the moment, not the duration, and drop a field when the primary does."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await b("READONLY")
        await a("HSET", "h", "short", 1, "long", 2, "never", 3)
        await a("HEXPIRE", "h", 1000, "FIELDS", 1, "long")
        await a("HPEXPIRE", "h", 30, "FIELDS", 1, "short")
        await in_sync(shard)
        assert deadlines(shard, "a") == deadlines(shard, "b") == deadlines(shard, "c")
        await until(lambda: b"short" not in shard["b"].server.store.values[b"h"])
        assert await b("HGETALL", "h") == [b"long", b"2", b"never", b"3"]
        await a("HPERSIST", "h", "FIELDS", 1, "long")
        await a("HINCRBYFLOAT", "h", "never", "0.5")
        await in_sync(shard)
        assert deadlines(shard, "b") == {}

    run(tmp_path, test, redis_version="7.4")


def test_a_replica_hides_expired_fields(tmp_path: Path) -> None:
    """It does not show them while it does not hear of their end. HLEN counts them, as Redis's."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await b("READONLY")
        await a("HSET", "h", "short", 1, "never", 3)
        await a("HPEXPIRE", "h", 50, "FIELDS", 1, "short")
        await in_sync(shard)
        shard.sever(("redis-b", "redis-a", "redis"))
        await until(lambda: b"short" not in shard["a"].server.store.values[b"h"])
        assert await b("HGETALL", "h") == [b"never", b"3"]
        assert await b("HTTL", "h", "FIELDS", 1, "short") == [-2]
        assert await b("HLEN", "h") == 2
        shard.cut.clear()
        await in_sync(shard)
        assert await b("HLEN", "h") == 1

    run(tmp_path, test, redis_version="7.4")


def test_changes_of_fields_that_expire(tmp_path: Path) -> None:
    """Counting keeps the moment, setting ends it, on all nodes; names and copies have it too."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("HSETEX", "h", "EX", 1000, "FIELDS", 3, "f", 1, "g", 2, "i", 3)
        moment = deadlines(shard, "a")[b"f"]
        await a("HINCRBYFLOAT", "h", "f", "0.5")
        await a("HSETEX", "h", "KEEPTTL", "FIELDS", 1, "g", 9)
        await a("HSET", "h", "i", 4)
        await a("RENAME", "h", "{h}2")
        await a("COPY", "{h}2", "h")
        await a("HGETDEL", "h", "FIELDS", 1, "g")
        await in_sync(shard)
        for zone in "abc":
            assert deadlines(shard, zone, b"{h}2") == {b"f": moment, b"g": moment}
            assert deadlines(shard, zone) == {b"f": moment}
        await a("HPEXPIRE", "{h}2", 20, "FIELDS", 2, "f", "g")
        await a("RENAME", "{h}2", "h")
        await until(lambda: shard["c"].server.store.values[b"h"] == {b"i": b"4"})

    run(tmp_path, test, redis_version="8.0")


def test_restart_and_full_resync(tmp_path: Path) -> None:
    """The append-only file and a full resync have the moments."""

    async def test(shard: Shard) -> None:
        a, admin = await shard.call("a"), await shard.call("a", admin=True)
        await a("HSET", "h", "f", 1, "g", 2)
        await a("HEXPIRE", "h", 1000, "FIELDS", 1, "f")
        moments = deadlines(shard, "a")
        await admin("BGREWRITEAOF")
        await until(lambda: not shard["a"].server.aof_rewrite.is_running)
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        await in_sync(shard)
        assert deadlines(shard, "a") == deadlines(shard, "b") == moments
        await until(lambda: shard["a"].server.gossip.is_ok)
        a = await shard.call("a")
        await a("HPEXPIRE", "h", 20, "FIELDS", 2, "f", "g")
        await until(lambda: not shard["b"].server.store.values)

    run(tmp_path, test, redis_version="7.4")


def test_events(tmp_path: Path) -> None:
    """The events are those of Redis 8.0."""

    async def test(shard: Shard) -> None:
        a, subscriber = await shard.call("a"), await shard.call("a")
        await subscriber("PSUBSCRIBE", "__keyspace@0__:*")
        for words, expected in (
            ("HSET h a 1 b 2 c 3", ["hset"]),
            ("HEXPIRE h 100 FIELDS 2 a b", ["hexpire"]),
            ("HEXPIRE h 100 NX FIELDS 2 a b", []),
            ("HPERSIST h FIELDS 2 a b", ["hpersist"]),
            ("HEXPIRE h 0 FIELDS 1 a", ["hdel"]),
            ("HGETEX h EX 100 FIELDS 1 b", ["hexpire"]),
            ("HGETEX h FIELDS 1 b", []),
            ("HGETEX h EXAT 1 FIELDS 1 b", ["hdel"]),
            ("HSETEX h EX 100 FIELDS 1 d 1", ["hset", "hexpire"]),
            ("HSETEX h KEEPTTL FIELDS 1 d 1", ["hset"]),
            ("HSETEX h EXAT 1 FIELDS 1 d 1", ["hset", "hdel"]),
            ("HGETDEL h FIELDS 2 c nosuch", ["hdel", "del"]),
            ("HSETEX h PX 1 FIELDS 1 a 1", ["hset", "hexpire", "hexpired", "del"]),
        ):
            await a(*words.split())
            for event in expected:
                assert (await subscriber.receive())[3] == event.encode(), words
        await a("SET", "end", 1)
        assert (await subscriber.receive())[3] == b"set"

    run(tmp_path, test, redis_version="8.0", settings=CLASSES)
