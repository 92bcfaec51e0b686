"""The append-only file: restarts and power losses."""

import errno
import os
from pathlib import Path

import pytest

from cachesim.embedded.redis.replication.aof import _length
from cachesim.protocols.resp import request
from tests.embedded.redis.shard import ReplyError, Shard, in_sync, loaded, run, until


@pytest.mark.parametrize("orderly", [False, True])
def test_restart_replays_the_file(tmp_path: Path, *, orderly: bool) -> None:
    """A node that was killed or shut down loses no write that it has answered."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for number in range(100):
            await a("SET", f"k:{number}", number)
        await a("DEL", "k:0")
        (shard["a"].shut_down if orderly else shard["a"].kill)()
        shard["a"].start()
        await loaded(shard)
        assert len(shard["a"].server.store) == 99
        assert not shard["a"].server.is_replica

    run(tmp_path, test)


def test_what_is_no_change_is_not_replayed(tmp_path: Path) -> None:
    """The file is the replication stream, in which a primary also asks for offsets."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "k", 1)
        await a("WAIT", 3, 50)  # there are two
        for node in ("a", "b"):
            await in_sync(shard)
            shard[node].kill()
            shard[node].start()
            await loaded(shard)
            assert len(shard[node].server.store) == 1
            assert "CRITICAL" not in shard[node].logs()

    run(tmp_path, test)


def test_a_power_loss_truncates_the_file(tmp_path: Path) -> None:
    """A file that is truncated within a request loses this request and all later ones."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for number in range(10):
            await a("SET", f"k:{number}", number)
        shard["a"].server.stream.flush()
        size = shard["a"].server.aof.size
        assert f"aof_current_size:{size}".encode() in await a("INFO", "persistence")
        last = len(request([b"SET", b"k:9", b"9"]))
        shard["a"].kill()
        shard["a"].truncate_aof(size - last - 3)
        shard["a"].start()
        await loaded(shard)
        assert sorted(shard["a"].server.store.values) == [b"k:%d" % n for n in range(8)]
        assert "Truncating the AOF" in shard["a"].logs()
        await in_sync(shard)
        assert len(shard["b"].server.store) == 8

    run(tmp_path, test)


def test_a_transaction_without_its_end(tmp_path: Path) -> None:
    """A transaction whose end is lost has no effect."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "{t}a", 0)
        for words in (("MULTI",), ("SET", "{t}a", 1), ("SET", "{t}b", 1), ("EXEC",)):
            await a(*words)
        shard["a"].server.stream.flush()
        size = shard["a"].server.aof.size
        shard["a"].kill()
        shard["a"].truncate_aof(size - 1)
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values == {b"{t}a": b"0"}

    run(tmp_path, test)


def test_length_of_a_request() -> None:
    """The length that is counted is that of the encoded request."""
    for words in ([b"PING"], [b"SET", b"k", b"x" * 1000], [b""] * 12):
        assert _length(words) == len(request(words))


def test_a_full_disk_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes are refused until it takes data again, as with a real Redis."""
    is_full = False

    def write(file: int, data: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return _write(file, data[:10])  # a disk may take a part

    _write = os.write
    monkeypatch.setattr(os, "write", write)

    async def test(shard: Shard) -> None:
        nonlocal is_full
        a = await shard.call("a")
        await a("SET", "k", 1)
        await in_sync(shard)
        size = shard["a"].server.aof.size
        is_full = True
        assert await a("SET", "k", 2) == "OK"
        await until(lambda: shard["a"].server.aof.has_failed)
        with pytest.raises(ReplyError, match=r"^MISCONF"):
            await a("SET", "k", 3)
        is_full = False
        await until(lambda: not shard["a"].server.aof.has_failed)
        assert await a("SET", "k", 4) == "OK"
        shard["a"].kill()
        assert shard["a"].logs().count("Error writing to the AOF file: No space left") == 1
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values[b"k"] == b"4"
        assert shard["a"].server.aof.size > size

    run(tmp_path, test)
