"""Commands of the text and the meta protocol."""

from cachesim.embedded.memcached.config import MEGABYTE
from tests.embedded.memcached.rig import BORN, Rig, put, run, stat, until


def test_too_large() -> None:
    """A too large value is an error at once. The old value is removed, the new one dropped."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1"))
        client.received.clear()
        client.send(b"set a 0 0 3000000\r\n")
        await until(lambda: client.received)
        assert client.received == b"SERVER_ERROR object too large for cache\r\n"
        assert await client.ask(bytes(3_000_000) + b"\r\nget a\r\n") == b"END\r\n"
        fits = MEGABYTE - 48 - 8 - len("a\0\r\n")
        reply = await client.ask(b"set a 0 0 %d\r\n%b\r\n" % (fits, bytes(fits)))
        assert reply == b"STORED\r\n"
        fits += 1
        reply = await client.ask(b"set a 0 0 %d\r\n%b\r\n" % (fits, bytes(fits)))
        assert reply == b"SERVER_ERROR object too large for cache\r\n"

    run(test)


def test_stale_items() -> None:
    """One client alone is told to renew an item that another has made stale."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"old"))
        assert await client.ask(b"md a I T30\r\n") == b"HD\r\n"
        assert await client.ask(b"mg a c v t\r\n") == b"VA 3 c2 t30 X W\r\nold\r\n"
        assert await client.ask(b"mg a v\r\n") == b"VA 3 Z X\r\nold\r\n"
        assert await client.ask(b"ms a 3 C2\r\nnew\r\n") == b"HD\r\n"
        assert await client.ask(b"mg a v\r\n") == b"VA 3\r\nnew\r\n"
        assert await client.ask(b"mg miss N30 v\r\nmg miss v\r\n") == (
            b"VA 0 W\r\n\r\nVA 0 Z\r\n\r\n"
        )
        await client.ask(put("b", b"1", "0 20"))
        assert await client.ask(b"mg b R30\r\nmg b R30\r\n") == b"HD W\r\nHD Z\r\n"

    run(test)


def test_quiet_and_opaque() -> None:
    """Quiet commands omit replies, and opaque words are repeated."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        assert (
            await client.ask(
                b"mg a v q O1\r\nms a 1 q O2\r\nx\r\nmg a v q k O3\r\nmd a q\r\nmd a q O4\r\n"
            )
            == b"VA 1 ka O3\r\nx\r\nNF O4\r\n"
        )
        assert await client.ask(b"ms AP8= 1 b k\r\nx\r\nmg AP8= b k\r\n") == (
            b"HD kAP8= b\r\nHD kAP8= b\r\n"
        )

    run(test)


def test_cachedump() -> None:
    """A cachedump lists the keys of a class, the latest first."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"12") + put("b", b"", "0 10") + put("c", bytes(500)))
        b = b"ITEM b [0 b; %d s]\r\n" % (BORN + 10)
        assert await client.ask(b"stats cachedump 1 0\r\n") == b + b"ITEM a [2 b; 0 s]\r\nEND\r\n"
        assert await client.ask(b"stats cachedump 1 1\r\n") == b + b"END\r\n"
        assert await client.ask(b"stats cachedump 2 0\r\n") == b"END\r\n"

    run(test)


def test_counters() -> None:
    """Counters are unsigned, have 64 bits, and keep their length."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"18446744073709551615", "5 0"))
        assert await client.ask(b"incr a 2\r\nget a\r\n") == (
            b"1\r\nVALUE a 5 20\r\n1                   \r\nEND\r\n"
        )
        assert await client.ask(b"decr a 2\r\nincr a 18446744073709551615\r\n") == (
            b"0\r\n18446744073709551615\r\n"
        )
        assert await client.ask(put("b", b"9") + b"incr b 1\r\nget b\r\n") == (
            b"10\r\nVALUE b 0 2\r\n10\r\nEND\r\n"
        )
        assert await client.ask(b"ma c N30 J7 v t\r\nma c MD D9 v c\r\n") == (
            b"VA 1 t30\r\n7\r\nVA 1 c8\r\n0\r\n"
        )

    run(test)


def test_reset_of_stats() -> None:
    """`stats reset` sets counters to 0, but not the current state."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1") + b"get a b\r\nincr a 1\r\ntouch x 1\r\nflush_all 1000\r\n")
        assert await client.ask(b"stats reset\r\n") == b"RESET\r\n"
        reply = await client.ask(b"stats\r\n")
        names = ("cmd_get", "cmd_set", "get_hits", "incr_hits", "touch_misses", "cmd_flush")
        assert [stat(reply, name) for name in names] == [0] * 6
        assert stat(reply, "curr_items") == stat(reply, "curr_connections") == 1

    run(test)
