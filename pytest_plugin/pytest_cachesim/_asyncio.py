"""Clients of asyncio for tests that are coroutines, of pytest-asyncio or of anyio."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cachesim._scenario import fail

if TYPE_CHECKING:
    from redis.asyncio.cluster import RedisCluster


@contextmanager
def closed_by(item: pytest.Item, client: "RedisCluster") -> Iterator[None]:
    """Let a test close a client at its end: only there is the event loop of its connections.

    So it works with every plugin that runs coroutines.
    """
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
        fail(
            f"{item.nodeid}: async_redis_cluster is for tests that are coroutines. Elsewhere: "
            "`async with cachesim.async_redis_cluster() as client`"
        )
    body = item.obj
    item.obj = _closing(body, client)
    try:
        yield
    finally:
        item.obj = body


def _closing(
    body: Callable[..., Awaitable[Any]], client: "RedisCluster"
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(body)
    async def closing(*args: Any, **kwargs: Any) -> Any:
        try:
            return await body(*args, **kwargs)
        finally:
            await client.aclose()

    return closing
