"""An embedded node against a real Redis 7.0, where one is installed."""

import random
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.embedded.redis.differential import Pair
from tests.embedded.redis.grammar import drawn
from tests.embedded.redis.sequences import play, script

EVENTS = Path(__file__).with_name("events.txt").read_text().splitlines()
STEPS, RUNS = 40, 8
"""Requests in a run, and runs, for each protocol. `tests.embedded.redis.differential` does more."""
EPISODES = 6
"""Sequences of several clients. `tests.embedded.redis.sequences` does more."""


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


def test_the_same_events(real: int) -> None:
    """Every command makes the same keyspace notifications, in the same order."""
    with Pair(real, 2) as pair:
        different = []
        for line in EVENTS:
            words = tuple(word.encode() for word in shlex.split(line))
            for server in (pair.real, pair.ours):
                server(*words)
            sent, ours = ([m[2:] for m in got] for got in pair.messages())
            if sent != ours:
                different.append((line, sent[1::2], ours[1::2]))
        assert not different


@pytest.mark.parametrize("seed", range(EPISODES))
def test_several_clients(real_shard: tuple[int, int], seed: int) -> None:
    """Clients of a primary and a replica are sent the same, and both hold the same data."""
    steps = script(random.Random(seed))
    assert play(real_shard, steps) is None, steps


def test_a_monitor_of_a_refused_transaction(real_shard: tuple[int, int]) -> None:
    """MONITOR shows the EXEC of a broken transaction, but not of one with keys in two slots."""
    broken = "B: MULTI; B: NOSUCH; A: MONITOR; B: EXEC"
    in_two_slots = "B: MULTI; B: GET a; A: MONITOR; B: GET b; B: EXEC"
    for text in (broken, in_two_slots):
        lines = (line.partition(": ") for line in text.split("; "))
        steps = [(name, tuple(words.encode().split())) for name, _, words in lines]
        assert play(real_shard, steps) is None, text


def test_a_replica_knows_what_a_function_does(real_shard: tuple[int, int]) -> None:
    """Its first call of a function that writes is redirected: it has the library's code alone."""
    call = (b"FCALL", b"w", b"1", b"{t}d")
    assert play(real_shard, [("R", (b"READONLY",)), ("R", call)]) is None
