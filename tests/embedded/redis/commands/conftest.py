"""Requests that a real Redis and an embedded node must answer alike."""

import shlex
from collections.abc import Callable, Iterator

import pytest

from tests.embedded.redis.differential import Pair


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def pair(real: int, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A real Redis 7.0 and an embedded node, both empty."""
    with Pair(real, request.param, has_library=False) as both:
        yield both


@pytest.fixture
def agree(pair: Pair) -> Callable[..., None]:
    """Send requests, written as in a shell, to both. Assert that the replies are the same."""

    def send(*requests: str) -> None:
        for request in requests:
            words = tuple(word.encode("latin-1") for word in shlex.split(request))
            assert pair.differ(words) is None, request

    return send
