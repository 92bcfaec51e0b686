"""Commands of the binary protocol, as the clients send them that know no other."""

from cachesim.embedded.answers import Rule
from tests.embedded.memcached.binary import replies, request
from tests.embedded.memcached.rig import Client, Rig, run, until

_GET, _SET, _INCR, _QUIT, _GETQ, _NOOP, _GETK, _SETQ, _SASL = (
    0x00, 0x01, 0x05, 0x07, 0x09, 0x0A, 0x0C, 0x11, 0x21,
)  # fmt: skip


async def ask(client: Client, data: bytes) -> list[tuple[int, bytes, bytes, bytes]]:
    """Send requests; return the status, the client's word, the key and the value of each reply."""
    client.received.clear()
    client.send(data + request(_NOOP, opaque=b"end."))
    await until(lambda: b"end." in client.received or client.lost)
    return [
        (status, opaque, key, value)
        for _, status, opaque, _, _, key, value in replies(bytes(client.received))
        if opaque != b"end."
    ]


def stored(key: bytes, value: bytes, code: int = _SET) -> bytes:
    """Return a request that stores a value."""
    return request(code, key, bytes(8), value)


def test_quiet_requests() -> None:
    """Quiet ones tell what went wrong, or what was found, and nothing else."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        assert await ask(
            client,
            stored(b"a", b"1", _SETQ)
            + request(_GETQ, b"miss")
            + request(_GETQ, b"a", opaque=b"hit.")
            + stored(b"a", bytes(2_000_000), _SETQ)
            + request(_GETK, b"miss"),
        ) == [
            (0, b"hit.", b"", b"1"),
            (3, b"word", b"", b"Too large."),
            (1, b"word", b"miss", b""),
        ]

    run(test)


def test_a_counter_begins() -> None:
    """An `incr` creates its item, unless it must not, and text clients read the number."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        count = bytes(7) + b"\5" + bytes(7) + b"\x0a"  # 5 more, or else 10
        asked = (
            request(_INCR, b"n", count + b"\xff" * 4) + request(_INCR, b"n", count + bytes(4)) * 2
        )
        assert [it[3] for it in await ask(client, asked)] == [
            b"Not found", bytes(7) + b"\x0a", bytes(7) + b"\x0f",
        ]  # fmt: skip
        assert await rig.client().ask(b"get n\r\n") == b"VALUE n 0 2\r\n15\r\nEND\r\n"

    run(test)


def test_sasl_is_unknown() -> None:
    """As to a server without it; the connection goes on, as clients with a password expect."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        asked = request(_SASL, b"PLAIN", value=b"\0me\0secret") + request(_GETK, b"a")
        assert [it[0] for it in await ask(client, asked)] == [0x81, 1]
        assert not client.lost

    run(test)


def test_ends() -> None:
    """`quit` is answered before the end, and so is a request of a wrong form."""

    async def test(rig: Rig) -> None:
        for last, status in ((request(_QUIT), 0), (request(_GET), 4)):
            client = rig.client()
            assert [it[0] for it in await ask(client, last + request(_GETK, b"a"))] == [status]
            assert client.lost

    run(test)


def test_faults() -> None:
    """Rules for a text command hold for the same binary one, whose client understands the error."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        rule = Rule(frozenset({"get"}), draw=lambda: 0.0, answer="SERVER_ERROR out of memory")
        rig.node.answer_with([rule])
        asked = stored(b"noreply", b"1") + request(_GETK, b"noreply")
        assert [it[::3] for it in await ask(client, asked)] == [
            (0, b""), (0x82, b"out of memory"),
        ]  # fmt: skip

    run(test)
