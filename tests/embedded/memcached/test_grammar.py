"""What Memcached's `protocol.txt` has is in the fuzzer's grammar, or a known difference.

`protocol.json` is its table: that of 1.6.18, which the node is compared with.
"""

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded.memcached.differential import KNOWN, Ours, drawn
from tests.embedded.memcached.protocol_text import INSTALLED, TABLE, extract

DOCUMENTED: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
ELSEWHERE_DOCUMENTED = (
    *("mn", "extstore", "refresh_certs", "shutdown graceful", "stats reset", "stats detail on"),
    *("stats detail off", "stats detail dump", "stats cachedump"),
)
"""Commands that only the text of `protocol.txt`, other documents or `memcached -h` name."""

STORAGE = ("set", "add", "replace", "append", "prepend", "cas")
NOREPLY = {*DOCUMENTED["noreply"], *STORAGE, "flush_all", "verbosity", "cache_memlimit"}
FOR_PROXIES = "PL"
"""The flags that all commands ignore."""

UNDRAWN = {
    "lru mode": "test_maintenance: the fuzzer's Memcached has no thread for it",
    "lru temp_ttl": "test_maintenance: the same",
    "lru_crawler enable": "test_maintenance: the fuzzer's Memcached runs without it",
    "lru_crawler disable": "test_maintenance: the same",
    "lru_crawler metadump": "test_maintenance: the same",
    "stats conns": "has addresses and numbers of connections",
}
"""Commands that the fuzzer does not draw, and why."""

UNSENT = {
    "stats": {
        *("idle_kicks", "proxy_conn_errors", "proxy_conn_oom", "proxy_conn_requests"),
        *("proxy_req_active", "proxy_req_await"),
    },
    "stats settings": {
        *("drop_privileges", "idle_time", "proxy_enabled", "proxy_uring_enabled"),
        "read_obj_mem_limit",
    },
    "stats items": {"number_temp"},
    "stats with TLS": set(DOCUMENTED["stats"]["stats with TLS"]),
}
"""Names of statistics that 1.6.18 does not send either, as Debian builds it and with its defaults:
test_against_memcached compares all names."""


@pytest.fixture(scope="module")
def lines() -> set[bytes]:
    """Lines of many drawn requests."""
    r = random.Random(1)
    drawn_ = (drawn(r, protocol) for protocol in ("text", "meta") for _ in range(20_000))
    return {line for request in drawn_ for line in request.splitlines() if len(line) < 2000}


@pytest.fixture(scope="module")
def node() -> Iterator[Ours]:
    """A node with an item."""
    ours = Ours()
    ours.ask(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
    yield ours
    ours.close()


def is_known(name: str) -> bool:
    """Return whether a command is in the table of differences."""
    return any(name in what.split(", ") for what, _ in KNOWN)


def test_document() -> None:
    """The table is what the installed document has."""
    if not INSTALLED.exists():
        pytest.skip(f"there is no {INSTALLED}")
    with gzip.open(INSTALLED, "rt", encoding="utf-8") as file:
        assert extract(file.read()) == DOCUMENTED


@pytest.mark.parametrize("name", [*DOCUMENTED["commands"], *ELSEWHERE_DOCUMENTED])
def test_commands(lines: set[bytes], name: str) -> None:
    """Each command and option is drawn, or has its reason."""
    is_drawn = any(line == name.encode() or line.startswith(name.encode() + b" ") for line in lines)
    assert is_drawn or is_known(name.split()[0]) or name in UNDRAWN


@pytest.mark.parametrize("name", sorted(NOREPLY))
def test_noreply(lines: set[bytes], name: str) -> None:
    """Each command that may have it is drawn with `noreply`."""
    start = name.encode() + b" "
    assert any(line.startswith(start) and line.endswith(b" noreply") for line in lines)


@pytest.mark.parametrize(
    ("name", "flag"),
    [(n, flag) for n, flags in DOCUMENTED["flags"].items() for flag in flags + FOR_PROXIES]
    + [("me", "b")],
)
def test_meta_flags(lines: set[bytes], name: str, flag: str) -> None:
    """Each flag of each meta command is drawn."""
    of_name = (line.split()[2:] for line in lines if line.startswith(name.encode() + b" "))
    assert any(word.startswith(flag.encode()) for words in of_name for word in words)


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name, modes in DOCUMENTED["modes"].items() for mode in modes],
)
def test_modes(lines: set[bytes], name: str, mode: str) -> None:
    """Each mode is drawn."""
    of_name = (line.split() for line in lines if line.startswith(name.encode() + b" "))
    assert any(b"M" + mode.encode() in words for words in of_name)


@pytest.mark.parametrize("request_", DOCUMENTED["stats"])
def test_statistics(node: Ours, request_: str) -> None:
    """Each name of a statistic is sent, or is not by 1.6.18 either."""
    words = request_.partition(" with ")[0].encode()
    reply = node.ask(words + b"\r\n", b"END\r\n").decode()
    sent = {line.split()[1].split(":")[-1] for line in reply.splitlines() if line != "END"}
    assert set(DOCUMENTED["stats"][request_]) - sent == UNSENT.get(request_, set())
