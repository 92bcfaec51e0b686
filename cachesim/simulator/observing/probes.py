"""The small operations that an observation makes: of a client, or whatever a function does."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from cachesim.history.rows import Kind

TTL = 86_400
"""Seconds until a key of an observation expires."""


class NotStored(Exception):
    """Memcached did not take a value."""


class Probe(Protocol):
    """Makes operations. One that is asynchronous returns awaitables.

    Attributes:
        service: a name for what it talks to.
        kinds: the kinds of its operations, reads first.
        is_async: whether it belongs to an event loop.
        is_lasting: whether what it has written is to be there in the end.
        opens: whether its first operations open connections, and others may be made before.
        workers: how many operations of a kind may be under way, by default.
    """

    service: str
    kinds: tuple[Kind, ...]
    is_async: bool
    is_lasting: bool
    opens: bool
    workers: int

    def read(self, key: str) -> Any:
        """Read a key, and return the version there; None: there is none."""
        ...

    def write(self, key: str, version: int) -> Any:
        """Write a version to a key."""
        ...


class _ClientProbe:
    kinds: tuple[Kind, ...] = ("read", "write")
    opens = True
    workers = 5  # of each kind: together the 10 of a pod's pool

    def __init__(self, client: Any) -> None:
        self._client = client


class RedisProbe(_ClientProbe):
    """Reads and writes with a client of redis-py's kind."""

    service = "redis"
    is_async = False
    is_lasting = True

    def read(self, key: str) -> int | None:
        """See `Probe.read`."""
        return _version(self._client.get(key))

    def write(self, key: str, version: int) -> None:
        """See `Probe.write`."""
        self._client.set(key, str(version), ex=TTL)


class AsyncRedisProbe(_ClientProbe):
    """Reads and writes with a client of the kind of redis.asyncio's."""

    service = "redis"
    is_async = True
    is_lasting = True

    async def read(self, key: str) -> int | None:
        """See `Probe.read`."""
        return _version(await self._client.get(key))

    async def write(self, key: str, version: int) -> None:
        """See `Probe.write`."""
        await self._client.set(key, str(version), ex=TTL)


class MemcachedProbe(_ClientProbe):
    """Reads and writes with a client of pymemcache's. Writes wait for their answer."""

    service = "memcached"
    is_async = False
    is_lasting = False

    def read(self, key: str) -> int | None:
        """See `Probe.read`."""
        return _version(self._client.get(key))

    def write(self, key: str, version: int) -> None:
        """See `Probe.write`."""
        if not self._client.set(key, str(version), expire=TTL, noreply=False):
            raise NotStored


class CallProbe:
    """Calls a function. It counts as a read, as nothing tells what it does."""

    kinds: tuple[Kind, ...] = ("read",)
    is_lasting = False
    opens = False
    workers = 1  # it need not be thread-safe

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.service = getattr(function, "__name__", type(function).__name__)
        self.is_async = any(
            map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None)))  # noqa: B004
        )

    def read(self, key: str) -> Any:  # noqa: ARG002
        """Call the function. Its result does not matter, unless it is to be awaited."""
        result = self._function()
        if self.is_async:
            return _awaited(result)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the function returned a coroutine: observe an `async def` function")
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError("the function returned a generator, of which nothing has run")
        return None

    def write(self, key: str, version: int) -> Any:
        """Never called."""
        raise NotImplementedError


async def _awaited(result: Any) -> None:
    await result


def _version(value: Any) -> int | None:
    return None if value is None else int(value)


def probe_of(target: object) -> Probe:
    """Return what makes operations with a client, or calls a function.

    Raises:
        TypeError: it is neither.
        ValueError: it is a client of pymemcache's that several threads can't share.
    """
    modules = {f"{kind.__module__}." for kind in type(target).__mro__}
    if any(module.startswith("pymemcache.") for module in modules):
        shared: Any = target
        while "pymemcache.client.retrying.RetryingClient" in _names(shared):
            shared = shared._client  # it has every attribute that one asks for, as a function
        if "pymemcache.client.base.Client" in _names(shared) or not getattr(
            shared, "use_pooling", True
        ):
            raise ValueError("this client has no pool: make it with use_pooling=True")
        return MemcachedProbe(target)
    command = getattr(type(target), "execute_command", None)
    if command is not None:
        is_async = inspect.iscoroutinefunction(command)
        return AsyncRedisProbe(target) if is_async else RedisProbe(target)
    if callable(target):
        return CallProbe(target)
    raise TypeError(
        f"a client of Redis or Memcached, or a function without arguments, is observed, not "
        f"{target!r}"
    )


def _names(target: object) -> set[str]:
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(target).__mro__}
