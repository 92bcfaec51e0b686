"""The API cache of a pod, with a client that only remembers, and its origin."""

import random
from typing import Any, cast

import pytest
from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError

from cachesim.clock import ManualClock
from cachesim.history.rows import Outcome
from cachesim.workload.api_cache import ApiCache, Load, NotStored, Read, Store
from cachesim.workload.origin import Origin, OriginOverloaded
from cachesim.workload.plan import Origin as Numbers
from cachesim.workload.values import ENDPOINTS, version_of


class Remembering:
    """A HashClient without a server.

    Attributes:
        stores: what `set` returns.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttls: dict[str, int] = {}
        self.stores = True

    def get(self, key: str) -> bytes | None:
        """Return a value."""
        return self.values.get(key)

    def set(self, key: str, value: bytes, expire: int, noreply: bool) -> bool:
        """Keep a value."""
        assert not noreply
        if self.stores:
            self.values[key], self.ttls[key] = value, expire
        return self.stores


@pytest.fixture
def client() -> Remembering:
    """The client."""
    return Remembering()


@pytest.fixture
def clock() -> ManualClock:
    """The origin's clock."""
    return ManualClock(100.0)


@pytest.fixture
def cache(client: Remembering, clock: ManualClock) -> ApiCache:
    """A cache of a hundred answers, empty. Its share of the origin is 20 loads a second."""
    origin = Origin(Numbers(0.05, 200), 10, clock, clock.advance)
    return ApiCache(cast(Any, client), origin, 100, random.Random(7))


def follow(call: Any, outcome: Outcome = "ok") -> Any:
    """Do a call, and return what follows."""
    return call.after(outcome, call.send())


def test_reads_through(cache: ApiCache, clock: ManualClock) -> None:
    """A miss loads from the origin and stores; then the same read is a hit, and nothing follows."""
    read = cache.read()
    load = follow(read)
    assert isinstance(load, Load)
    store = follow(load)
    assert clock.monotonic() == pytest.approx(100.05)
    assert isinstance(store, Store)
    assert follow(store) is None
    assert read.send() == store.written == ("origin", 100_050_000)
    assert read.after("ok", read.send()) is None
    assert read.key == load.key == store.key


def test_ttl_by_endpoint(cache: ApiCache, client: Remembering) -> None:
    """Each answer has the TTL of its endpoint, about 5 KB, and a key as the architecture says."""
    for _ in range(300):
        load = cache.read().after("ok", None)
        assert load is not None
        call = Store(cache, load.key, cache.origin.version(), load._ttl)  # type: ignore[attr-defined]
        call.send()
    for key, ttl in client.ttls.items():
        prefix, endpoint, digest = key.split(":", 1)[0], *key.split(":", 1)[1].rsplit(":", 1)
        assert (prefix, ENDPOINTS[endpoint], len(digest)) == ("api", ttl, 8)
        assert 4_800 < len(client.values[key]) < 5_200
        assert version_of(client.values[key]) is not None


def test_loads_a_share(cache: ApiCache, client: Remembering) -> None:
    """Before the begin, each pod stores its share of all answers, with parts of their TTLs."""
    stored = [call.key for pod in range(4) for batch in cache.load(pod, 4) for call in batch]
    assert len(stored) == len(set(stored)) == len(client.values) == 100
    assert all(1 <= ttl <= 3600 for ttl in client.ttls.values())
    assert len(set(client.ttls.values())) > 50


def test_reads_popular_answers_most(cache: ApiCache) -> None:
    """Few answers get most reads, and all of them some."""
    keys = [cache.read().key for _ in range(20_000)]
    counts = sorted((keys.count(key) for key in set(keys)), reverse=True)
    assert len(counts) == 100
    assert sum(counts[:10]) > 0.45 * len(keys)


def test_a_failing_read_loads_without_storing(cache: ApiCache) -> None:
    """The user is served from the origin; the node that failed is left alone."""
    load = cache.read().after("info", None)
    assert isinstance(load, Load)
    assert follow(load) is None
    assert cache.read().after("shed", None) is None


def test_what_the_client_does_not_store_fails(cache: ApiCache, client: Remembering) -> None:
    """HashClient returns False for a node that it has given up."""
    client.stores = False
    store = follow(cache.read().after("ok", None))
    with pytest.raises(NotStored):
        store.send()
    assert store.outcome_of(NotStored()) == "fail"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(), "fail"),
        (MemcacheServerError("out of memory"), "fail"),
        (RuntimeError("Too many objects"), "fail"),
        (TimeoutError(), "info"),
        (ConnectionResetError(), "info"),
        (MemcacheUnexpectedCloseError(), "info"),
        (KeyError("server"), "info"),
    ],
)
def test_outcomes(cache: ApiCache, error: Exception, outcome: Outcome) -> None:
    """An error fails where nothing was applied for certain."""
    assert isinstance(read := cache.read(), Read)
    assert read.outcome_of(error) == outcome


def test_origin_refuses_beyond_its_capacity(cache: ApiCache, clock: ManualClock) -> None:
    """A pod may load up to a second's share at once, and then its rate."""
    origin = Origin(Numbers(0.0, 200), 10, clock, clock.advance)
    for _ in range(20):
        origin.load()
    with pytest.raises(OriginOverloaded):
        origin.load()
    clock.advance(0.06)
    origin.load()
    with pytest.raises(OriginOverloaded):
        origin.load()
    load = cache.read().after("ok", None)
    assert load is not None
    assert load.outcome_of(OriginOverloaded()) == "fail"


def test_origin_of_less_than_one_a_second(clock: ManualClock) -> None:
    """A share below one load a second allows one load at a time, not none."""
    origin = Origin(Numbers(0.0, 1), 10, clock, clock.advance)
    origin.load()
    clock.advance(5)
    with pytest.raises(OriginOverloaded):
        origin.load()
    clock.advance(6)
    origin.load()
