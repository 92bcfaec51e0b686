"""The commands for background threads, compared with a real Memcached 1.6 with its defaults."""

import contextlib
import re
import time
from collections.abc import Callable

import pytest

from tests.embedded.memcached.differential import Ours, Real

REQUESTS = """
slabs|slabs automove|slabs automove 0|slabs automove 1 2|slabs automove 2|slabs automove 3
slabs automove -1|slabs automove x|slabs automove invalid|slabs automove 99999999999
slabs automove 0 noreply|slabs automove noreply|slabs noreply|slabs foo 1 2|slabs automove 1.5
slabs reassign|slabs reassign 1 2|slabs reassign 1 1|slabs reassign 0 1|slabs reassign 1 2 3
slabs reassign -1 -1|slabs reassign -1 2|slabs reassign 63 1|slabs reassign 39 1
slabs reassign 40 1|slabs reassign 1 0|slabs reassign x 1|slabs reassign 1 2 noreply
lru|lru foo 1|lru tune|lru tune 10 25 0.1 2.0|lru tune 10 25 0 2|lru tune 10 25 0.1 x
lru tune 0 0 1 1|lru tune 10 25 -1 2|lru tune 81 0 1 1|lru tune 40 40 1 1 9|lru tune -1 1 1 1
lru tune 1.5 1 1 1|lru tune 20 40 0.2 2 noreply|lru mode flat|lru mode x|lru mode segmented y
lru mode|lru mode flat noreply|lru foo noreply|lru temp_ttl|lru temp_ttl 5|lru temp_ttl -1
lru temp_ttl x|lru temp_ttl 5 6|lru_crawler|lru_crawler foo|lru_crawler foo 1
lru_crawler sleep 5|lru_crawler sleep x|lru_crawler sleep -1|lru_crawler sleep 1000000
lru_crawler sleep 1000001|lru_crawler sleep 5 6|lru_crawler tocrawl 7|lru_crawler tocrawl x
lru_crawler tocrawl -1|lru_crawler enable|lru_crawler enable x|lru_crawler crawl
lru_crawler crawl x|lru_crawler crawl 0|lru_crawler crawl 64|lru_crawler crawl 1,x
lru_crawler metadump x|lru_crawler mgdump all|stats extstore|refresh_certs|stats settings
lru_crawler crawl all|lru_crawler disable|lru_crawler disable|lru_crawler crawl all
lru_crawler metadump all|lru_crawler enable
"""
"""Requests, in this order."""
ENDING = b"ERROR an unknown error happened"
DUMPED = (b"all", b"1", b"2", b"1,2", b"hash")


@pytest.fixture(autouse=True)
def _memcached(require_server: Callable[[str, str], str]) -> None:
    """Skip without a real Memcached."""
    require_server("memcached", "1.6.18")


def _comparable(reply: bytes) -> bytes:
    """Return a reply without what is of a process."""
    return re.sub(rb"(tcpport|domain_socket|binding_protocol|la=)\S*(?: \S+)?", b"", reply)


def _answer(server: Real | Ours, text: str) -> bytes:
    """Return a reply. A crawler that is ending, after the reply to `disable`, is an error."""
    deadline = time.monotonic() + 10
    while (reply := server.ask(text.encode() + b"\r\nmn\r\n", b"MN\r\n")).startswith(ENDING):
        assert time.monotonic() < deadline, "its crawler does not end"
    return reply


def test_against_memcached() -> None:
    """Every reply is the same, errors included, and so are the settings afterwards."""
    real, ours = Real(), Ours()
    try:
        for server in (real, ours):
            server.ask(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        for text in REQUESTS.strip().replace("\n", "|").split("|"):
            expected, reply = _answer(real, text), _answer(ours, text)
            assert _comparable(reply) == _comparable(expected), text
    finally:
        real.close()
        ours.close()


def _dump(server: Real | Ours, which: bytes) -> bytes:
    """Return a dump. Memcached answers BUSY, and no END, while its own crawler runs."""
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            return server.ask(b"lru_crawler metadump " + which + b"\r\n", b"END\r\n")
    raise AssertionError("its crawler does not end")


@pytest.mark.parametrize("which", DUMPED)
def test_metadump(which: bytes) -> None:
    """A dump has a line for each item of the classes, the expired ones left out."""
    real, ours = Real(), Ours()
    try:
        replies = []
        for server in (real, ours):
            server.ask(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
            server.ask(b"set b%c 5 4000000000 1\r\nx\r\n", b"STORED\r\n")
            server.ask(b"set large 0 0 90\r\n" + bytes(90) + b"\r\n", b"STORED\r\n")
            server.ask(b"set gone 0 -1 1\r\nx\r\n", b"STORED\r\n")
            server.ask(b"ms Zm8= 1 b\r\nx\r\n", b"HD\r\n")
            server.ask(b"get a\r\n", b"END\r\n")
            dump = _dump(server, which)
            replies.append(sorted(_comparable(dump).splitlines()))
        assert replies[1] == replies[0]
    finally:
        real.close()
        ours.close()
