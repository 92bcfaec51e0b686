"""The fixture of a client for asyncio."""

from collections.abc import Callable

import pytest

from tests.plugin.fake_simulator import FakeSimulator

RunPytest = Callable[..., pytest.RunResult]
INI = "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function"

TESTS = """
    import asyncio
    import time

    import pytest
    from redis.exceptions import RedisError

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.asyncio
    async def test_asyncio(async_redis_cluster, cachesim):
        await use(async_redis_cluster, cachesim)

    @pytest.mark.anyio
    async def test_anyio(async_redis_cluster, cachesim):
        await use(async_redis_cluster, cachesim)

    class TestMethod:
        @pytest.mark.asyncio
        async def test_method(self, async_redis_cluster, cachesim):
            await use(async_redis_cluster, cachesim)

    async def use(redis, cachesim):
        await soon(redis.set, "k", "v")
        with cachesim.redis.primary.kill():
            await asyncio.to_thread(cachesim.redis.wait_for_failover)
        assert await soon(redis.get, "k") == "v"

    async def soon(call, *arguments):  # on a busy machine a timeout of the client may be over
        limit = time.monotonic() + 30
        while True:
            try:
                return await call(*arguments)
            except RedisError:
                if time.monotonic() > limit:
                    raise
"""


def test_client(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """It works in tests of pytest-asyncio and of anyio, through a failover, and is closed."""
    pytester.makeini(INI)
    pytester.makepyfile(TESTS)
    options = ["--cachesim", "--cachesim-speed=100", "--cachesim-backend=embedded"]
    result = run_pytest(*options, subprocess=True, with_asyncio=True)
    result.assert_outcomes(passed=3)


def test_is_closed_by_the_test(
    pytester: pytest.Pytester, fake: type[FakeSimulator], run_pytest: RunPytest
) -> None:
    """It is closed at the end of the body, also of one that fails, before the fixtures end."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_fails(async_redis_cluster, anyio_backend):
            assert 0
        """
    )
    run_pytest("--cachesim").assert_outcomes(failed=1)
    assert fake.calls[2:4] == ["reset test_is_closed_by_the_test.py::test_fails[asyncio]", CLOSE]


CLOSE = "close async redis"


@pytest.mark.usefixtures("fake")
def test_needs_a_coroutine(pytester: pytest.Pytester, run_pytest: RunPytest) -> None:
    """In another test it is an error that says what to do."""
    pytester.makepyfile("def test_it(async_redis_cluster): pass")
    result = run_pytest("--cachesim")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is for tests that are coroutines. Elsewhere: `async with *"])
