"""No request makes the embedded Toxiproxy fail, hang or grow."""

import asyncio
import contextlib
import json
import os
import time
from collections import Counter
from http import HTTPStatus
from itertools import chain
from random import Random
from urllib.parse import quote

import psutil
import pytest

from cachesim.aio.http import Request
from cachesim.aio.timers import new_event_loop
from cachesim.embedded.toxiproxy.proxies import Proxies
from cachesim.embedded.toxiproxy.server import ProxyServer
from tests.embedded.toxiproxy.bodies import Call, calls, conversations, hostile

pytestmark = pytest.mark.usefixtures("_small_heap")

BODIES = int(os.environ.get("CACHESIM_TEST_BODIES", "2000"))
"""The number of calls."""

SECONDS = 0.1
"""Processor time that a response may take, as everything else in the loop waits meanwhile."""

GROWTH = 16 * 1024 * 1024
"""Bytes by which the process may grow after the first tenth of the calls."""

ROUND = 500
"""Calls after which all proxies are deleted: proxies may take memory."""


def test_bodies() -> None:
    """Each request is answered quickly, and leaves nothing in memory."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        slowest, grown, statuses = runner.run(_answer_all(Random().randrange(2**32)))
    print(
        f"{BODIES} calls: {dict(statuses)}, at most {slowest[0] * 1000:.1f} ms, {grown} bytes more"
    )
    assert slowest[0] < SECONDS, slowest
    assert grown < GROWTH
    assert statuses.keys() <= set(HTTPStatus)


async def _answer_all(seed: int) -> tuple[tuple[float, Call], int, Counter[int]]:
    loop = asyncio.get_running_loop()
    server = ProxyServer(loop, Proxies(loop, rng=Random(0)))
    half = BODIES // 2
    slowest = 0.0, Call("", "", b"")
    statuses: Counter[int] = Counter()
    before = 0
    try:
        some = calls(seed, half, ["127.0.0.1:0"]), hostile(seed, half)
        for number, call in enumerate(chain.from_iterable(zip(*some, strict=True))):
            if number % ROUND == 0:
                _wipe(server)
                await asyncio.sleep(0)
            if number == BODIES // 10:
                before = psutil.Process().memory_info().rss
            began = time.thread_time()
            answer = server.handle(Request(call.method, call.path, {}, call.body))
            slowest = max(slowest, (time.thread_time() - began, call))
            statuses[answer.status] += 1
            if answer.body.startswith(b"{") and call.method != "HEAD":
                json.loads(answer.body)
    except Exception as error:
        error.add_note(f"seed {seed}, {call}")
        raise
    finally:
        server.close()
    return slowest, psutil.Process().memory_info().rss - before, statuses


class _Transport(asyncio.Transport):
    """Notes written data, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_requests() -> None:
    """Any input over a connection is answered in HTTP, or the connection closed."""
    seed = Random().randrange(2**32)
    with contextlib.closing(new_event_loop()) as loop:
        server = ProxyServer(loop, Proxies(loop, rng=Random(0)))
        for pieces in conversations(seed, BODIES):
            transport = _Transport()
            connection = server.accept()
            connection.connection_made(transport)
            try:
                for piece in pieces:
                    if not transport.closed:
                        connection.data_received(piece)
                if not transport.closed:
                    connection.eof_received()
            except Exception as error:
                error.add_note(f"seed {seed}, {pieces}")
                raise
            connection.connection_lost(None)
            assert transport.closed
            assert transport.written.startswith(b"HTTP/1.1 ") or not transport.written
        server.close()


def _wipe(server: ProxyServer) -> None:
    for name in json.loads(server.handle(Request("GET", "/proxies", {}, b"")).body):
        server.handle(Request("DELETE", f"/proxies/{quote(name, safe='')}", {}, b""))
