"""Each fault by its effect on a real client."""

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable

import pytest
import redis.exceptions
from pymemcache.client.hash import HashClient
from redis.cluster import RedisCluster

from cachesim import Fault, Simulator
from cachesim.clock import Deadline
from cachesim.errors import FaultError
from cachesim.faults.catalogue import Latency, Refuse
from cachesim.toxiproxy.toxics import MS_MAX
from tests.contract.helpers import first_write, is_in_sync, raw_tls, through_link, until


def seconds_of(call: object) -> float:
    """How long a call takes."""
    began = time.monotonic()
    call()  # type: ignore[operator]
    return time.monotonic() - began


def is_closed(established: ssl.SSLSocket) -> bool:
    """Whether the other end has closed, or closes when something is sent."""
    try:
        established.sendall(b"*1\r\n$4\r\nPING\r\n")
        return established.recv(100) == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.core
def test_latency(sim: Simulator) -> None:
    """A latency is added to the round trip once, and is gone when healed."""
    client = through_link(sim, "redis-a", single_connection_client=True)
    other = through_link(sim, "redis-b", single_connection_client=True)
    other.ping()
    client.ping()
    with sim.faults.latency("client-to-redis-a", 100):
        # Once, not twice; a noisy machine may add something.
        assert 0.1 <= min(seconds_of(client.ping) for _ in range(3)) < 0.2
        assert min(seconds_of(other.ping) for _ in range(3)) < 0.1
    assert min(seconds_of(client.ping) for _ in range(3)) < 0.1


def test_latencies_add_up(sim: Simulator) -> None:
    """Two latencies on a link add up, and healing one leaves the other."""
    client = through_link(sim, "redis-a", single_connection_client=True)
    client.ping()
    link = sim.links["client", "redis-a"]
    first, second = link.latency_toxic(60), link.latency_toxic(100)
    assert min(seconds_of(client.ping) for _ in range(3)) >= 0.16
    first.heal()
    assert 0.1 <= min(seconds_of(client.ping) for _ in range(3)) < 0.16
    second.heal()
    assert min(seconds_of(client.ping) for _ in range(3)) < 0.06


def test_bandwidth(sim: Simulator) -> None:
    """A limit of bandwidth stretches a transfer."""
    client = through_link(sim, "redis-a", single_connection_client=True, socket_timeout=10)
    client.set("big", "x" * 200_000)
    with sim.faults.bandwidth("client-to-redis-a", 400):
        assert 0.4 < seconds_of(lambda: client.get("big")) < 2
    assert seconds_of(lambda: client.get("big")) < 0.4


@pytest.mark.core
def test_blackhole(sim: Simulator) -> None:
    """Connections hang, old and new; on heal the same socket goes on with what it had sent."""
    established = raw_tls(sim, sim.nodes["redis-a"].endpoint)
    established.settimeout(0.3)
    with sim.faults.blackhole("client-to-redis-a"):
        established.sendall(b"*1\r\n$4\r\nPING\r\n")
        with pytest.raises(TimeoutError):
            established.recv(100)
        with pytest.raises(redis.exceptions.TimeoutError):
            through_link(sim, "redis-a").ping()
    established.settimeout(2)
    assert established.recv(100).startswith(b"-NOAUTH")
    established.close()


@pytest.mark.core
def test_refuse(sim: Simulator) -> None:
    """Established connections are closed, and new ones get nowhere."""
    established = raw_tls(sim, sim.nodes["redis-a"].endpoint)
    established.settimeout(2)
    with sim.faults.refuse("client-to-redis-a"):
        assert is_closed(established)
        with pytest.raises(redis.exceptions.ConnectionError):
            through_link(sim, "redis-a").ping()
    assert through_link(sim, "redis-a").ping()
    established.close()


def test_reset(sim: Simulator) -> None:
    """A connection ends when the client next sends."""
    client = through_link(sim, "redis-a", single_connection_client=True)
    client.ping()
    with sim.faults.reset("client-to-redis-a"), pytest.raises(redis.exceptions.ConnectionError):
        client.ping()
    assert through_link(sim, "redis-a").ping()


@pytest.mark.core
def test_kill_refuses(sim: Simulator) -> None:
    """A killed node's connections end at once, and new ones get nowhere at once."""
    client = through_link(sim, "redis-b", single_connection_client=True)
    client.ping()
    with sim.nodes["redis-b"].kill():
        for attempt in (client, through_link(sim, "redis-b")):
            with pytest.raises(redis.exceptions.ConnectionError):
                attempt.ping()
        assert sim.nodes["redis-b"].state == "stopped"
    until(lambda: is_in_sync(sim, "redis-b"))


def test_stop_and_restart(sim: Simulator, redis: RedisCluster) -> None:
    """An orderly stop loses nothing; `restart` brings the node back whoever stopped it."""
    redis.set("k", "v")
    sim.nodes["redis-c"].stop()
    assert sim.nodes["redis-c"].state == "stopped"
    sim.nodes["redis-c"].restart()
    until(lambda: is_in_sync(sim, "redis-c"))
    assert through_link(sim, "redis-c").info()["loading"] == 0


@pytest.mark.core
def test_pause_hangs(sim: Simulator) -> None:
    """A paused node's connections hang, old and new; resumed, the same socket goes on."""
    established = raw_tls(sim, sim.nodes["redis-b"].endpoint)
    established.settimeout(0.3)
    fault = sim.nodes["redis-b"].pause()
    established.sendall(b"*1\r\n$4\r\nPING\r\n")
    with pytest.raises(TimeoutError):
        established.recv(100)
    with pytest.raises(redis.exceptions.TimeoutError):
        through_link(sim, "redis-b").ping()
    fault.heal()
    established.settimeout(2)
    assert established.recv(100).startswith(b"-NOAUTH")
    established.close()


@pytest.mark.core
def test_az_power_hangs_and_loses(sim: Simulator, redis: RedisCluster) -> None:
    """A dark zone refuses nothing and closes nothing; its unsynced writes are lost."""
    redis.set("old", 1)
    until(lambda: all(is_in_sync(sim, node.name) for node in sim.redis.replicas))
    began = time.monotonic()
    established = raw_tls(sim, sim.nodes["redis-a"].endpoint)
    established.settimeout(0.3)
    written: list[float] = []
    while time.monotonic() < began + 3.5:  # old is synced for sure, the newest is not
        redis.set(f"p:{len(written)}", 1)
        written.append(time.monotonic())
    faults = [sim.faults.az_power(zone) for zone in "abc"]
    established.sendall(b"*1\r\n$4\r\nPING\r\n")
    with pytest.raises(TimeoutError):
        established.recv(100)
    with pytest.raises(redis_timeouts):
        through_link(sim, "redis-a").ping()
    for fault in faults:
        fault.heal()
    first_write(redis)
    kept = [bool(redis.exists(f"p:{number}")) for number in range(len(written))]
    assert redis.get("old") == "1"
    lost = [at for at, there in zip(written, kept, strict=True) if not there]
    assert lost
    assert written[-1] - lost[0] <= 1.0  # everysec
    established.close()


redis_timeouts = redis.exceptions.TimeoutError


@pytest.mark.parametrize("jitter", [0, MS_MAX // 2])
def test_longest_latency(sim: Simulator, jitter: int) -> None:
    """The longest latency that is taken lets nothing through, not even by its jitter."""
    client = through_link(sim, "redis-a", socket_timeout=0.3)
    with sim.faults.latency("client-to-redis-a", MS_MAX - jitter, jitter):
        for _ in range(2):
            with pytest.raises(redis_timeouts):
                client.ping()
    assert client.ping()
    client.close()


def test_faults_that_can_not_be_applied(sim: Simulator) -> None:
    """What makes no sense raises, and says what there is."""
    with pytest.raises(ValueError, match=r"no zone 'd'.*a, b, c"):
        sim.faults.isolate("d")
    with pytest.raises(ValueError, match="no node 'redis-d'"):
        sim.faults.kill("redis-d")
    with pytest.raises(KeyError, match="no link 'client-to-redis-d'"):
        sim.faults.latency("client-to-redis-d", 10)
    with pytest.raises(ValueError, match="must not be negative"):
        sim.faults.latency("client-to-redis-a", -1)
    with sim.nodes["redis-b"].kill(), pytest.raises(FaultError, match="not running"):
        sim.nodes["redis-b"].pause()
    assert sim.faults.active == []


def random_fault(sim: Simulator, draws: random.Random) -> Fault:
    """Any fault anywhere."""
    a, b = draws.sample("abc", 2)
    node = draws.choice(list(sim.nodes))
    link = draws.choice(list(sim.links.values())).link
    faults = sim.faults
    choices: list[Callable[[], Fault]] = [
        lambda: faults.latency(link, draws.randrange(1, 100), 0),
        lambda: faults.bandwidth(link, draws.randrange(1, 500)),
        lambda: faults.blackhole(link),
        lambda: faults.refuse(link),
        lambda: faults.reset(link),
        lambda: faults.partition(a, b, one_way=draws.random() < 0.5),
        lambda: faults.isolate(a),
        lambda: faults.replication_lag(draws.random()),
        lambda: faults.kill(node),
        lambda: faults.stop(node),
        lambda: faults.pause(node),
        lambda: faults.az_power(a),
    ]
    return draws.choice(choices)()


@pytest.mark.parametrize("seed", range(10))
def test_random_faults(sim: Simulator, seed: int) -> None:
    """Twenty random faults and heals in a row, under load, a paused node among them: healthy."""
    draws = random.Random(seed)
    done = threading.Event()

    def load() -> None:
        sockets: list[ssl.SSLSocket] = []
        payload = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000\r\n" + b"x" * 10_000 + b"\r\n"
        while not done.is_set():
            try:
                sock = raw_tls(sim, sim.nodes["redis-a"].endpoint)
                sockets.append(sock)
                while not done.is_set():
                    # Without waiting for answers: towards a paused node, it piles up.
                    sock.settimeout(0.2)
                    sock.sendall(payload * 20)
                    sock.settimeout(0.001)
                    with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                        sock.recv(2**20)
            except OSError:
                done.wait(0.05)
        for sock in sockets:
            sock.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        active: list[Fault] = [sim.nodes["redis-a"].pause()]
        for _ in range(20):
            if active and draws.random() < 0.4:
                active.pop(draws.randrange(len(active))).heal()
            try:
                active.append(random_fault(sim, draws))
            except FaultError as error:
                assert "not running" in str(error)  # noqa: PT017
    finally:
        done.set()
        thread.join()
    deadline = Deadline(20)
    sim.reset()
    assert not deadline.expired
    client = sim.redis_cluster()
    client.set("k", seed)
    assert client.get("k") == str(seed)
    assert sim.redis.primary.name == "redis-a"
    client.close()


@pytest.mark.core
def test_loss(sim: Simulator) -> None:
    """A share of the round trips comes late, also beside a latency, and none once it is healed."""
    client = through_link(sim, "redis-a", single_connection_client=True, socket_timeout=5)
    client.ping()
    link = sim.links["client", "redis-a"]
    with sim.faults.loss(link.name, 0.2, ms=100):  # of each direction: 36 % of the round trips
        for added in (0.0, 0.05):
            with contextlib.ExitStack() as faults:
                if added:
                    faults.enter_context(link.latency_toxic(round(added * 1000)))
                took = sorted(seconds_of(client.ping) for _ in range(60))
                assert took[0] >= added
                assert took[20] < added + 0.05  # most are not late, and have the latency alone
                assert sum(it > added + 0.05 for it in took) >= 5
    assert sorted(seconds_of(client.ping) for _ in range(20))[15] < 0.05
    client.close()


@pytest.mark.core
def test_memory_fill_of_redis(sim: Simulator, redis: RedisCluster) -> None:
    """Without eviction a full Redis refuses what needs memory, and serves the rest."""
    for number in range(50):
        redis.set(f"k:{number}", "x" * 2000)
    with sim.faults.memory_fill("redis-a"):
        with pytest.raises(redis_oom):
            fill_up(redis)
        assert redis.get("k:1") == "x" * 2000
    redis.set("again", "x" * 2000)


redis_oom = redis.exceptions.OutOfMemoryError


def fill_up(client: RedisCluster) -> None:
    """Write what needs memory."""
    for number in range(300):
        client.set(f"more:{number}", "x" * 2000)


@pytest.mark.core
def test_memory_fill_of_memcached(sim: Simulator, memcached: HashClient) -> None:
    """A full Memcached evicts what was not asked for lately, and takes what is new."""
    for number in range(300):
        memcached.set(f"k:{number}", b"x" * 2000, noreply=False)
    faults = sim.faults.memory_fill("memcached-a", "memcached-b", "memcached-c")
    for number in range(300):
        assert memcached.set(f"new:{number}", b"x" * 2000, noreply=False)
    evicted = sum(memcached.get(f"k:{number}") is None for number in range(300))
    assert evicted > 100
    faults.heal()
    for number in range(300):
        memcached.set(f"k:{number}", b"x" * 2000, noreply=False)
    assert all(memcached.get(f"k:{number}") for number in range(300))


@pytest.mark.core
def test_connection_limit(sim: Simulator) -> None:
    """A connection beyond the limit is refused, those that are open stay; healed, all are taken."""

    def connect() -> redis.Redis:
        return through_link(sim, "redis-b", single_connection_client=True)

    with contextlib.ExitStack() as clients:
        first = clients.enter_context(connect())
        with sim.faults.connection_limit("redis-b", most=3):
            for _ in range(2):
                clients.enter_context(connect())
            with pytest.raises(redis.exceptions.ConnectionError):
                connect()
            assert first.ping()
        clients.enter_context(connect()).ping()


@pytest.mark.core
def test_a_fault_that_flaps(sim: Simulator) -> None:
    """A fault that comes and goes lets a client through in between, and for good once healed."""
    client = through_link(sim, "redis-b", socket_timeout=1)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    with sim.faults.apply(Refuse(("client-to-redis-b",)), flap=(1.0, 1.0)):
        for _ in range(2):
            until(lambda: not answers())
            until(answers)
    until(answers)
    assert all(answers() for _ in range(10))
    client.close()


@pytest.mark.core
def test_a_fault_that_grows(sim: Simulator) -> None:
    """A latency that grows is small at first, then as large as it says, and gone once healed."""
    client = through_link(sim, "redis-b", single_connection_client=True, socket_timeout=5)
    client.ping()
    with sim.faults.apply(Latency(("client-to-redis-b",), 300), over=3):
        assert seconds_of(client.ping) < 0.2
        until(lambda: seconds_of(client.ping) >= 0.3)
    assert min(seconds_of(client.ping) for _ in range(3)) < 0.1
    client.close()
