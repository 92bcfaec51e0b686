"""The sessions of a pod, with a client that only remembers."""

import random
from collections.abc import Iterator
from typing import Any, cast

import pytest

from cachesim.history.rows import Outcome
from cachesim.workload.calls import Call
from cachesim.workload.plan import Traffic
from cachesim.workload.sessions import Delete, SessionCall, Sessions, Touch, Write, ledger_share
from cachesim.workload.values import Version, version_of


class Remembering:
    """A RedisCluster without a server."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.ttls: dict[str, int] = {}

    def set(self, key: str, value: str, ex: int) -> None:
        """Keep a value."""
        self.values[key], self.ttls[key] = value, ex

    def get(self, key: str) -> str | None:
        """Return a value."""
        return self.values.get(key)

    def expire(self, key: str, ttl: int) -> None:
        """Set a TTL."""
        self.ttls[key] = ttl

    def delete(self, key: str) -> None:
        """Forget a value."""
        self.values.pop(key, None)

    def pipeline(self) -> Any:
        """Return a pipeline that does everything at once."""
        return _Pipeline(self)


class _Pipeline:
    def __init__(self, client: Remembering) -> None:
        self.set = client.set

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def execute(self) -> None:
        """Do nothing more."""


@pytest.fixture
def client() -> Remembering:
    """The client."""
    return Remembering()


@pytest.fixture
def sessions(client: Remembering) -> Sessions:
    """Fifty sessions, loaded."""
    made = Sessions(cast(Any, client), "pod-3", 50, Traffic(100, 50), random.Random(7))
    assert sum(len(batch) for batch in made.load()) == 50
    return made


def changes(sessions: Sessions, count: int, of_updates: Outcome = "ok") -> Iterator[SessionCall]:
    """Draw changes, and end each before the next. All but updates are done."""
    for _ in range(count):
        call = sessions.change()
        is_update = call.written is not None and call.written.number > 1
        outcome = of_updates if is_update else "ok"
        if outcome == "ok":
            call.send()
        call.after(outcome, None)
        yield call


def test_loads_sessions_of_production(sessions: Sessions, client: Remembering) -> None:
    """All are there with their version: about 2 KB, a TTL of 7 days."""
    assert len(client.values) == 50
    assert set(client.ttls.values()) == {7 * 24 * 3600}
    for key, value in client.values.items():
        assert key.startswith("session:")
        assert version_of(value) == Version("pod-3", 1)
        assert 1900 < len(value) < 2100
    assert sessions.read().send() == Version("pod-3", 1)


def test_versions_of_a_key_grow_by_one(sessions: Sessions) -> None:
    """Each write of a key has the next number, also after deletions, touches and new sessions."""
    last: dict[str, int] = {}
    updates = 0
    for call in changes(sessions, 3000):
        if isinstance(call, Write):
            assert call.written is not None
            before = last.get(call.key, 1 if call.written.number > 1 else 0)
            assert call.written == ("pod-3", before + 1)
            last[call.key] = call.written.number
            updates += call.written.number > 1
        elif isinstance(call, Delete):
            last[call.key] = -1  # never written again
    assert updates > 500


def test_mix_and_ledger(sessions: Sessions) -> None:
    """Seven changes in ten write, two touch, one deletes; ledger keys are never used again."""
    found = list(changes(sessions, 5000))
    writes = [call for call in found if isinstance(call, Write)]
    assert len(writes) / len(found) == pytest.approx(0.7, abs=0.03)
    assert sum(isinstance(call, Touch) for call in found) / 5000 == pytest.approx(0.2, abs=0.03)
    ledger = {call.key for call in writes if call.ledger}
    assert len(ledger) / len(writes) == pytest.approx(ledger_share(100), abs=0.03)
    others = [call.key for call in found if not call.ledger]
    assert ledger.isdisjoint(others)
    assert ledger.isdisjoint(sessions.read().key for _ in range(500))


@pytest.mark.parametrize(
    ("rate", "share"), [(10, 0.5), (100, 0.5), (285.72, 0.5), (500, 2 / 7), (2000, 0.2)]
)
def test_ledger_share(rate: float, share: float) -> None:
    """One write in five, more of them to make 50 a second, and at most every second one."""
    assert ledger_share(rate) == pytest.approx(share, abs=0.001)


def test_one_change_of_a_key_at_a_time(sessions: Sessions) -> None:
    """Nothing that is under way is drawn again."""
    under_way: list[Call] = [sessions.change() for _ in range(400)]
    keys = [call.key for call in under_way]
    assert len(set(keys)) == len(keys)


def test_an_unsure_write_rests(sessions: Sessions) -> None:
    """A session whose write may still be on its way is neither read nor written any more."""
    calls = changes(sessions, 200, "info")
    unsure = {call.key for call in calls if call.written is not None and call.written.number > 1}
    later = {call.key for call in changes(sessions, 2000)}
    later |= {sessions.read().key for _ in range(500)}
    assert len(unsure) > 5
    assert unsure.isdisjoint(later)


def test_there_are_as_many_again(sessions: Sessions, client: Remembering) -> None:
    """New sessions take the place of those that were deleted or are unsure."""
    list(changes(sessions, 300, "info"))
    ledger = sum(call.ledger for call in changes(sessions, 3000))
    read = {sessions.read().key for _ in range(3000)}
    assert 45 <= len(read) <= 50
    assert read <= client.values.keys()
    assert ledger


def test_a_shed_write_leaves_no_gap(sessions: Sessions) -> None:
    """The version of a write that was never sent is the next one's."""
    shed = [call.written for call in changes(sessions, 300, "shed") if call.written is not None]
    assert sum(it.number == 2 for it in shed) > 20
    assert max(it.number for it in shed) == 2


def test_every_error_is_unsure(sessions: Sessions) -> None:
    """RedisCluster retries by itself, so an error of its last try tells nothing of the others."""
    assert sessions.change().outcome_of(ConnectionRefusedError()) == "info"


def test_the_seed_draws(client: Remembering) -> None:
    """The same seed draws the same operations, another one others."""

    def keys(seed: int) -> list[str]:
        made = Sessions(cast(Any, client), "pod-0", 20, Traffic(100, 20), random.Random(seed))
        list(made.load())
        return [call.key for call in changes(made, 50)]

    assert keys(1) == keys(1)
    assert keys(1) != keys(2)
