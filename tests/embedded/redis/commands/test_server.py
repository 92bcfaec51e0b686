"""Settings, MONITOR and diagnostics, compared with a real Redis."""

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from cachesim.aio.pipe import pipe
from cachesim.protocols.resp import request
from tests.embedded.redis.differential import Pair

Agree = Callable[..., None]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("list-max-listpack-size", "-2 -6 0 -99999999999 x"),
        ("slowlog-log-slower-than", "-1 -2 99999999999"),
        ("maxmemory-samples", "0 1 -1"),
        ("repl-timeout", "0 60"),
        ("active-expire-effort", "11 1"),
        ("cluster-announce-port", "65536 0"),
        ("hash-max-listpack-value", "-1 99999999999 1kb 64"),
        ("repl-backlog-size", "0 1mb"),
        ("oom-score-adj", "foo no"),
        ("dir", "/"),
        ("bio_cpulist", "1"),
    ],
)
def test_settings_have_limits(agree: Agree, name: str, values: str) -> None:
    """CONFIG SET takes what Redis takes, and refuses the rest with the same text."""
    for value in values.split():
        agree(f"CONFIG SET {name} {value}")


def test_requirepass_is_the_password_of_the_default_user(agree: Agree) -> None:
    """Clients that have authenticated go on; AUTH wants the password until it is removed."""
    agree(
        "CONFIG SET requirepass one", "PING", "AUTH two", "AUTH one", "AUTH default one",
        "CONFIG GET requirepass", "ACL LIST", "CONFIG SET requirepass ''", "AUTH one", "ACL LIST",
    )  # fmt: skip


def test_a_new_client_must_authenticate() -> None:
    """`requirepass` is asked of connections that come later."""
    from tests.embedded.redis.differential import Ours

    ours = Ours()
    try:
        ours(b"CONFIG", b"SET", b"requirepass", b"one")
        ours(b"RESET")
        assert "NOAUTH" in str(ours(b"GET", b"k"))
        assert ours(b"AUTH", b"one") == "OK"
        assert ours(b"GET", b"k") is None
    finally:
        ours.close()


def test_diagnostics(agree: Agree) -> None:
    """LATENCY and MEMORY answer as a server that has nothing to tell."""
    agree(
        "LATENCY DOCTOR", "CONFIG SET latency-monitor-threshold 1000000", "LATENCY DOCTOR",
        "CONFIG SET latency-monitor-threshold 0", "LATENCY GRAPH x", "LATENCY GRAPH",
        "LATENCY HISTORY x", "LATENCY LATEST", "LATENCY RESET x", "LATENCY HISTOGRAM nosuch",
        "MEMORY DOCTOR", "MEMORY STATS x", "MEMORY USAGE nosuch", "MEMORY PURGE",
    )  # fmt: skip


_CALLED = (b"set", b"get", b"config", b"config|get", b"lpop", b"eval")


def test_latency_histogram(pair: Pair) -> None:
    """It has the commands that were called, and how often they took no longer."""
    for server in (pair.real, pair.ours):
        for words in ("CONFIG RESETSTAT", "SET k v", "GET k", "CONFIG GET hz", "EVAL return 0"):
            server(*words.encode().split())
    real, ours = (
        _paired(server(b"LATENCY", b"HISTOGRAM", *_CALLED)) for server in (pair.real, pair.ours)
    )
    assert set(real) == set(ours)
    for name, of_real in real.items():
        calls, histogram = _paired(ours[name]).values()
        assert calls == _paired(of_real)[b"calls"]
        counted = list(_paired(histogram).values())
        assert counted == sorted(set(counted))
        assert counted[-1] == calls


def test_latency_percentiles(pair: Pair) -> None:
    """INFO has the same fields of the commands that were called."""
    found = []
    for server in (pair.real, pair.ours):
        for words in ("CONFIG RESETSTAT", "SET k v", "SET k v", "CLIENT ID"):
            server(*words.encode().split())
        lines = server(b"INFO", b"latencystats").splitlines()
        assert all(re.search(rb"=\d+\.\d{3},p99=\d+\.\d{3},p99.9=", line) for line in lines[1:])
        found.append({line.partition(b":")[0] for line in lines})
    assert found[0] == found[1]


_OF_A_FILE = ("aof_current_size", "aof_base_size", "aof_pending", "aof_buffer", "aof_delayed")
"""Fields that a node with an append-only file has besides. The real one has none."""
_COUNTS_READS = {"total_reads_processed", "total_writes_processed"}


def test_the_fields_of_info(pair: Pair) -> None:
    """INFO has the fields of Redis, but for reads and writes of the sockets."""
    sections = [
        "server",
        "clients",
        "memory",
        "persistence",
        "stats",
        "replication",
        "cpu",
        "cluster",
    ]
    for section in sections:
        real, ours = (
            {line.partition(b":")[0].decode() for line in server(b"INFO", section.encode()).split()}
            for server in (pair.real, pair.ours)
        )
        assert real - ours <= _COUNTS_READS
        assert all(name.startswith(_OF_A_FILE) for name in ours - real)


def test_the_docs_of_commands(pair: Pair) -> None:
    """COMMAND DOCS says the same of all commands, with the same types."""
    assert pair.differ((b"COMMAND", b"DOCS")) is None
    named = (b"COMMAND", b"DOCS", b"get", b"Config", b"config|GET", b"nosuch", b"get|x")
    assert pair.differ(named) is None


def test_memory_stats(pair: Pair) -> None:
    """The fields are Redis's, in the same order and of the same types."""
    shapes = []
    for server in (pair.real, pair.ours):
        server(b"SET", b"k", b"v")
        stats = _paired(server(b"MEMORY", b"STATS"))
        assert stats[b"keys.count"] == 1
        shapes.append([(name, type(value)) for name, value in stats.items()])
        shapes[-1] += list(_paired(stats[b"db.0"]))
    assert shapes[0] == shapes[1]


def _paired(reply: Any) -> dict[Any, Any]:
    """Return a map, which is a list in RESP2."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


@pytest.mark.parametrize(
    "words",
    [
        "set k v", "set k v ex 9 GET", "get k", "bitfield k get u8 0", "bitfield k", "eval x 1 k",
        "bitfield k overflow fail set u8 0 1", "sort k store b", "zunionstore a 1 b", "copy a b",
        "xread streams a 0", "lmove a b left right", "memory usage a", "ping", "foo", "get",
        "pfmerge a b", "lmpop 2 a b left", "spublish a b",
    ],
)  # fmt: skip
def test_command_getkeysandflags(agree: Agree, words: str) -> None:
    """The flags tell what a command does with its keys, by its options."""
    agree(f"COMMAND GETKEYSANDFLAGS {words}", f"COMMAND GETKEYS {words}")


def test_a_user_that_may_only_write_may_set(agree: Agree) -> None:
    """SET without GET does not read its key."""
    agree(
        "ACL SETUSER w on nopass %W~* +@all", "AUTH w x", "SET k v", "SET k v GET",
        "AUTH default x", "ACL DELUSER w",
    )  # fmt: skip


_MONITORED = (
    "SET k v", "EVAL return{redis.call('get',KEYS[1])} 1 k", "EVALSHA abc 0", "FCALL f 0", "MULTI",
    "SET k w", "EVAL return(redis.call('get',KEYS[1])) 1 k", "GET k", "EXEC", "EXEC", "AUTH x",
    "HELLO 2 AUTH a b", "FOO", "GET", "MULTI", "FOO", "EXEC", "CONFIG GET maxmemory", "LPOP k",
)  # fmt: skip


def test_monitor(real: int, pair: Pair) -> None:
    """Monitors see the same requests in the same order, and no passwords."""
    with socket.create_connection(("127.0.0.1", real)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        assert monitor.recv(64) == b"+OK\r\n"
        for words in _MONITORED:
            pair.real(*words.encode().split())
        pair.real(b"PING")
        seen = b""
        while b'"PING"' not in seen:
            seen += monitor.recv(1 << 16)

    class Monitor(asyncio.Protocol):
        def __init__(self) -> None:
            self.seen = b""

        def data_received(self, data: bytes) -> None:
            self.seen += data

    ours, watching = pair.ours, Monitor()
    transport = pipe(ours.loop, watching, ours.node.accept())[0]
    transport.write(request([b"MONITOR"]))
    for words in (*_MONITORED, "PING"):
        ours(*words.encode().split())
    ours.loop.run_until_complete(asyncio.sleep(0.05))
    assert _requests(watching.seen.removeprefix(b"+OK\r\n")) == _requests(seen)


def _requests(seen: bytes) -> list[bytes]:
    """Return the lines without times and addresses."""
    return [re.sub(rb"^\+\S+ \[0 [\d.:]+\]", b"", line) for line in _stripped(seen)]


def _stripped(seen: bytes) -> list[bytes]:
    return [re.sub(rb"^\+\S+ \[0 lua\]", b"lua", line) for line in seen.splitlines()]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("save", ["60 10 900 1", "x", "60", "0 1", "60 -1", "  60   10  ", "060 5", ""]),
        (
            "client-output-buffer-limit",
            [
                "normal 1mb 2 3", "x 1 2 3", "normal 1 2", "normal x 2 3", "normal 1 2 x", "",
                "master 0 0 0", "replica 0 0 0 normal 0 0 0",
                "normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60",
            ],
        ),
        ("oom-score-adj-values", ["1 2", "1 2 3000", "0 200 x", "0 200 800"]),
        ("maxmemory-policy", ["NOEVICTION", "foo"]),
        ("latency-monitor-threshold", ["x", "0"]),
    ],
)  # fmt: skip
def test_values_of_settings(agree: Agree, name: str, values: list[str]) -> None:
    """A value is shown as Redis shows it, and refused with Redis's text."""
    for value in values:
        agree(f"CONFIG SET {name} '{value}'", f"CONFIG GET {name}")


def test_settings_are_checked_by_name_first(agree: Agree) -> None:
    """Of several settings, wrong names are refused before wrong values."""
    agree(
        "CONFIG SET loglevel x dir /", "CONFIG SET loglevel x databases 1",
        "CONFIG SET loglevel x loglevel y", "CONFIG SET loglevel x nosuch 1",
        "CONFIG SET slave-priority x replica-priority y",
    )  # fmt: skip


def test_acl_rules(agree: Agree) -> None:
    """A user is shown with the rules that fit its permissions best."""
    rules = (
        "+get %RW~a %r~b %~a %Z~a ~ & + +@ +select|0 +get|x +config|get +config|nosuch "
        "-config|get -select|1 +config|get|x ( () (+get) (~x x resetkeys allkeys ~z allchannels "
        "&z resetchannels &q &* ~* %R~* #1 !1 >p <z <p nopass +GET +@READ +Config|GET reset "
        "skip-sanitize-payload on +@all -@dangerous -@all allcommands +debug -get -@string"
    )
    for rule in rules.split():
        agree(f"ACL SETUSER u '{rule}'", "ACL LIST", "ACL GETUSER u")
    agree(
        "ACL SETUSER u reset (+get '~x y)'", "ACL SETUSER u '(+get' '~x)'", "ACL LIST",
        "ACL SETUSER 'a b'", "ACL GETUSER nosuch", "ACL LOG 1 2", "ACL GENPASS 1 2", "ACL CAT x y",
        "ACL SETUSER u reset +select|0", "ACL DRYRUN u select 0", "ACL DRYRUN u select 1",
        "ACL DELUSER u",
    )  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        "eval x 1 k",
        "eval x 0",
        "eval x x",
        "eval x -1 k",
        "eval x 5 k",
        "zunionstore d 0 a",
        "zunionstore d 2 a b",
        "xread streams a b 0",
        "xread streams a 0",
        "get",
        "foo",
        "ping",
        "georadius a 1 1 1 m store b",
        "georadius a 1 1 1 m",
        "sort a store b limit store 1",
        "migrate h 1 k 0 10",
        "migrate h 1 '' 0 10 auth keys keys a b",
        "pfmerge a",
        "migrate h 1 k 0 10 keys a",
    ],
)
def test_keys_of_requests(agree: Agree, asked: str) -> None:
    """COMMAND GETKEYS finds the keys that Redis finds."""
    agree(f"COMMAND GETKEYS {asked}", f"COMMAND GETKEYSANDFLAGS {asked}")


def test_slots_of_requests(agree: Agree) -> None:
    """GEORADIUS with several targets is in the slot of the last one."""
    agree(
        "GEORADIUS a{t} 1 1 1 m STORE b{t} STOREDIST c{t} STOREDIST d",
        "GEORADIUS a{t} 1 1 1 m STORE b STOREDIST c{t}",
        "XREAD STREAMS STREAMS{t} x{t} 0", "ZUNIONSTORE d 2 a{t}",
    )  # fmt: skip


def test_commands_and_their_lists(agree: Agree) -> None:
    """Names and categories match whatever their case; an unknown command is null."""
    agree(
        "COMMAND LIST", "COMMAND LIST FILTERBY PATTERN X*", "COMMAND LIST FILTERBY ACLCAT FAST",
        "COMMAND FOO", "COMMAND INFO nosuch get", "COMMAND LIST FILTERBY PATTERN",
        "MULTI", "MODULE LOAD x", "MEMORY DOCTOR", "DEBUG SLEEP 0", "EXEC",
        "SLOWLOG GET 1 2", "PUBSUB CHANNELS a b", "CLIENT UNBLOCK 1 TIMEOUT x",
        "MEMORY USAGE k SAMPLES x y", "LOLWUT VERSION x", "SELECT 99999999999",
    )  # fmt: skip
