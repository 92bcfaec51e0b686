"""Compares an emulated node with a real Memcached 1.6, if that is installed."""

import random
import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from cachesim.embedded.memcached.config import MEGABYTE
from tests.embedded.memcached import binary
from tests.embedded.memcached.differential import Ours, Pair, Real, drawn

STEPS, RUNS = 60, 12
"""Requests in a run, and runs, for each protocol. `tests.embedded.memcached.differential` and
`binary` do more."""


@pytest.fixture(scope="module", autouse=True)
def _memcached(require_server: Callable[[str, str], str]) -> None:
    """Skip without a real Memcached."""
    require_server("memcached", "1.6.18")


@pytest.mark.parametrize("protocol", ["text", "meta", "binary"])
def test_no_reply_differs(protocol: str) -> None:
    """Any requests in any order get the same replies, errors included."""

    class Machine(RuleBasedStateMachine):
        pair: Pair | binary.Pair

        @initialize()
        def begin(self) -> None:
            self.pair = binary.Pair() if protocol == "binary" else Pair()

        @rule(seed=st.integers(0, 2**32))
        def ask(self, seed: int) -> None:
            r = random.Random(seed)
            if isinstance(self.pair, Pair):
                assert self.pair.differ(drawn(r, protocol)) is None
            else:
                assert self.pair.differ(r) is None

        def teardown(self) -> None:
            if hasattr(self, "pair"):
                self.pair.close()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _names(reply: bytes) -> list[bytes]:
    return [line.split()[1] for line in reply.splitlines() if line.startswith(b"STAT")]


@pytest.mark.parametrize("kind", [b"", b" settings", b" items", b" slabs", b" sizes"])
def test_stats_have_the_same_names(kind: bytes) -> None:
    """Statistics have the names of 1.6 with its defaults, in the same order."""
    real, ours = Real(), Ours()
    try:
        for server in (real, ours):
            server.ask(b"set a 0 0 1\r\nx\r\n", b"STORED\r\n")
        request = b"stats%b\r\n" % kind
        expected, reply = (server.ask(request, b"END\r\n") for server in (real, ours))
        assert _names(reply) == _names(expected)
        if kind == b" settings":
            differ = set(reply.splitlines()) ^ set(expected.splitlines())
            assert {line.split()[1] for line in differ} <= {
                b"tcpport", b"domain_socket", b"binding_protocol",
            }  # fmt: skip
    finally:
        real.close()
        ours.close()


@pytest.mark.parametrize("size", [100, 2048, 50 * 1024, 400_000, 600_000, 1_000_000])
def test_evictions_begin_at_the_same_item(size: int) -> None:
    """Slab classes, pages and chunks are counted as in 1.6."""
    real, ours = Real("-m", "8"), Ours(8 * MEGABYTE)
    value = bytes(size)
    batch = max(1, 4000 // size)
    try:
        for number in range(100_000):
            sets = b"".join(
                b"set key:%08d 0 0 %d noreply\r\n%b\r\n" % (number * batch + at, size, value)
                for at in range(batch)
            )
            replies = [server.ask(sets + b"stats\r\n", b"END\r\n") for server in (real, ours)]
            expected, reply = (
                re.findall(rb" (evictions|curr_items|bytes) (\d+)", reply) for reply in replies
            )
            assert reply == expected
            if (b"evictions", b"0") not in reply:
                break
        request = b"stats slabs\r\n"
        assert real.ask(request, b"END\r\n") == ours.ask(request, b"END\r\n")
    finally:
        real.close()
        ours.close()
