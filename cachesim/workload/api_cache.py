"""The API cache of a pod: reads through Memcached, with an origin behind it.

All pods read the same keys. The k-th key is read in proportion to 1/k, as popular things are. A
miss, or a node that fails, loads from the origin; after a miss the answer is stored with its
endpoint's TTL. Storing waits for Memcached's reply, unlike the client's default: without a reply
nothing tells that anything was stored.
"""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cachesim.history.rows import ORIGIN, Outcome
from cachesim.workload import values
from cachesim.workload.calls import Call
from cachesim.workload.origin import Origin, OriginOverloaded
from cachesim.workload.plan import POOL
from cachesim.workload.values import Version

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient

SERVICE = "api_cache"
_BATCH = 100


class NotStored(Exception):
    """The client returned False: it did not send the value, or the node did not store it."""


class ApiCache:
    """The API cache as one pod sees it.

    Args:
        client: configured as in production.
        origin: the pod's share of it.
        population: how many answers there are for all pods.
        draws: what the seed draws for this pod.
    """

    def __init__(
        self, client: "HashClient", origin: Origin, population: int, draws: random.Random
    ) -> None:
        self.client = client
        self.origin = origin
        self._population = population
        self._draws = draws

    def load(self, pod: int, pods: int) -> Iterator[list[Call]]:
        """Store a pod's share of all answers, and yield what was stored, a batch at a time.

        Each is stored with a part of its TTL, as if it had been there before.
        """
        numbers = range(pod, self._population, pods)
        with ThreadPoolExecutor(POOL) as threads:
            for first in range(0, len(numbers), _BATCH):
                calls = [self._first(number) for number in numbers[first : first + _BATCH]]
                list(threads.map(Store.send, calls))
                yield list(calls)

    def _first(self, number: int) -> "Store":
        key, ttl = values.answer_key(number)
        part = max(1, round(ttl * self._draws.random()))
        return Store(self, key, self.origin.version(), part)

    def read(self) -> Call:
        """Return a read of an answer."""
        number = int((self._population + 1) ** self._draws.random()) - 1
        key, ttl = values.answer_key(number)
        return Read(self, key, ttl)


class _CacheCall(Call):
    """An operation on an answer in the cache."""

    __slots__ = ("_cache",)
    service = SERVICE

    def __init__(
        self, cache: ApiCache, key: str, written: Version | None = None, ttl: int | None = None
    ) -> None:
        super().__init__(key, written, ttl)
        self._cache = cache

    def outcome_of(self, error: Exception) -> Outcome:
        """Return `fail` if nothing was sent or an error was the answer, else `info`.

        HashClient tries once. A pool without a free connection raises RuntimeError.
        """
        from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

        if isinstance(error, MemcacheUnexpectedCloseError):
            return "info"
        refused = (NotStored, ConnectionRefusedError, MemcacheError)
        return "fail" if isinstance(error, refused) or type(error) is RuntimeError else "info"


class Read(_CacheCall):
    """A read."""

    __slots__ = ("_ttl",)
    kind = "read"

    def __init__(self, cache: ApiCache, key: str, ttl: int) -> None:
        super().__init__(cache, key)
        self._ttl = ttl

    def send(self) -> Version | None:
        """Read the answer."""
        return values.version_of(self._cache.client.get(self.key))

    def after(self, outcome: Outcome, read: Version | None) -> Call | None:
        """Return a load from the origin, if nothing was found."""
        if outcome == "shed" or read is not None:
            return None
        return Load(self._cache, self.key, self._ttl, is_miss=outcome == "ok")


class Load(Call):
    """A load from the origin. Its version is what it read."""

    __slots__ = ("_cache", "_is_miss", "_ttl")
    service = ORIGIN
    kind = "read"

    def __init__(self, cache: ApiCache, key: str, ttl: int, *, is_miss: bool) -> None:
        super().__init__(key)
        self._cache = cache
        self._ttl = ttl
        self._is_miss = is_miss

    def send(self) -> Version | None:
        """Load the answer."""
        return self._cache.origin.load()

    def outcome_of(self, error: Exception) -> Outcome:
        """Return `fail` for a load that was refused."""
        return "fail" if isinstance(error, OriginOverloaded) else "info"

    def after(self, outcome: Outcome, read: Version | None) -> Call | None:  # noqa: ARG002
        """Return the storing of what was loaded, if its node answers."""
        if read is None or not self._is_miss:
            return None
        return Store(self._cache, self.key, read, self._ttl)


class Store(_CacheCall):
    """The storing of an answer."""

    __slots__ = ()
    kind = "write"

    def send(self) -> Version | None:
        """Store the answer, and wait for the reply."""
        if self.written is None:
            raise RuntimeError("there is nothing to store")
        value = values.answer(self.written)
        if not self._cache.client.set(self.key, value, expire=self.ttl, noreply=False):
            raise NotStored
        return None
