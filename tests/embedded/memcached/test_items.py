"""Items: expiry, memory and eviction."""

import pytest

from cachesim.embedded.memcached.config import MEGABYTE
from tests.embedded.memcached.rig import BORN, Rig, put, run, stat


def test_expiry() -> None:
    """Expiry times are in seconds, absolute, or negative for at once."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        for key, expires in (("a", 10), ("b", BORN + 20), ("c", -1), ("d", 0), ("e", 10)):
            await client.ask(put(key, b"1", f"0 {expires}"))
        keys = b"get a b c d e\r\n"

        async def left() -> str:
            lines = (await client.ask(keys)).split(b"\r\n")
            return "".join(line.split()[1].decode() for line in lines if line.startswith(b"VALUE"))

        assert await left() == "abde"
        rig.clock.advance(9)
        assert await client.ask(b"touch e 100\r\n") == b"TOUCHED\r\n"
        assert await left() == "abde"
        rig.clock.advance(1)
        assert await left() == "bde"
        rig.clock.advance(10)
        assert await left() == "de"
        assert await client.ask(b"mg e t\r\nmg d t\r\n") == b"HD t89\r\nHD t-1\r\n"
        assert stat(await client.ask(b"stats\r\n"), "get_expired") == 3
        assert stat(await client.ask(b"stats\r\n"), "uptime") == 22

    run(test)


def test_delayed_flush() -> None:
    """A delayed flush removes the items that were stored before its time."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1") + b"flush_all 10\r\n")
        rig.clock.advance(8)
        assert await client.ask(b"get a\r\n") != b"END\r\n"
        rig.clock.advance(1)
        assert await client.ask(b"get a\r\n") == b"END\r\n"
        rig.clock.advance(1)
        assert await client.ask(put("a", b"2") + b"get a\r\n") != b"END\r\n"
        assert stat(await client.ask(b"stats\r\n"), "get_flushed") == 1

    run(test)


def test_least_recently_used_goes() -> None:
    """With 1 MB of memory full, the least recently used item is evicted, not one that is read."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("k000", bytes(10_000)))
        count = stat(await client.ask(b"stats slabs\r\n"), "22:chunks_per_page")
        await client.ask(b"".join(put(f"k{number:03}", bytes(10_000)) for number in range(count)))
        assert stat(await client.ask(b"stats\r\n"), "evictions") == 0
        await client.ask(b"get k000 k000\r\n")
        await client.ask(put("new", bytes(10_000)))
        reply = await client.ask(b"stats\r\n")
        assert stat(reply, "evictions") == stat(reply, "evicted_unfetched") == 1
        assert stat(reply, "curr_items") == count
        assert await client.ask(b"get k001\r\n") == b"END\r\n"
        assert await client.ask(b"get k000\r\n") != b"END\r\n"

    run(test, max_memory=MEGABYTE)


def test_free_pages_go_where_they_are_needed() -> None:
    """A slab class gives up pages that it does not use."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(b"".join(put(f"k{n}", bytes(100)) for n in range(40_000)))
        assert stat(await client.ask(b"stats\r\n"), "evictions") > 0
        await client.ask(b"flush_all\r\n")
        await client.ask(b"".join(put(f"k{n}", bytes(10_000)) for n in range(300)))
        reply = await client.ask(b"stats\r\n")
        assert stat(reply, "slabs_moved") > 0
        assert stat(reply, "curr_items") > 88 * 2

    run(test, max_memory=6 * MEGABYTE)


@pytest.mark.parametrize("size", [600_000, MEGABYTE - 100])
def test_large_items(size: int) -> None:
    """Large items take several chunks, all of which are freed again."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        for number in range(20):
            assert await client.ask(put(f"k{number}", bytes(size)) + b"touch k 1\r\n")
        reply = await client.ask(b"stats\r\n")
        assert 8 * MEGABYTE / size - 2 <= stat(reply, "curr_items") < 8 * MEGABYTE / size
        assert stat(reply, "store_no_memory") == 0
        assert len(await client.ask(b"get k19\r\n")) > size
        await client.ask(b"".join(b"delete k%d\r\n" % number for number in range(20)))
        slabs = (await client.ask(b"stats slabs\r\n")).decode().split()
        used = [slabs[at + 1] for at, word in enumerate(slabs) if word.endswith(":used_chunks")]
        assert set(used) == {"0"}

    run(test, max_memory=8 * MEGABYTE)
