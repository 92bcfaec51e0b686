"""What nodes tell their clients when their roles and their slots change, byte for byte.

The primary is redis-a, which is demoted. redis-b is promoted, and redis-c is re-pointed to it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from cachesim import Simulator
from tests.contract.helpers import info, is_in_sync, through_link, until
from tests.contract.wire import CLOSED, Wire

pytestmark = pytest.mark.core

Connect = Callable[..., Wire]
NODES = ("redis-a", "redis-b", "redis-c")
FOLLOWERS = ("redis-a", "redis-c")
BOTH = (2, 3)  # the versions of the protocol
UNBLOCKED = (
    "-UNBLOCKED force unblock from blocking operation, "
    f"instance state changed (master -> replica?) {CLOSED}"
)
MOVED = "-MOVED 7629 redis-b "  # the slot of `k`
NONE = {2: "*-1 ", 3: "_ "}


@pytest.fixture
def shard(sim: Simulator) -> Simulator:
    """The topology with some keys, in sync."""
    client = through_link(sim, "redis-a")
    client.mset({"k": "old", "{k}2": "old"})
    client.xadd("s", {"f": "1"}, id="1-1")
    client.xgroup_create("s", "g")
    in_sync(sim)
    return sim


@pytest.fixture
def connect(shard: Simulator) -> Iterator[Connect]:
    """Connects a client that reads from replicas, too."""
    with ExitStack() as stack:

        def connected(node: str, resp: int = 2, *, readonly: bool = True) -> Wire:
            wire = stack.enter_context(closing(Wire(shard, node, resp)))
            if readonly:
                wire.ask("READONLY").expect("+OK ")
            return wire

        yield connected


def in_sync(sim: Simulator) -> None:
    """Wait until both replicas have all that the primary has."""
    until(lambda: all(is_in_sync(sim, node.name) for node in sim.redis.replicas))


def fail_over(sim: Simulator, to: str = "b") -> None:
    """Let the control plane promote a node, and wait until it knows that the others follow it."""
    sim.control_plane.failover(to=to)
    assert sim.redis.wait_for_failover().zone == to
    in_sync(sim)
    client = through_link(sim, sim.redis.primary.name)
    identity = client.execute_command("CLUSTER MYID")
    until(lambda: len(client.execute_command("CLUSTER REPLICAS", identity)) == 2)


def write(sim: Simulator, value: str = "new") -> None:
    """Set `k` on the primary, and wait until the replicas have it."""
    through_link(sim, sim.redis.primary.name).set("k", value)
    in_sync(sim)


def blocked(sim: Simulator, node: str, count: int) -> None:
    """Wait until so many clients of a node are blocked."""
    until(lambda: info(sim, node)["blocked_clients"] == count)


def test_blocked_clients(shard: Simulator, connect: Connect) -> None:
    """A demoted and a re-pointed node end all waits, and these connections with them."""
    waits: list[tuple[str | int, ...]] = [
        ("BLPOP", "q", 0),
        ("BLMOVE", "{q}1", "{q}2", "LEFT", "RIGHT", 0),
        ("BZMPOP", 60, 1, "z", "MIN"),
        ("WAIT", 5, 0),
        ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "none{s}", "s", ">", ">"),
        ("XREAD", "BLOCK", 60000, "STREAMS", "s", "$"),
    ]
    through_link(shard, "redis-a").xgroup_create("none{s}", "g", mkstream=True)
    through_link(shard, "redis-a").xreadgroup("g", "c", {"s": ">"})
    reads = ("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    demoted = [connect("redis-a", resp).ask(*words) for words in waits for resp in BOTH]
    repointed = [connect("redis-c", resp).ask(*reads) for resp in BOTH]
    promoted = [connect("redis-b", resp).ask(*reads).ask("GET", "k") for resp in BOTH]
    idle = [connect(node) for node in NODES]
    for node, count in (("redis-a", len(demoted)), ("redis-b", 2), ("redis-c", 2)):
        blocked(shard, node, count)
    fail_over(shard)
    for wire in (*demoted, *repointed):
        wire.expect(UNBLOCKED)
    for wire in idle:
        wire.ask("PING").expect("+PONG ")
    through_link(shard, "redis-b").xadd("s", {"f": "2"}, id="2-1")
    entry = "*1 *2 $3 2-1 *2 $1 f $1 2 "
    promoted[0].expect(f"*1 *2 $1 s {entry}$3 old ")
    promoted[1].expect(f"%1 $1 s {entry}$3 old ")


def test_second_failover(shard: Simulator, connect: Connect) -> None:
    """Each role change tells the clients that are blocked then."""
    fail_over(shard)
    waiting = connect("redis-b").ask("BLPOP", "q", 0)
    reading = connect("redis-a").ask("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    blocked(shard, "redis-b", 1)
    blocked(shard, "redis-a", 1)
    until(lambda: shard.control_plane.state == "available")
    fail_over(shard, "c")
    waiting.expect(UNBLOCKED)
    # Redis says the second if the former primary gave up its slots before the new one took them.
    reading.find(r"-(UNBLOCKED|CLUSTERDOWN) ")


def test_sharded_subscribers(shard: Simulator, connect: Connect) -> None:
    """They are told that their slots went to another node, slot by slot; then they are free.

    Since Redis 7.2 the node that takes the slots over tells its own subscribers, too.
    """
    facts = info(shard, "redis-a")
    is_old = facts["redis_version"].startswith("7.0.")
    clients = {}
    for node in NODES:
        for resp in BOTH:
            wire = clients[node, resp] = connect(node, resp)
            for count, channel in enumerate(("zz", "ch", "aa"), 1):
                wire.ask("SSUBSCRIBE", channel).expect(wire.push("ssubscribe", channel, count))
            answer = "$3 old "
            if resp == 2:
                answer = (
                    "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
                    "QUIT / RESET are allowed in this context "
                )
            wire.ask("GET", "k").expect(answer)
    fail_over(shard)
    told = [key for key in clients if key[0] != "redis-b" or not is_old]
    for key in told:
        wire = clients[key]
        ended = (("aa", 2), ("ch", 1), ("zz", 0))
        wire.expect("".join(wire.push("sunsubscribe", *one) for one in ended))
        wire.ask("GET", "k").expect("$3 old ")
        wire.ask("SSUBSCRIBE", "ch").expect(wire.push("ssubscribe", "ch", 1))
    until(lambda: shard.control_plane.state == "available")
    assert through_link(shard, "redis-b").execute_command("SPUBLISH", "ch", "m") == 2
    for wire in clients.values():
        wire.expect(wire.push("smessage", "ch", "m"))


def test_sharded_subscriber_that_is_blocked(shard: Simulator, connect: Connect) -> None:
    """In RESP3 it hears of the slots first."""
    waiting = connect("redis-a", 3)
    reading = connect("redis-c", 3)
    for wire, words in (
        (waiting, ("BLPOP", "q", 0)),
        (reading, ("XREAD", "BLOCK", 0, "STREAMS", "s", "$")),
    ):
        wire.ask("SSUBSCRIBE", "ch").expect(wire.push("ssubscribe", "ch", 1))
        wire.ask(*words)
        blocked(shard, wire.node, 1)
    fail_over(shard)
    for wire in (waiting, reading):
        wire.expect(wire.push("sunsubscribe", "ch", 0) + UNBLOCKED)


def test_subscribers(shard: Simulator, connect: Connect) -> None:
    """Channels and patterns belong to the cluster: their subscribers stay, and are told nothing."""
    clients = [connect(node, resp) for node in NODES for resp in BOTH]
    for wire in clients:
        wire.ask("SUBSCRIBE", "news").expect(wire.push("subscribe", "news", 1))
        wire.ask("PSUBSCRIBE", "n*").expect(wire.push("psubscribe", "n*", 2))
    fail_over(shard)
    through_link(shard, "redis-b").publish("news", "m")
    for wire in clients:
        message = wire.push("message", "news", "m")
        wire.expect(message + wire.push("pmessage", "n*", "news", "m"))


def test_monitors(shard: Simulator, connect: Connect) -> None:
    """A monitor stays, and sees the writes that its node gets from the new primary."""
    clients = [connect(node).ask("MONITOR") for node in NODES]
    for wire in clients:
        wire.find(r"\+OK ")
    fail_over(shard)
    write(shard)
    for wire in clients:
        wire.find(r'\+\d+\.\d{6} \[0 \S+\] "SET" "k" "new" ')


def test_caching_clients(shard: Simulator, connect: Connect) -> None:
    """What a client has read is invalidated by writes of the new primary, and by nothing else."""
    clients = {}
    for node in NODES:
        for options in ((), ("BCAST", "PREFIX", "k"), ("OPTIN",), ("NOLOOP",)):
            wire = clients[node, options] = connect(node, 3)
            wire.ask("CLIENT", "TRACKING", "ON", *options).expect("+OK ")
            if options == ("OPTIN",):
                wire.ask("CLIENT", "CACHING", "YES").expect("+OK ")
            wire.ask("GET", "k").expect("$3 old ")
        listener, reader = connect(node), connect(node)
        number = int(listener.ask("CLIENT", "ID").find(r":\d+ ")[1:])
        channel = "__redis__:invalidate"
        listener.ask("SUBSCRIBE", channel).expect(listener.push("subscribe", channel, 1))
        reader.ask("CLIENT", "TRACKING", "ON", "REDIRECT", number).expect("+OK ")
        reader.ask("GET", "k").expect("$3 old ")
        clients[node, ("REDIRECT",)] = listener
    fail_over(shard)
    write(shard)
    for (_, options), wire in clients.items():
        if options == ("REDIRECT",):
            wire.expect("*3 $7 message $20 __redis__:invalidate *1 $1 k ")
        else:
            wire.expect(">2 $10 invalidate *1 $1 k ")
            wire.ask("GET", "k").expect("$3 new ")
    write(shard, "newer")
    for (_, options), wire in clients.items():
        if options in ((), ("NOLOOP",), ("BCAST", "PREFIX", "k")):
            wire.expect(">2 $10 invalidate *1 $1 k ")
        else:
            wire.ask("PING").expect("+PONG " if wire.resp == 3 else "*2 $4 pong $0  ")


def test_watched_keys(shard: Simulator, connect: Connect) -> None:
    """WATCH outlives the role change, and the new primary's writes make EXEC fail."""
    for is_written in (False, True):
        clients = []
        for node in NODES:
            for resp in BOTH:
                for has_begun in (False, True):
                    wire = connect(node, resp)
                    wire.ask("WATCH", "k").expect("+OK ")
                    if has_begun:
                        wire.ask("MULTI").expect("+OK ")
                        wire.ask("GET", "k").expect("+QUEUED ")
                    clients.append((wire, has_begun))
        fail_over(shard, "c" if is_written else "b")
        if is_written:
            write(shard)
        for wire, has_begun in clients:
            if not has_begun:
                wire.ask("MULTI").expect("+OK ")
                wire.ask("GET", "k").expect("+QUEUED ")
            wire.ask("EXEC").expect(NONE[wire.resp] if is_written else "*1 $3 old ")
        until(lambda: shard.control_plane.state == "available")


def test_transactions(shard: Simulator, connect: Connect) -> None:
    """A transaction runs, or is redirected, by the node's role when it ends."""
    queued, aborted = "+QUEUED ", "-EXECABORT Transaction discarded because of previous errors. "
    to_old = MOVED.replace("redis-b", "redis-a")
    pending = []
    for readonly, words, first, last in (
        (True, ("GET", "k"), (queued, queued, queued), ("*1 $3 old ",) * 3),
        (False, ("GET", "k"), (queued, to_old, to_old), (MOVED, aborted, aborted)),
        (True, ("SET", "k", "x"), (queued, to_old, to_old), (MOVED, aborted, aborted)),
        (True, ("PING",), (queued, queued, queued), ("*1 +PONG ",) * 3),
    ):
        for node, answer, end in zip(NODES, first, last, strict=True):
            wire = connect(node, readonly=readonly)
            wire.ask("MULTI").expect("+OK ")
            wire.ask(*words).expect(answer)
            pending.append((wire, end))
    begun = {node: connect(node) for node in NODES}
    for wire in begun.values():
        wire.ask("MULTI").expect("+OK ")
    fail_over(shard)
    for wire, end in pending:
        wire.ask("EXEC").expect(end)
        wire.ask("PING").expect("+PONG ")
    for node, wire in begun.items():
        wire.ask("SET", "k", "y").expect(MOVED if node in FOLLOWERS else queued)
        wire.ask("EXEC").expect(aborted if node in FOLLOWERS else "*1 +OK ")


def test_redirections(shard: Simulator, connect: Connect) -> None:
    """Clients that have been connected all the time are redirected as new ones are."""
    before = [connect(node, readonly=readonly) for node in NODES for readonly in (True, False)]
    fail_over(shard)
    after = [connect(node, readonly=readonly) for node in NODES for readonly in (True, False)]
    script = "return redis.call('get', KEYS[1])"
    for number, wire in enumerate(before + after):
        follows, reads = wire.node in FOLLOWERS, number % 2 == 0
        read = MOVED if follows and not reads else "$3 old "
        written = MOVED if follows else "$3 old "
        wire.ask("GET", "k").expect(read)
        wire.ask("EVAL_RO", script, 1, "k").expect(read)
        wire.ask("EVAL", script, 1, "k").expect(read)
        wire.ask("SET", "k", "old", "GET").expect(written)
        wire.ask("BLPOP", "{k}list", "0.01").expect(MOVED if follows else "*-1 ")
        wire.ask("SPUBLISH", "{k}", "m").expect(":0 ")
        wire.ask("WAIT", 2, 5000)
        wire.find("^-ERR WAIT cannot be used with replica instances. .* " if follows else "^:2 $")
        wire.ask("READWRITE").expect("+OK ")
        wire.ask("GET", "k").expect(written)


def test_writes_that_are_lost(shard: Simulator, connect: Connect) -> None:
    """A node whose data is replaced tells caching clients that all keys have changed."""
    cached = connect("redis-a", 3)
    cached.ask("CLIENT", "TRACKING", "ON").expect("+OK ")
    cached.ask("GET", "k").expect("$3 old ")
    all_keys = connect("redis-a", 3)
    all_keys.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "k").expect("+OK ")
    subscriber, sharded = connect("redis-a"), connect("redis-a")
    subscriber.ask("SUBSCRIBE", "news").expect(subscriber.push("subscribe", "news", 1))
    sharded.ask("SSUBSCRIBE", "ch").expect(sharded.push("ssubscribe", "ch", 1))
    watching = {key: connect("redis-a") for key in ("k", "none")}
    for key, wire in watching.items():
        wire.ask("WATCH", key).expect("+OK ")
    writer, waiting = connect("redis-a"), connect("redis-a").ask("BLPOP", "q", 0)
    blocked(shard, "redis-a", 1)
    with shard.faults.partition("a", "b"), shard.faults.partition("a", "c"):
        for number in range(50):
            writer.ask("SET", "lost", number).expect("+OK ")
        shard.redis.wait_for_failover()
        # Nobody has told it yet.
        for wire in (*watching.values(), cached, all_keys):
            wire.ask("PING").expect("+PONG ")
    until(lambda: is_in_sync(shard, "redis-a"))
    waiting.expect(UNBLOCKED)
    sharded.expect(sharded.push("sunsubscribe", "ch", 0))
    cached.expect(">2 $10 invalidate _ ")
    all_keys.expect(">2 $10 invalidate _ ")
    for key, wire in watching.items():
        wire.ask("MULTI").expect("+OK ")
        wire.ask("GET", "lost").expect("+QUEUED ")
        wire.ask("EXEC").expect("*-1 " if key == "k" else "*1 $-1 ")
    write(shard)
    all_keys.expect(">2 $10 invalidate *1 $1 k ")
    cached.ask("GET", "k").expect("$3 new ")
    subscriber.ask("PING").expect("*2 $4 pong $0  ")


def test_dead_primary(shard: Simulator, connect: Connect) -> None:
    """Its clients lose their connections. The others' are told as in an orderly failover."""
    lost = [connect("redis-a"), connect("redis-a").ask("BLPOP", "q", 0)]
    reading = {node: connect(node).ask("XREAD", "BLOCK", 0, "STREAMS", "s", "$") for node in NODES}
    sharded = {node: connect(node) for node in NODES}
    for wire in sharded.values():
        wire.ask("SSUBSCRIBE", "ch").expect(wire.push("ssubscribe", "ch", 1))
    for node in NODES:
        blocked(shard, node, 2 if node == "redis-a" else 1)
    shard.redis.primary.kill()
    for wire in (*lost, reading["redis-a"], sharded["redis-a"]):
        wire.expect(CLOSED)
    first, second = shard.redis.wait_for_failover().name, "redis-b"
    second = "redis-c" if first == "redis-b" else "redis-b"
    reading[second].expect(UNBLOCKED)
    sharded[second].expect(sharded[second].push("sunsubscribe", "ch", 0))
    through_link(shard, first).xadd("s", {"f": "2"}, id="2-1")
    reading[first].expect("*1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $1 2 ")


def test_replica_that_is_cut_off(shard: Simulator, connect: Connect) -> None:
    """Its clients are told nothing until it is back, as its role stays."""
    reading = connect("redis-c").ask("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    cached, sharded = connect("redis-c", 3), connect("redis-c", 3)
    cached.ask("CLIENT", "TRACKING", "ON").expect("+OK ")
    cached.ask("GET", "k").expect("$3 old ")
    sharded.ask("SSUBSCRIBE", "ch").expect(sharded.push("ssubscribe", "ch", 1))
    blocked(shard, "redis-c", 1)
    with shard.faults.partition("c", "a"), shard.faults.partition("c", "b"):
        client = through_link(shard, "redis-a")
        client.set("k", "new")
        client.xadd("s", {"f": "2"}, id="2-1")
        until(lambda: is_in_sync(shard, "redis-b"))
        cached.ask("PING").expect("+PONG ")
    reading.expect("*1 *2 $1 s *1 *2 $3 2-1 *2 $1 f $1 2 ")
    cached.expect(">2 $10 invalidate *1 $1 k ")
    until(lambda: is_in_sync(shard, "redis-c"))
    assert client.execute_command("SPUBLISH", "ch", "m") == 0
    sharded.expect(sharded.push("smessage", "ch", "m"))
