"""Compares the replies of a real Memcached 1.6 and of an emulated node to the same requests.

`python -m tests.embedded.memcached.differential --steps 10000` starts both for each run. Every
reply is compared byte by byte, including errors and `cas`, in the text and the meta protocol.
`KNOWN` lists the known differences.
"""

import argparse
import asyncio
import base64
import random
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cachesim.aio.pipe import pipe
from cachesim.clock import Deadline
from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
from cachesim.embedded.memcached.node import MemcachedNode
from cachesim.protocols.memcached import unsigned

KNOWN: tuple[tuple[str, str], ...] = (
    ("UDP, SASL", "not served"),
    ("watch, extstore", "ERROR"),
    ("slabs, lru, lru_crawler", "answer, and change `stats settings` alone: no such threads run"),
    ("stats cachedump", "lists all items of a class; 1.6 lists only the cold items"),
    ("stats", "values of a real process (threads, buffers, CPU, logger) are 0 or constant"),
    ("stats items", "a class has one list, whose items count as cold"),
    ("evictions", "an item that was read twice is spared once; 1.6 has hot, warm and cold lists"),
    ("pages", "a class with over 2 pages free gives one up at once; 1.6 takes half a minute"),
    ("stats sizes", "counts stored items; 1.6 miscounts items that `md` has made stale"),
    ("expired items", "stay until they are read or evicted; 1.6 also searches for them"),
    ("flush_all", "removes items at once; in 1.6 a later one with a delay brings them back"),
    ("stats", "get_flushed: counts what a `flush_all` with a delay has removed"),
    ("a key of over 250 bytes in a get", "earlier requests get replies; 1.6 drops them"),
    ("decr", "always pads with blanks; 1.6 does not while a reply or the LRU uses the item"),
    ("values too large", "over 1 MB, the error is sent after the line, otherwise after the value"),
    ("errors in ms", "are sent after the value; 1.6 sends them before the value arrives"),
    ("long lines", "over 16 KB close the connection; over 2 KB too if the network splits them"),
    ("get", "a line of at most 4 MB"),
    ("incr, decr", "if the value is blank, or 2**63 and more: 1.6 reads beyond the value"),
)  # fmt: skip
"""The known differences, which the fuzzer avoids or allows. The documentation has them too."""

Draw = Callable[[random.Random], bytes]

_KEYS = (b"a", b"b", b"c", b"a:1", b"n", b"n", b"k" * 250)
_ODD_KEYS = (b"k" * 251, b"\xff\x80", b"a\tb", b"noreply", b"0", b"a\0b")
_VALUES = (
    b"", b"a", b"abc", b"0", b"1", b"10", b"99", b"100", b"007", b"-1", b"1 2", b"12 ", b" 5",
    b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"x" * 50,
    b"\x00\xff\r\n", b"1\r\n2", b"3.5", b"+4", b"5\t6", b"-18446744073709551615", b"y" * 600,
)  # fmt: skip
_NUMBERS = (
    b"0", b"1", b"2", b"5", b"10", b"-1", b"x", b"1.5", b"007", b"18446744073709551615", b"1x",
    b"18446744073709551616", b"4294967296", b"9223372036854775807", b"+3", b"\t4", b"1_0", b"5\t",
    b"-9223372036854775809", b"99999999999999999999999",
)  # fmt: skip
# Nothing expires during a run, but some items do at once.
_EXPIRIES = (b"0", b"0", b"0", b"0", b"100000", b"500000", b"-1", b"4000000000", b"2592001", b"x")
_FLAGS = (b"0", b"0", b"1", b"4294967295", b"4294967296", b"-1", b"x", b"18446744073709551615")
_CAS = (b"{cas}", b"{cas}", b"{cas}", b"{older}", b"0", b"1", b"5", b"x", b"-1")


def _one(*choices: bytes) -> Draw:
    return lambda r: r.choice(choices)


def key(r: random.Random) -> bytes:
    """A key."""
    return r.choice(_KEYS if r.random() < 0.97 else _ODD_KEYS)


def noreply(r: random.Random) -> bytes:
    """Nothing, `noreply`, or another word in its place."""
    return b" " + r.choice((b"noreply", b"noreply", b"foo")) if r.random() < 0.12 else b""


def _block(r: random.Random, value: bytes) -> tuple[bytes, bytes]:
    """The size of a value and the value, with some errors."""
    chance = r.random()
    if chance < 0.93:
        return b"%d" % len(value), value + b"\r\n"
    if chance < 0.95:
        return b"%d" % max(0, len(value) - 1), value + b"\r\n"
    if chance < 0.97:
        return b"%d" % (len(value) + 2), value + b"\r\n"
    return r.choice((b"x", b"-1", b"4294967297", b"1048576", b"2147483646")), b""


def storing(r: random.Random) -> bytes:
    """A command with a value."""
    name = r.choice((b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"))
    size, block = _block(r, r.choice(_VALUES))
    cas = b" " + r.choice(_CAS) if name == b"cas" else b""
    words = (name, key(r), r.choice(_FLAGS), r.choice(_EXPIRIES), size)
    if size == b"1048576":
        block = bytes(1048576) + b"\r\n"
    if size == b"2147483646":
        block = b""
    if size == b"4294967297":
        block = b"z\r\n"
    return b" ".join(words) + cas + noreply(r) + b"\r\n" + block


def reading(r: random.Random) -> bytes:
    """A command that reads values."""
    name = r.choice((b"get", b"get", b"gets", b"gat", b"gats", b"bget"))
    many = r.choice((0, 1, 1, 1, 2, 3, 30))
    words = [name, *([r.choice(_EXPIRIES)] if name.startswith(b"gat") else [])]
    return b" ".join([*words, *(key(r) for _ in range(many))]) + b"\r\n"


def changing(r: random.Random) -> bytes:
    """A command that changes an item without a value."""
    name = r.choice((b"delete", b"incr", b"incr", b"decr", b"decr", b"touch"))
    if name == b"delete":
        rest = b" 0" if r.random() < 0.1 else b""
    elif name == b"touch":
        rest = b" " + r.choice(_EXPIRIES)
    else:
        rest = b" " + r.choice(_NUMBERS)
    return name + b" " + key(r) + rest + noreply(r) + b"\r\n"


def serving(r: random.Random) -> bytes:
    """A command about the server."""
    return r.choice(
        (
            b"version", b"version x", b"verbosity 0", b"verbosity 9 noreply", b"verbosity",
            b"verbosity x", b"flush_all", b"flush_all noreply", b"flush_all -1", b"flush_all x",
            b"flush_all 0 noreply", b"flush_all 1 2 3", b"flush_all 100000", b"flush_all 2592001",
            b"stats", b"stats settings", b"stats slabs", b"stats items", b"stats sizes",
            b"stats foo", b"stats reset",
            b"stats cachedump 1", b"stats cachedump 64 1", b"stats cachedump x 1",
            b"stats cachedump 63 0", b"stats cachedump 0 0", b"stats detail", b"stats detail on",
            b"stats detail off", b"stats detail dump", b"stats sizes_enable",
            b"stats sizes_disable", b"shutdown", b"quit", b"foo", b"", b" ", b"GET / HTTP/1.1",
            b"get", b"g", b"mx", b"gat", b"cache_memlimit 7", b"cache_memlimit x",
            b"cache_memlimit 64", b"cache_memlimit 64 noreply", b"cache_memlimit 7 noreply",
            b"cache_memlimit 64 x", b"shutdown graceful", b"shutdown x", b"set",
            b"cas a 0 0 1", b"incr a", b"touch a", b"delete",
            b"delete a b c d e", b"delete a 1", b"set a 0 0", b"set a 0 0 1 2 3", b"misc HTTP/",
            b"slabs", b"slabs automove", b"slabs automove 0", b"slabs automove 1",
            b"slabs automove 2 x", b"slabs automove 3", b"slabs automove invalid",
            b"slabs automove -1", b"slabs automove 1 noreply", b"slabs automove noreply",
            b"slabs reassign 1 2", b"slabs reassign 1 1", b"slabs reassign -1 2",
            b"slabs reassign 1 99", b"slabs reassign x 1", b"slabs reassign 0 1",
            b"slabs reassign 1 2 noreply", b"slabs noreply", b"slabs foo 1 2", b"lru", b"lru foo",
            b"lru tune 10 25 0.1 2.0", b"lru tune 20 40 0.2 2", b"lru tune 90 25 0.1 2",
            b"lru tune 10 25 0 2", b"lru tune x 25 0.1 2", b"lru tune 1 2 3", b"lru mode foo",
            b"lru tune 10 25 0.1 x noreply", b"lru tune 10 25 0.1 2.0 noreply", b"lru_crawler",
            b"lru_crawler sleep 5", b"lru_crawler sleep x", b"lru_crawler sleep 1000001",
            b"lru_crawler tocrawl 5", b"lru_crawler tocrawl -1", b"lru_crawler sleep 5 6",
            b"lru_crawler foo", b"lru_crawler crawl", b"stats extstore", b"refresh_certs",
            b"watch foo", b"extstore", b"misbehave",
            b"get HTTP/1", b"mn", b"mn foo", b"x" * 3000, b"get  a   b ", b"  get a",
        )
    ) + (b"\r\n" if r.random() < 0.9 else b"\n")  # fmt: skip


def _meta_key(r: random.Random) -> tuple[bytes, bytes]:
    """A key, and the flag for its encoding."""
    if r.random() < 0.8:
        return key(r), b""
    text = base64.b64encode(r.choice((*_KEYS, b"\x00\x01\xff", b"a b")))
    if r.random() < 0.2:
        text = r.choice(
            (b"Zm9", b"====", b"A===", b"=AAA", b"Zm9v!", b"Zm9vZg==x", b"!", b"AA==AAAA")
        )
    return text, b" b"


def _meta(*flags: bytes) -> Draw:
    def draw(r: random.Random) -> bytes:
        chosen = r.sample(flags, r.choice((0, 1, 1, 2, 3, 5)))
        words = []
        for flag in chosen:
            if flag in b"TNR":
                flag += r.choice(_EXPIRIES)
            elif flag == b"O":
                flag += r.choice((b"", b"1", b"abc", b"o" * 31, b"o" * 32))
            elif flag == b"C":
                flag += r.choice(_CAS)
            elif flag == b"F":
                flag += r.choice(_FLAGS)
            elif flag in b"PL":
                flag += r.choice((b"", b"path/", b"1"))
            elif flag in b"JD":
                flag += r.choice(_NUMBERS)
            words.append(b" " + flag)
        if r.random() < 0.03:
            words.append(r.choice((b" v", b" \x7f", b" \xff", b" z", b" S5", b" kk", b" b", b" q")))
        if r.random() < 0.01:
            words *= 6
        return b"".join(words)

    return draw


_mg = _meta(*(bytes([c]) for c in b"cfhklOqstvNRTEuIPL"))
_ms = _meta(*(bytes([c]) for c in b"cCFIkOqTPL"), b"MS", b"ME", b"MA", b"MP", b"MR", b"M", b"MX")
_md = _meta(*(bytes([c]) for c in b"CIkOqTPL"))
_ma = _meta(*(bytes([c]) for c in b"CNJDTqtcvOkPL"), b"MI", b"MD", b"M+", b"M-", b"MZ", b"M")

_FLAGS_OF = {b"mg": _mg, b"md": _md, b"ma": _ma}


def meta(r: random.Random) -> bytes:
    """A command of the meta protocol."""
    name = r.choice((b"mg", b"mg", b"mg", b"ms", b"ms", b"md", b"ma", b"ma", b"me"))
    text, flag = _meta_key(r)
    if r.random() < 0.01:
        return name + b"\r\n"
    if name == b"ms":
        if r.random() < 0.01:
            return b"ms " + text + b"\r\n"
        size, block = _block(r, r.choice(_VALUES))
        if size == b"1048576":
            block = bytes(1048576) + b"\r\n"
        if size == b"4294967297":
            block = b"z\r\n"
        return b"ms " + text + b" " + size + flag + _ms(r) + b"\r\n" + block
    flags = _FLAGS_OF[name](r) if name in _FLAGS_OF else b""
    return name + b" " + text + flag + flags + b"\r\n"


TEXT: tuple[Draw, ...] = (storing, storing, storing, reading, reading, changing, changing, serving)
_DIFFERS_IN_COMPANY = re.compile(rb"incr|decr|ma |flush_all|stats|watch|\d{7}|k{251}|x{3000}")
META: tuple[Draw, ...] = (meta, meta, meta, meta, meta, reading, changing, storing)


def drawn(r: random.Random, protocol: str) -> bytes:
    """Any request in the text or, mostly, in the meta protocol; sometimes several at once."""
    draws = TEXT if protocol == "text" else META
    requests = [r.choice(draws)(r) for _ in range(r.choice((1,) * 9 + (4,)))]
    if len(requests) > 1 and any(map(_DIFFERS_IN_COMPANY.search, requests)):
        return requests[0]
    return b"".join(requests)


class Real:
    """A real Memcached process, and a connection to it."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = str(Path(self._folder.name, "socket"))
        binary = shutil.which("memcached")
        assert binary is not None
        command = [binary, "-s", path, "-u", "root", *options]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._path = path
        deadline = Deadline(10)
        while True:
            try:
                self.connect()
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert not deadline.expired

    def connect(self) -> None:
        """Begin a new connection."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        try:
            self._socket.connect(self._path)
        except OSError:
            self._socket.close()
            raise

    def ask(self, request: bytes, end: bytes) -> bytes:
        """Return the reply to a request, up to a given end or the end of the connection."""
        reply = b""
        try:
            self._socket.sendall(request)
            while not reply.endswith(end):
                data = self._socket.recv(1 << 20)
                if not data:
                    break
                reply += data
        except (BrokenPipeError, ConnectionResetError):
            pass
        if not reply.endswith(end):
            self._socket.close()
            self.connect()
        return reply

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Client(asyncio.Protocol):
    """Collects what a node sends.

    Attributes:
        received: all of it.
        is_closed: whether the connection has ended.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_closed = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.received += data

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.is_closed = True


class Ours:
    """An emulated node, and a connection to it."""

    def __init__(self, max_memory: int = 64 * MEGABYTE) -> None:
        self._loop = asyncio.new_event_loop()
        config = MemcachedNodeConfig("memcached-a", max_memory)
        self.node = MemcachedNode(config, loop=self._loop)
        self.node.start()
        self.connect()

    def connect(self) -> None:
        """Begin a new connection."""
        self._client = Client()
        self._client.transport, _ = pipe(self._loop, self._client, self.node.accept())

    def ask(self, request: bytes, end: bytes) -> bytes:
        """Return the reply to a request, up to a given end or the end of the connection."""
        client = self._client

        async def ask() -> bytes:
            deadline = Deadline(10)
            client.transport.write(request)
            while not (client.received.endswith(end) or client.is_closed):
                assert not deadline.expired, (request[:200], bytes(client.received[:200]))
                await asyncio.sleep(0)
            reply = bytes(client.received)
            client.received.clear()
            return reply

        reply = self._loop.run_until_complete(ask())
        if client.is_closed:
            self.connect()
        return reply

    def cas_of(self, name: bytes) -> int:
        """Return the `cas` of an item, or any number."""
        item = self.node.server.items.by_key.get(name)
        return item.cas if item is not None else 7

    def has_large_number(self, request: bytes) -> bool:
        """Return whether a request may be about a number of 2**63 or more."""
        words = request.split()
        for name, item in self.node.server.items.by_key.items():
            number = unsigned(item.data)
            if number is not None and number >= 2**63 and (name in words[1:2] or b"b" in words):
                return True
        return False

    def close(self) -> None:
        """End the node."""
        self.node.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class Both:
    """A real Memcached and an emulated node, empty."""

    def __init__(self) -> None:
        # Without the thread that holds items for a moment now and then.
        self.real, self.ours = Real("-o", "no_lru_maintainer,no_lru_crawler"), Ours()
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End both."""
        self.real.close()
        self.ours.close()


class Pair(Both):
    """Both, asked in the text and the meta protocol."""

    def __init__(self) -> None:
        super().__init__()
        self._was_flushed = False

    def differ(self, request: bytes) -> tuple[bytes, bytes, bytes] | None:
        """Return a request and both replies if they differ."""
        if self._is_excluded(request):
            return None
        words = request.split(maxsplit=2)
        cas = self.ours.cas_of(words[1]) if len(words) > 1 else 7
        request = request.replace(b"{cas}", b"%d" % cas).replace(b"{older}", b"%d" % (cas - 1))
        self._number += 1
        # This ends a value that a wrong size has made too long.
        end = b"EN O%d\r\n" % self._number
        whole = request + b"\n\nmg ~ O%d\r\n" % self._number
        if re.match(rb"(ms|set|add|replace|append|prepend|cas) ", request):
            whole = request + b"\n\n\n\nmg ~ O%d\r\n" % self._number
        real, ours = self.real.ask(whole, end), self.ours.ask(whole, end)
        name = words[0] if words else b""
        if not real.endswith(end) and not ours.endswith(end) and ours.startswith(real):
            return None  # both have closed the connection; the last reply may get lost then
        if same(name, real, ours):
            return None
        if name == b"stats" and real.startswith(b"STAT "):
            real, ours = ("\n".join(_stable(reply)).encode() for reply in (real, ours))
        return request, real, ours

    def _is_excluded(self, request: bytes) -> bool:
        """Return whether this reply or later ones may differ, according to `KNOWN`."""
        if b"2147483646" in request:
            return True  # there is no end to it
        if request.split() == [b"stats", b"sizes"]:
            return self.ours.node.server.sizes_from is not None
        if re.match(rb"incr|decr|ma", request) and self.ours.has_large_number(request):
            return True
        if request.startswith(b"flush_all"):
            is_late = request.split()[1:2] in ([b"100000"], [b"2592001"])
            if is_late and self._was_flushed:
                return True
            self._was_flushed = self._was_flushed or not is_late
        return False


_TIMES = re.compile(rb"(?<= )(t|l|la=|exp=-?)(\d+)")
_UNSTABLE = re.compile(
    r"pid|uptime|time|libevent|rusage|.*conn|response_obj|read_buf|bytes|threads|hash_|lru_|curr_"
    r"|reserved_fds|log_|reclaimed|moves_|expired_unfetched|get_expired|get_flushed|.*crawler"
    r"|items:|evicted_active|domain_socket|tcpport|inter|umask|oldest|.*:age|.*:(number|used_chunks|free_chunks|mem_req)"
    r"|.*:(reclaimed|moves_|expired_unf|hits_to)|direct|binding_protocol|ssl|maxbytes|num_threads"
)  # fmt: skip


def same(name: bytes, real: bytes, ours: bytes) -> bool:
    """Return whether two replies are equal, but for differences of `KNOWN`, and a second."""
    if real == ours:
        return True
    if name == b"stats" and b"STAT " in (real[:5], ours[:5]):
        return _stable(real) == _stable(ours)
    if name == b"stats" and real.startswith(b"PREFIX "):
        return sorted(real.splitlines()) == sorted(ours.splitlines())
    real_times, our_times = _TIMES.findall(real), _TIMES.findall(ours)
    return (
        _TIMES.sub(b"", real) == _TIMES.sub(b"", ours)
        and len(real_times) == len(our_times)
        and all(abs(int(a[1]) - int(b[1])) <= 1 for a, b in zip(real_times, our_times, strict=True))
    )


def _stable(reply: bytes) -> list[str]:
    """Return the lines of statistics that can be compared."""
    lines = [line.removeprefix("STAT ") for line in reply.decode("latin-1").splitlines()]
    return [line for line in lines if is_stable(line)]


def is_stable(line: str) -> bool:
    """Return whether a line of statistics, without STAT, can be compared."""
    return not _UNSTABLE.match(line)


def _short(request: bytes, real: bytes, ours: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a difference without the equal lines."""
    both = set(real.splitlines()) & set(ours.splitlines())
    left = [[line for line in text.splitlines() if line not in both] for text in (real, ours)]
    return request, b"\n".join(left[0]), b"\n".join(left[1])


def main() -> None:
    """Compare many replies, and print each kind of difference once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000, help="requests in each protocol")
    parser.add_argument("--run", type=int, default=200, help="requests to the same process")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shown: set[str] = set()
    count = 0
    for protocol in ("text", "meta"):
        r = random.Random(f"{arguments.seed} {protocol}")
        left = arguments.steps
        while left > 0:
            with Pair() as pair:
                for _ in range(min(left, arguments.run)):
                    left -= 1
                    difference = pair.differ(drawn(r, protocol))
                    if difference is None:
                        continue
                    count += 1
                    request, real, ours = (text[:300] for text in _short(*difference))
                    kind = f"{request.split()[:1]} {real[:20]!r} {ours[:20]!r}"
                    if kind not in shown:
                        shown.add(kind)
                        print(f"{protocol} {request!r}\n   real {real!r}\n   ours {ours!r}")
                    break  # from the same state again
    print(f"{2 * arguments.steps} requests, {count} differences of {len(shown)} kinds")


if __name__ == "__main__":
    main()
