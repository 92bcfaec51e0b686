"""Clients that outlive a test: whatever one test does, the next can use them at once."""

from collections.abc import Callable

import pytest

RunPytest = Callable[..., pytest.RunResult]

pytestmark = pytest.mark.usefixtures("on_backend")

SYNC = """
    from contextlib import closing

    import pytest

    @pytest.fixture(scope="session")
    def kept(cachesim_session):
        with closing(cachesim_session.redis_cluster()) as client:
            yield client

    def test_first(cachesim, kept):
        kept.set("k", "v")
        cachesim.redis.primary.kill()
        cachesim.redis.wait_for_failover()
        assert kept.get("k") == "v"

    def test_after_a_failover(cachesim, kept):
        assert kept.get("k") is None
        kept.set("k", "v")
        cachesim.faults.blackhole("client-to-redis-a")
        with pytest.raises(Exception, match="Timeout"):
            kept.get("k")

    def test_after_a_blackhole(cachesim, kept):
        assert kept.get("k") is None
        kept.set("k", "v")
        for node in (cachesim.redis.primary, *cachesim.redis.replicas):
            node.pause()

    def test_after_a_standstill(cachesim, kept, memcached):
        assert kept.get("k") is None
        assert memcached.set("k", "v", noreply=False)
        for node in cachesim.nodes.values():
            node.kill()

    def test_after_an_outage(cachesim, kept, memcached):
        kept.set("k", "v")
        assert kept.get("k") == "v"
        assert memcached.set("k", "v", noreply=False)
"""

ASYNC = """
    import asyncio
    import os

    import anyio
    import pytest
    import pytest_asyncio
    from redis.asyncio import RedisCluster

    def connect(env):
        return RedisCluster.from_url(
            env["CACHESIM_REDIS_URL"],
            ssl_ca_certs=env["CACHESIM_CA_FILE"],
            socket_timeout=0.5,
            decode_responses=True,
        )

    @pytest_asyncio.fixture(loop_scope="session", scope="session")
    async def kept(cachesim_env):
        async with connect(cachesim_env) as client:
            yield client

    @pytest.mark.asyncio(loop_scope="session")
    async def test_first(cachesim, kept):
        await kept.set("k", "v")
        cachesim.redis.primary.kill()
        await asyncio.to_thread(cachesim.redis.wait_for_failover)
        assert await kept.get("k") == "v"

    @pytest.mark.asyncio(loop_scope="session")
    async def test_after_a_failover(cachesim, kept):
        assert await kept.get("k") is None
        await kept.set("k", "v")
        with cachesim.faults.isolate("a"):
            cachesim.redis.wait_for_failover()
            assert await kept.get("k") == "v"
        for node in cachesim.nodes.values():
            node.kill()

    @pytest.mark.asyncio(loop_scope="session")
    async def test_after_an_outage(cachesim, kept):
        await kept.set("k", "v")
        assert await kept.get("k") == "v"

    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio"

    @pytest.fixture(scope="module")
    async def shared(anyio_backend, cachesim_env):
        async with connect(cachesim_env) as client:
            yield client

    @pytest.mark.anyio
    async def test_first_with_anyio(cachesim, shared):
        await shared.set("k", "v")
        cachesim.redis.primary.kill()
        await anyio.to_thread.run_sync(cachesim.redis.wait_for_failover)
        assert await shared.get("k") == "v"

    @pytest.mark.anyio
    async def test_after_a_failover_with_anyio(cachesim, shared):
        assert await shared.get("k") is None
        await shared.set("k", "v")
        assert await shared.get("k") == "v"
"""


def test_sync(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """A RedisCluster of the session goes on after any fault, and the fixtures' clients too."""
    pytester.makepyfile(SYNC)
    result = run_pytest("--cachesim", "--cachesim-speed=100", subprocess=True)
    result.assert_outcomes(passed=5)


def test_async(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """So does an asynchronous one, in tests of pytest-asyncio and of anyio."""
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function"
    )
    pytester.makepyfile(ASYNC)
    options = ["--cachesim", "--cachesim-speed=100"]
    result = run_pytest(*options, subprocess=True, with_asyncio=True)
    result.assert_outcomes(passed=5)
