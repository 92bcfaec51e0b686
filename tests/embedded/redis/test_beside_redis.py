"""An embedded node beside a real Redis 7.0, where there is one."""

import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from cachesim.clock import Deadline
from tests.embedded.redis.differential import Pair, Real, drawn

STEPS, RUNS = 40, 8
"""Requests in a run, and runs, for each protocol. `tests.embedded.redis.differential` does more."""


@pytest.fixture(scope="module")
def real(
    require_server: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a real Redis 7.0."""
    binary = require_server("redis-server", "v=7.0.")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    options = {"port": port, "cluster-enabled": "yes", "save": "", "dir": folder, "hz": 100}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
    try:
        deadline = Deadline(10)
        while True:
            try:
                client = Real(port)
                break
            except ConnectionRefusedError:
                assert not deadline.expired
        client(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
        while b"cluster_state:ok" not in client(b"CLUSTER", b"INFO"):
            assert not deadline.expired
        client.close()
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("resp", [2, 3])
def test_no_reply_differs(real: int, resp: int) -> None:
    """Any requests in any order have the same replies, errors included."""

    class Machine(RuleBasedStateMachine):
        pair: Pair

        @initialize()
        def begin(self) -> None:
            self.pair = Pair(real, resp)

        @rule(seed=st.integers(0, 2**32))
        def ask(self, seed: int) -> None:
            words = drawn(random.Random(seed))
            assert self.pair.differ(words) is None, words

        def teardown(self) -> None:
            self.pair.real.close()
            self.pair.ours.close()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
