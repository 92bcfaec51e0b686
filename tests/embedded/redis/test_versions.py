"""Nodes of later versions, beside a real Redis 8.0 and a real Valkey 8.1 in containers."""

import random
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.embedded.redis.dispatch.command_table import data
from cachesim.settings import Settings
from tests.embedded.redis.alike import same
from tests.embedded.redis.differential import Ours, Real
from tests.embedded.redis.grammar import Words
from tests.embedded.redis.shard import ReplyError
from tests.embedded.toxiproxy.servers import free_port

STEPS = 3000
"""Random requests."""
SERVERS = {
    "redis": ("redis:8.0", {"redis_version": "8.0"}, frozenset({"7.2", "7.4", "8.0"})),
    "valkey": (Settings().valkey_image, {"engine": "valkey"}, frozenset({"7.2", "valkey"})),
}
"""By engine: the image, the configuration of the emulated node, and its releases."""

REQUESTS = """
    CLIENT SETINFO lib-name x; CLIENT SETINFO LIB-VER 1.2; CLIENT SETINFO foo x
    CLIENT SETINFO lib-name 'a b'; CLIENT SETINFO lib-name; CLIENT SETINFO lib-name ''
    CLIENT SETINFO lib-ver 'a b'; CLIENT NO-TOUCH ON; CLIENT NO-TOUCH x; CLIENT NO-TOUCH OFF
    CLIENT CAPA redirect; CLIENT CAPA nosuch; SCRIPT SHOW abc; SCRIPT LOAD 'return 1'
    SCRIPT SHOW e0e1f9fabfc9d4800c877a703b823ac0578ff8db; HSET h a 1; HEXPIRE h 100 FIELDS 1 a
    XADD s 1-1 f v; XGROUP CREATE s g 0; XCLAIM s g c 0 1-1; XAUTOCLAIM s g d 0 0
    XGROUP CREATECONSUMER s g c; XGROUP CREATECONSUMER s g d; CLUSTER MYSHARDID x
    HGETEX h FIELDS 1 a; HTTL h FIELDS 1 a; OBJECT ENCODING h
"""
# No field expires while requests are compared, but some do at once.
TIMES = ("0", "100000", "900000", "x", "-1", "9223372036854775807", "70368744177664", "4000000000")
FIELDS = ("a", "b", "c", "1", "nosuch")


class Both(NamedTuple):
    """A real server, an emulated node of its version, and the releases that both have."""

    real: Real
    ours: Ours
    releases: frozenset[str]

    def differ(self, words: Words) -> tuple[Any, Any] | None:
        """Return both replies to a request, or None if they are the same."""
        real, ours = self.real(*words), self.ours(*words)
        return None if same(words[0].lower().decode(), real, ours) else (real, ours)


def asked(line: str) -> Words:
    """Return the words of a request."""
    return tuple(word.encode() for word in shlex.split(line))


@pytest.fixture(scope="module", params=SERVERS)
def port(request: pytest.FixtureRequest, require_docker: None) -> Iterator[int]:  # noqa: ARG001
    """The port of a real server in a container."""
    from cachesim.backends.containers.engine import connect

    image, _, _ = SERVERS[request.param]
    engine = connect().client
    number = free_port()
    container = engine.containers.run(
        image,
        ["--cluster-enabled", "yes", "--save", ""],
        detach=True,
        ports={"6379/tcp": ("127.0.0.1", number)},
    )
    try:
        deadline = Deadline(20)
        while True:
            try:
                with closing(Real(number)) as client:
                    client(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
                    while b"cluster_state:ok" not in client(b"CLUSTER", b"INFO"):
                        assert not deadline.expired
                break
            except OSError:
                assert not deadline.expired
        yield number
    finally:
        container.remove(force=True, v=True)
        engine.close()


@pytest.fixture
def both(port: int, request: pytest.FixtureRequest) -> Iterator[Both]:
    """Both, empty, in RESP2."""
    _, config, releases = SERVERS[request.node.callspec.params["port"]]
    with closing(Real(port)) as real, closing(Ours(**config)) as ours:
        real(b"FLUSHALL")
        real(b"SCRIPT", b"FLUSH")
        yield Both(real, ours, releases)


def test_requests(both: Both) -> None:
    """What clients of later versions send is answered to the letter, or not known."""
    for line in REQUESTS.replace("\n", ";").split(";"):
        if line.strip():
            words = asked(line)
            assert both.differ(words) is None, line


def drawn(r: random.Random) -> Words:
    """Return a request about fields of a hash, right or wrong."""
    name = r.choice(
        (
            *("hexpire", "hpexpire", "hexpireat", "hpexpireat", "httl", "hpttl", "hexpiretime"),
            *("hpexpiretime", "hpersist", "hgetdel", "hgetex", "hsetex", "hset", "hdel", "hget"),
            *("hincrby", "hincrbyfloat", "hgetall", "rename", "copy", "object", "set", "del"),
        )
    )
    key = r.choice(("{t}h", "{t}h", "{t}h", "{t}g", "{t}s", "{t}none"))
    some = r.choices(FIELDS, k=r.choice((1, 1, 2, 3)))
    counted = [r.choice((str(len(some)), str(len(some)), str(len(some)), "0", "2", "x")), *some]
    listed = [r.choice(("FIELDS", "fields", "FIELDS", "FIELDS", "foo")), *counted]
    if name in ("hexpire", "hpexpire", "hexpireat", "hpexpireat"):
        condition = r.choice(([], [], [], ["NX"], ["xx"], ["GT"], ["LT"], ["NX", "XX"]))
        words = [name, key, r.choice(TIMES), *condition, *listed]
    elif name == "hgetex":
        units = (["EX"], ["PX"], ["EXAT"], ["pxat"])
        expiry = r.choice(([], [], ["PERSIST"], *([*u, r.choice(TIMES)] for u in units), ["foo"]))
        words = [name, key, *expiry, *listed]
    elif name == "hsetex":
        units = (["EX"], ["PX"], ["EXAT"], ["pxat"])
        expiry = r.choice(([], [], ["KEEPTTL"], *([*u, r.choice(TIMES)] for u in units), ["foo"]))
        condition = r.choice(([], [], [], ["FNX"], ["fxx"]))
        pairs = [word for field in some for word in (field, str(r.randrange(9)))]
        words = [name, key, *condition, *expiry, *listed[:2], *pairs]
    elif name in ("httl", "hpttl", "hexpiretime", "hpexpiretime", "hpersist", "hgetdel"):
        words = [name, key, *listed]
    elif name == "hset":
        words = [name, key, *(word for field in some for word in (field, str(r.randrange(9))))]
    elif name in ("rename", "copy"):
        words = [name, key, r.choice(("{t}h", "{t}g"))]
    elif name == "object":
        words = [name, "encoding", key]
    elif name in ("hincrby", "hincrbyfloat"):
        words = [name, key, some[0], "1"]
    else:
        rest = {"hdel": some, "hget": some[:1], "set": ["x"]}.get(name, [])
        words = [name, key if name != "set" else "{t}s", *rest]
    return tuple(word.encode() for word in words)


def _about(name: bytes, real: Any, ours: Any) -> bool:
    """Return whether two replies are the same, but for the moment of the request."""
    if name in (b"httl", b"hpttl", b"hexpiretime", b"hpexpiretime"):
        most = 2000 if name.startswith(b"hp") else 2
        if isinstance(real, list) and isinstance(ours, list) and len(real) == len(ours):
            pairs: Sequence[tuple[int, int]] = list(zip(real, ours, strict=True))
            return all(a == b if a < 0 or b < 0 else abs(a - b) <= most for a, b in pairs)
    return same(name.decode(), real, ours)


@pytest.mark.parametrize("resp", [2, 3])
def test_fields_that_expire(both: Both, resp: int) -> None:
    """Random requests about fields get the same answers, or are not known."""
    r = random.Random(resp)
    for server in (both.real, both.ours):
        server(b"HELLO", b"%d" % resp)
    for number in range(STEPS):
        words = drawn(r)
        real, ours = both.real(*words), both.ours(*words)
        assert _about(words[0], real, ours), (number, words, real, ours)


def test_commands(both: Both) -> None:
    """COMMAND INFO knows the commands since 7.0, each as the real server does.

    Valkey has other flags of some commands that both have.
    """
    for release in both.releases & {"valkey"} or both.releases:
        for row in data("newer_commands.json")[release]:
            assert both.differ((b"COMMAND", b"INFO", row[0].encode())) is None, row[0]


def test_versions(both: Both) -> None:
    """HELLO, INFO and CLIENT LIST tell the version, and have its fields."""
    real, ours = (server(b"HELLO") for server in (both.real, both.ours))
    assert real[:4] == ours[:4]
    listed = (server(b"CLIENT", b"INFO") for server in (both.real, both.ours))
    real_names, our_names = ([pair.partition(b"=")[0] for pair in line.split()] for line in listed)
    assert real_names == our_names
    for server in (both.real, both.ours):
        server(b"CLIENT", b"SETINFO", b"LIB-NAME", b"library")
        server(b"CLIENT", b"SETINFO", b"LIB-VER", b"1.0")
        assert b" lib-name=library lib-ver=1.0" in server(b"CLIENT", b"LIST")
    told = [
        dict(
            line.split(b":", 1) for line in server(b"INFO", b"server").splitlines() if b":" in line
        )
        for server in (both.real, both.ours)
    ]
    for name in (
        *(b"redis_version", b"server_name", b"valkey_version", b"valkey_release_stage"),
        *(b"redis_mode", b"server_mode", b"availability_zone"),
    ):
        assert told[0].get(name) == told[1].get(name), name


def test_commands_of_later_versions_are_unknown() -> None:
    """A node has the commands of its own version only."""
    since: dict[str, Sequence[Any]] = data("newer_commands.json")
    ladder = {"7.0": 0, "7.2": 1, "7.4": 2, "8.0": 3}
    for version, rank in ladder.items():
        with closing(Ours(redis_version=version)) as ours:
            for release, rows in since.items():
                is_there = ladder.get(release, 9) <= rank
                for row in rows:
                    (found,) = ours(b"COMMAND", b"INFO", row[0].encode())
                    assert isinstance(found, list) is is_there, (version, row[0])
            reply = ours(b"HEXPIRE", b"h", b"1", b"FIELDS", b"1", b"a")
            assert isinstance(reply, ReplyError) is (rank < 2)


def test_caching_of_redis_py() -> None:
    """redis-py caches on the client's side with servers of 7.4 and later, and hears of changes."""
    from redis.cache import CacheConfig

    with Simulator(backend="embedded", redis_version="7.4") as sim:
        client = sim.redis_cluster(protocol=3, cache_config=CacheConfig())
        other = sim.redis_cluster()
        try:
            other.set("k", "v")
            assert client.get("k") == client.get("k") == "v"
            calls = other.info("commandstats", target_nodes="primaries")
            assert calls["cmdstat_get"]["calls"] == 1
            other.set("k", "w")
            deadline = Deadline(10)
            while client.get("k") != "w":
                assert not deadline.expired
            other.hset("h", "f", "v")
            assert other.hexpire("h", 100, "f") == [1]
            assert other.httl("h", "f")[0] in (99, 100)
        finally:
            client.close()
            other.close()
