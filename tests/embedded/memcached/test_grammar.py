"""What Memcached's `protocol.txt` has is in the fuzzer's grammar, or a known difference."""

import random

import pytest

from tests.embedded.memcached.differential import KNOWN, drawn

COMMANDS = (
    "set", "add", "replace", "append", "prepend", "cas", "get", "gets", "gat", "gats", "delete",
    "incr", "decr", "touch", "me", "mg", "ms", "md", "ma", "mn", "flush_all", "version",
    "verbosity", "quit", "stats", "shutdown", "cache_memlimit", "slabs", "lru", "lru_crawler",
    "watch", "extstore", "refresh_certs",
)  # fmt: skip
OPTIONS = (
    "slabs reassign", "slabs automove", "lru tune", "lru mode", "lru temp_ttl",
    "lru_crawler enable", "lru_crawler disable", "lru_crawler sleep", "lru_crawler tocrawl",
    "lru_crawler crawl", "lru_crawler metadump", "stats settings", "stats items", "stats sizes",
    "stats slabs", "stats conns", "flush_all noreply", "verbosity 9 noreply",
)  # fmt: skip
META_FLAGS = {"mg": "bcfhkOqstuvlNRTPL", "ms": "bcCFIkOqTMPL", "md": "bCIkOqTPL",
              "ma": "bCNJDTMqtcvPL", "me": "b"}  # fmt: skip
MODES = {"ms": "EAPRS", "ma": "I+D-"}
ELSEWHERE = {
    "lru mode": "test_maintenance: the fuzzer's Memcached has no thread for it",
    "lru temp_ttl": "test_maintenance: the same",
    "lru_crawler enable": "test_maintenance: the fuzzer's Memcached runs without it",
    "lru_crawler disable": "test_maintenance: the same",
    "lru_crawler metadump": "test_maintenance: the same",
    "stats conns": "has addresses and numbers of connections; names in test_against_memcached",
}
"""Options that the fuzzer does not draw, and where they are."""


@pytest.fixture(scope="module")
def lines() -> set[bytes]:
    """Lines of many drawn requests."""
    r = random.Random(1)
    drawn_ = (drawn(r, protocol) for protocol in ("text", "meta") for _ in range(20_000))
    return {line for request in drawn_ for line in request.splitlines() if len(line) < 2000}


@pytest.mark.parametrize("name", [*COMMANDS, *OPTIONS])
def test_commands(lines: set[bytes], name: str) -> None:
    """Each command and option is drawn, or has its reason."""
    is_drawn = any(line == name.encode() or line.startswith(name.encode() + b" ") for line in lines)
    is_known = any(name in command.split(", ") for command, _ in KNOWN)
    assert is_drawn or is_known or name in ELSEWHERE


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name, flags in META_FLAGS.items() for flag in flags]
)
def test_meta_flags(lines: set[bytes], name: str, flag: str) -> None:
    """Each flag of each meta command is drawn."""
    of_name = (line.split()[2:] for line in lines if line.startswith(name.encode() + b" "))
    assert any(word.startswith(flag.encode()) for words in of_name for word in words)


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes]
)
def test_modes(lines: set[bytes], name: str, mode: str) -> None:
    """Each mode is drawn."""
    of_name = (line.split() for line in lines if line.startswith(name.encode() + b" "))
    assert any(b"M" + mode.encode() in words for words in of_name)
