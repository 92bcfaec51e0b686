"""What several clients of a node are sent, byte for byte, beside a real Redis 7.0."""

import asyncio
import re
import select
import shlex
import socket
import tempfile
from pathlib import Path
from typing import Self

import pytest

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from cachesim.protocols.resp import request
from tests.embedded.redis.shard import Caller, node_id

_QUIET = 0.04  # seconds without data after which a real server has said all


class Both:
    """A real server and an embedded node, with the same clients by name."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._folder = tempfile.TemporaryDirectory()
        self._loop = asyncio.new_event_loop()
        address = NodeAddress(node_id("both", "a"), "127.0.0.1", 7801, 17801)

        async def dial(*_: object) -> None:
            raise ConnectionRefusedError

        config = RedisNodeConfig(
            "redis-a", Path(self._folder.name), {"redis-a": address}, "redis-a"
        )
        self._node = RedisNode(config, dial_peer=dial, loop=self._loop)
        self._node.start()
        self._other = socket.create_connection(("127.0.0.1", port))
        self._real: dict[str, socket.socket] = {}
        self._ours: dict[str, Caller] = {}
        self.ids: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._other, *self._real.values()):
            connection.close()
        self._node.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
        self._folder.cleanup()

    def _connect(self, name: str) -> None:
        self._real[name] = socket.create_connection(("127.0.0.1", self._port))
        self._ours[name] = Caller()
        pipe(self._loop, self._ours[name], self._node.accept())
        real, ours = self._send(name, [["CLIENT", "ID"]], [["CLIENT", "ID"]])[name]
        self.ids[name] = int(real[1:]), int(ours[1:])

    def _send(
        self, name: str, real: list[list[str]], ours: list[list[str]]
    ) -> dict[str, tuple[bytes, bytes]]:
        def packed(requests: list[list[str]]) -> bytes:
            return b"".join(request([word.encode() for word in words]) for words in requests)

        self._real[name].sendall(packed(real))
        self._ours[name].transport.write(packed(ours))
        self._loop.run_until_complete(self._settle())
        return {name: (sent, self._taken(name)) for name, sent in self._read().items()}

    async def _settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)
        while self._node.server.script_runner.running is not None:
            await asyncio.sleep(0.001)
        for _ in range(30):
            await asyncio.sleep(0)

    def _read(self) -> dict[str, bytes]:
        """Return what the real server has sent, when nothing more has come for a while."""
        for _ in range(3):  # it is single-threaded: then it has run what came before
            self._other.sendall(b"PING\r\n")
            self._other.recv(100)
        data = dict.fromkeys(self._real, b"")
        names = {connection: name for name, connection in self._real.items()}
        while ready := select.select(list(names), [], [], _QUIET)[0]:
            for connection in ready:
                piece = connection.recv(1 << 16)
                data[names[connection]] += piece or b"(closed)"
                if not piece:
                    del names[connection]
        return data

    def _taken(self, name: str) -> bytes:
        caller = self._ours[name]
        data, caller.buffer = caller.buffer, b""
        return data + b"(closed)" if caller.is_lost else data

    def __call__(self, line: str) -> dict[str, tuple[bytes, bytes]]:
        """Let a client send requests: `A: MULTI; GET k; EXEC`. `$B` is the id of client B.

        Returns:
            What the real server and the node have sent to each client.
        """
        name, _, text = line.partition(": ")
        for other in [*re.findall(r"\$(\w)", text), name]:
            if other not in self._real:
                self._connect(other)
        requests = [shlex.split(one) for one in text.split(";")]
        return self._send(name, *(self._filled(requests, side) for side in (0, 1)))

    def _filled(self, requests: list[list[str]], side: int) -> list[list[str]]:
        return [
            [re.sub(r"^\$(\w)$", lambda m: str(self.ids[m[1]][side]), word) for word in words]
            for words in requests
        ]


def _same(ours: bytes, sent: bytes) -> bool:
    """Return whether bytes are the same, but for the numbers of connections."""
    numbers = rb"(id\r\n|redirect\r\n|redir-broken\r\n|^\$-1\r\n):[1-9]\d*"
    return re.sub(numbers, rb"\1:#", ours) == re.sub(numbers, rb"\1:#", sent)


SCENARIOS = {
    "own writes come after the reply": """
        A: HELLO 3
        A: CLIENT TRACKING ON
        A: SET k 1; GET k
        A: SET k 2; PING; GET k; MULTI; SET k 3; PING; EXEC; PING
        A: GET k; DEL k; PING
        A: GET k; MSET {t}k 1; MGET {t}k {t}j; MSET {t}k 1 {t}j 2
        A: GET k; FLUSHALL; PING
    """,
    "reads in scripts": """
        A: HELLO 3
        A: CLIENT TRACKING ON
        B: SET k 1
        A: EVAL "return redis.call('get','k')" 1 k
        B: SET k 2
        A: EVAL "return redis.call('get',KEYS[1])" 2 {t}k {t}j
        B: SET {t}j 2
        B: SET {t}k 2
        A: EVAL "return 1" 1 k
        B: SET k 3
        A: EVAL_RO "return 1" 1 k
        B: SET k 3
        A: EVAL_RO "return redis.call('get',KEYS[1])" 1 k
        B: SET k 3
        A: EVAL "redis.call('get',KEYS[1]) return redis.call('set',KEYS[1],1)" 1 k
        A: EVAL "return redis.call('set',KEYS[1],1)" 1 k
        A: MULTI; EVAL "return redis.call('get',KEYS[1])" 1 k; EXEC
        B: EVAL "return redis.call('set',KEYS[1],1)" 1 k
        B: SET k 2
    """,
    "broadcast": """
        A: HELLO 3
        A: CLIENT TRACKING ON BCAST PREFIX {a} PREFIX b
        B: MULTI; SET {a}2 1; SET {a}1 1; SET {a}2 2; EXEC
        A: MULTI; SET {a}2 1; SET {a}1 1; EXEC; PING
        B: SET {a}1 1; SET b1 1; SET c 1; SET b2 1
        B: EVAL "redis.call('set','{a}9',1) redis.call('set','{a}8',1)" 1 {a}9
        C: HELLO 3
        C: CLIENT TRACKING ON BCAST NOLOOP
        C: SET {a}5 1; SET z 1
        B: SET z 1
        B: FLUSHALL
    """,
    "noloop": """
        A: HELLO 3
        A: CLIENT TRACKING ON NOLOOP
        A: GET k; SET k 1; PING
        B: SET k 2
        A: GET k
        A: EVAL "return redis.call('set',KEYS[1],1)" 1 k
        B: SET k 2
        A: GET k; FLUSHALL
        B: FLUSHALL
    """,
    "optin": """
        A: HELLO 3
        A: CLIENT TRACKING ON OPTIN
        A: GET k
        B: SET k 1
        A: CLIENT CACHING YES; GET k
        B: SET k 1
        A: CLIENT CACHING YES; PING; GET k
        B: SET k 1
        A: CLIENT CACHING YES; MULTI; GET k; GET k; EXEC; GET j
        B: SET k 1
        B: SET j 1
        A: CLIENT CACHING YES; CLIENT TRACKINGINFO; GET k
        B: SET k 1
        A: CLIENT CACHING YES; MGET {t}1 {t}2
        B: MSET {t}1 1 {t}2 2
        A: CLIENT CACHING YES; EVAL "return redis.call('get',KEYS[1])" 1 k; GET j
        B: SET k 1; SET j 1
        A: CLIENT CACHING NO; CLIENT CACHING x; CLIENT TRACKING ON OPTOUT; CLIENT TRACKING OFF
    """,
    "optout": """
        A: HELLO 3
        A: CLIENT TRACKING ON OPTOUT
        A: CLIENT CACHING NO; GET k; GET j
        B: SET k 1; SET j 1
        A: CLIENT CACHING NO; PING; GET k
        B: SET k 1
        A: CLIENT CACHING YES; CLIENT TRACKINGINFO
    """,
    "redirect": """
        A: CLIENT TRACKING ON
        B: SUBSCRIBE __redis__:invalidate
        A: CLIENT TRACKING ON REDIRECT $B
        A: GET k; CLIENT GETREDIR
        A: SET k 1; PING
        C: GET k; SET k 2
        A: GET k
        C: MULTI; SET k 1; SET j 1; EXEC; FLUSHALL
        A: CLIENT TRACKING OFF; CLIENT GETREDIR
        D: HELLO 3; CLIENT TRACKING ON BCAST REDIRECT $B
        C: MULTI; SET z 1; SET a 1; EXEC
        B: UNSUBSCRIBE; QUIT
        C: SET k 2
        D: CLIENT TRACKINGINFO
    """,
    "tracking's options": """
        A: CLIENT TRACKING ON PREFIX a; CLIENT TRACKING ON BCAST OPTIN
        A: CLIENT TRACKING ON OPTIN OPTOUT
        A: CLIENT TRACKING ON BCAST PREFIX a PREFIX ab; CLIENT TRACKING ON BCAST PREFIX a
        A: CLIENT TRACKINGINFO; CLIENT TRACKING ON BCAST PREFIX ab; CLIENT TRACKINGINFO
        A: CLIENT TRACKING ON BCAST PREFIX b; CLIENT TRACKINGINFO
        A: CLIENT TRACKING ON; CLIENT TRACKING OFF; CLIENT TRACKINGINFO
        A: CLIENT TRACKING ON OPTIN
        A: CLIENT TRACKING ON; CLIENT TRACKINGINFO
        A: CLIENT TRACKING ON REDIRECT 99999; CLIENT TRACKING x
        A: CLIENT CACHING YES; CLIENT TRACKINGINFO; CLIENT CACHING NO
        A: CLIENT TRACKING ON REDIRECT $A
        A: CLIENT TRACKING OFF BCAST; CLIENT TRACKING ON FOO; CLIENT TRACKING ON OPTIN REDIRECT 0
    """,
    "expired keys": """
        A: HELLO 3
        A: CLIENT TRACKING ON
        B: SET k 1 PX 1
        A: GET k
        B: PING
    """,
    "events of blocked clients": """
        S: CONFIG SET notify-keyspace-events KEAn
        S: PSUBSCRIBE __key*
        A: BLPOP q 0
        B: LPUSH q 1 2
        A: BLMOVE {q} {r} LEFT RIGHT 0
        B: RPUSH {q} 1
        A: BRPOPLPUSH {q} {r} 0
        B: RPUSH {q} 1
        A: BZPOPMIN z 0
        B: ZADD z 1 a
        A: BRPOP q1 0
        B: MULTI; RPUSH q1 a; RPUSH q1 b; EXEC
        S: PUNSUBSCRIBE; CONFIG SET notify-keyspace-events ''
    """,
    "the setting of events": """
        A: CONFIG SET notify-keyspace-events xq; CONFIG SET notify-keyspace-events KEAmn
        A: CONFIG GET notify-keyspace-events; CONFIG SET notify-keyspace-events gxK
        A: CONFIG GET notify-keyspace-events; CONFIG SET notify-keyspace-events g$lshzxetdnmE
        A: CONFIG GET notify-keyspace-events; CONFIG SET notify-keyspace-events ''
    """,
    "a pause that is over": """
        A: CLIENT PAUSE 0
        A: CLIENT PAUSE 100000 WRITE
        C: GET k
        B: SET k 1
        A: CLIENT UNPAUSE
    """,
    "subscribing in a transaction": """
        A: MULTI; PSUBSCRIBE a* b*; EXEC; PING
        B: PUBLISH ab 1
        C: SSUBSCRIBE x; ECHO y; PING; DEBUG SLEEP 0
    """,
    "subscribing without replies": """
        A: CLIENT REPLY OFF; UNSUBSCRIBE; SUBSCRIBE a; PING
        B: CLIENT REPLY SKIP; SUBSCRIBE a; PING
    """,
    "tracking that is not turned on": """
        A: CLIENT TRACKING x PREFIX a; CLIENT TRACKING off PREFIX a; CLIENT TRACKING off REDIRECT x
        A: HELLO 2 AUTH x y SETNAME a; CLIENT GETNAME
    """,
    "sharded subscribers": """
        A: SSUBSCRIBE ch; GET k; PING; PING x; MULTI; CLIENT ID; RESET
        A: SSUBSCRIBE ch; SUBSCRIBE c; SUNSUBSCRIBE; GET k; UNSUBSCRIBE; GET k
        A: SSUBSCRIBE b a; SUNSUBSCRIBE a; SUNSUBSCRIBE nosuch; GET k; SUNSUBSCRIBE b; PING
        B: HELLO 3
        B: SSUBSCRIBE ch; GET k; PING; MULTI; GET k; EXEC
        C: SPUBLISH ch m
    """,
    "all keys are deleted": """
        A: HELLO 3
        A: CLIENT TRACKING ON BCAST
        B: SET k 1; SET j 1
        B: WATCH k; FLUSHALL; MULTI; PING; EXEC
        B: SET k 1
        C: WATCH k; MULTI; PING
        A: FLUSHALL
        C: EXEC
    """,
    "no reply before the end": """
        A: CLIENT REPLY OFF; QUIT
        A: PING
        B: CLIENT REPLY SKIP; QUIT
        B: CLIENT REPLY ON; PING
        C: CLIENT REPLY OFF; CLIENT KILL ID $C
        C: PING
        D: QUIT
        E: XGROUP CREATE s g 0 MKSTREAM; CLIENT REPLY SKIP; BLPOP q 0
        F: RPUSH q 1
        E: PING
    """,
    "clients that another one kills": """
        A: BLPOP q 0
        B: CLIENT KILL ID $A; RPUSH q v; LLEN q; CLIENT KILL ID $A; CLIENT LIST ID $A
        C: SUBSCRIBE x
        D: MULTI; CLIENT KILL ID $C; PUBLISH x v; PUBSUB NUMSUB x; EXEC
        E: GET k; CLIENT TRACKING ON BCAST
        D: CLIENT KILL ID $E; SET k v
        F: CLIENT REPLY OFF
        D: CLIENT KILL ID $F
    """,
    "a paused node": """
        A: CLIENT PAUSE 100000 WRITE
        B: SET k 1
        C: GET k
        A: CLIENT UNPAUSE
    """,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_bytes(real: int, scenario: str) -> None:
    """All clients are sent the same bytes, pushes in the same places."""
    with Both(real) as both:
        both("Z: FLUSHALL")
        for line in SCENARIOS[scenario].strip().splitlines():
            for name, (sent, ours) in both(line.strip()).items():
                assert _same(ours, sent), (line.strip(), name, sent, ours)


FIELDS = ("name", "flags", "sub", "psub", "ssub", "multi", "cmd", "user", "redir", "resp")


def test_the_list_of_clients(real: int) -> None:
    """CLIENT LIST shows the state and the last command of each client, INFO how many wait."""
    with Both(real) as both:
        for line in (
            "A: FLUSHALL; SET k 1",
            "B: BLPOP q 0",
            "C: SUBSCRIBE x",
            "D: MULTI; GET k",
            "E: CLIENT TRACKING ON BCAST; foo",
            "F: SSUBSCRIBE x; PING; PING",
            "G: WATCH k",
            "H: MONITOR",
            "I: READONLY; CLIENT FOO",
            "J: HELLO 3; CLIENT NO-EVICT ON",
            "K: EVAL 'return 1' 0; CLIENT SETNAME me",
            "L: CLIENT TRACKING ON; GET; CONFIG",
            "A: CLIENT PAUSE 100000 WRITE",
            "K: SET k 5",
        ):
            both(line)
        listed = [_fields(text) for text in both("A: SET k 2; CLIENT LIST")["A"]]
        assert listed == [{}, {}]  # a write waits
        both("J: CLIENT UNPAUSE")
        both("J: CLIENT PAUSE 100000 WRITE")
        both("K: SET k 5")
        counts = [
            re.findall(rb"(?:blocked|tracking)_clients:\d+", text)
            for text in both("J: INFO clients")["J"]
        ]
        ids = " ".join(f"${name}" for name in "ABCDEFGHIJKL")
        real_list, our_list = (_fields(text) for text in both(f"J: CLIENT LIST ID {ids}")["J"])
        both("J: CLIENT UNPAUSE")
        assert counts[0] == counts[1] == [b"blocked_clients:2", b"tracking_clients:2"]
        assert len(real_list) == len(our_list) == 12
        named = {number: name for name, (number, _) in both.ids.items()}
        for (number, fields), ours in zip(real_list.items(), our_list.values(), strict=True):
            assert abs(int(ours.pop("idle")) - int(fields.pop("idle"))) <= 2
            assert ours == fields, named[number]


def _fields(text: bytes) -> dict[int, dict[str, str]]:
    """Return fields of CLIENT LIST by the number of the client."""
    lines = [
        dict(pair.partition("=")[::2] for pair in line[line.index("id=") :].split(" "))
        for line in text.decode().splitlines()
        if "id=" in line
    ]
    return {int(line["id"]): {name: line[name] for name in (*FIELDS, "idle")} for line in lines}
