"""What shows that a fault is there, and that it is gone."""

from typing import Any

import pytest

from cachesim.faults.catalogue import CATALOGUE
from cachesim.history.rows import Beat
from cachesim.runs.calls import Readings
from cachesim.scenarios.running.witnesses import Slow, Unanswered, Unheard, Witnesses, touched
from cachesim.topology import production

FOREVER = float("inf")
TOPOLOGY = production()


class Log:
    """Beats made by hand."""

    def __init__(self, beats: list[Beat]) -> None:
        self._beats = beats

    def recent(self, node: str, since: float) -> list[Beat]:
        """See `Beats.recent`."""
        return [it for it in self._beats if it.node == node and it.start >= since]


def beats(node: str, begin: int, end: int, took: float | None = 0.01) -> list[Beat]:
    """Return a beat each second; None: without an answer."""
    return [
        Beat(node, "read", at, at, None if took is None else at + took, int(took is not None))
        for at in range(begin, end)
    ]


def test_unanswered() -> None:
    """The effect was seen when the last of the nodes was silent, and gone when all answer."""
    log = Log(
        [
            *(*beats("a", 0, 5), *beats("a", 5, 12, None), *beats("a", 12, 20)),
            *(*beats("b", 0, 6), *beats("b", 6, 13, None), *beats("b", 13, 20)),
        ]
    )
    it = Unanswered(["a", "b"], log)
    assert it.seen(4.5, FOREVER) == 6
    assert it.gone(8.5) == pytest.approx(13.01)
    assert it.seen(14, FOREVER) is None
    assert Unanswered(["a", "c"], log).seen(4.5, FOREVER) is None


@pytest.mark.parametrize(("silent", "seen"), [(5, 5.0), (4, None)])
def test_a_beat_that_fails_is_no_silence(silent: int, seen: float | None) -> None:
    """On a busy machine a beat may get no answer: five in a row are needed."""
    log = Log([*beats("a", 0, 5), *beats("a", 5, 5 + silent, None), *beats("a", 5 + silent, 30)])
    assert Unanswered(["a"], log).seen(3, FOREVER) == seen
    assert Unanswered(["a"], log).seen(3, 30) == seen


def test_answers_after_the_heal_are_none() -> None:
    """A connection that hung answers when it is healed: the fault was there all the same."""
    log = Log([Beat("a", "read", 5.0, 5.0, 5.4, 1)])
    assert Unanswered(["a"], log).seen(4.9, 5.3) == 5.0
    assert Unanswered(["a"], log).seen(4.9, 5.5) is None


@pytest.mark.parametrize(("took", "seen"), [(0.091, 5.0), (0.089, None), (0.3, 5.0)])
def test_slow(took: float, seen: float | None) -> None:
    """A latency of 100 ms raises the median by 80 ms at least."""
    log = Log([*beats("a", 0, 5), *beats("a", 5, 15, took), *beats("a", 15, 30)])
    it = Slow(["a"], log, 0.1, {"a": 0.01})
    assert it.seen(4.5, FOREVER) == seen
    assert it.gone(15) == 15
    assert it.seen(13, FOREVER) is None  # too few


def heard(**by: float) -> Readings:
    """Return when redis-b last heard redis-a, and the other way, of a reading at 20."""
    node: Any = {"at": 20.0, "took": 0.0, "own_connections": 0, "values": {}}
    told = {"redis-b": {"redis-a": by["b"]}, "redis-a": {"redis-b": by["a"]}}
    return {"nodes": {"redis-a": node}, "heard": told}


@pytest.mark.parametrize(
    ("a", "b", "seen", "gone"),
    [(19.0, 19.2, 19.2, None), (19.0, 19.8, None, None), (19.9, 19.95, None, 19.95)],
)
def test_unheard(a: float, b: float, seen: float | None, gone: float | None) -> None:
    """A partition is there while neither side has heard the other for half a second."""
    pairs = [("redis-b", "redis-a"), ("redis-a", "redis-b")]
    it = Unheard(pairs, lambda: heard(a=a, b=b))
    assert it.seen(18.0, FOREVER) == seen
    assert it.gone(19.5) == gone
    assert Unheard(pairs, lambda: None).seen(18.0, FOREVER) is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"fault": "kill", "nodes": ["redis-a"]}, Unanswered),
        ({"fault": "az-power", "zone": "a"}, Unanswered),
        ({"fault": "isolate", "zone": "a"}, Unanswered),
        ({"fault": "refuse", "links": ["client-to-redis-a"]}, Unanswered),
        ({"fault": "latency", "links": ["client-to-redis-a"], "ms": 5}, Slow),
        ({"fault": "partition", "a": "a", "b": "b"}, Unheard),
        ({"fault": "latency", "links": ["b-to-redis-a"], "ms": 5}, type(None)),
        ({"fault": "blackhole", "links": ["b-to-redis-a"]}, type(None)),
        ({"fault": "replication-lag", "seconds": 1}, type(None)),
    ],
)
def test_choice(fault: dict[str, Any], kind: type) -> None:
    """Beats tell of what is between clients and nodes; checkers have witnesses of their own."""
    spec = CATALOGUE.read(fault).resolve(TOPOLOGY)
    it = Witnesses(TOPOLOGY, Log([]), {}, lambda: None)
    assert type(it.of([spec])) is kind


@pytest.mark.parametrize(
    ("one_way", "pairs"),
    [
        (False, {("redis-b", "redis-a"), ("redis-a", "redis-b")}),
        (True, {("redis-b", "redis-a")}),
    ],
)
def test_partition_one_way(one_way: bool, pairs: set[tuple[str, str]]) -> None:
    """With one way cut, the other side still hears."""
    fault = {"fault": "partition", "a": "a", "b": "b", "one_way": one_way}
    spec = CATALOGUE.read(fault).resolve(TOPOLOGY)
    it = Witnesses(TOPOLOGY, Log([]), {}, lambda: None).of([spec])
    assert isinstance(it, Unheard)
    assert set(it.pairs) == pairs


def test_touched() -> None:
    """A fault touches the nodes that it names, and those of its zones and links."""
    faults: list[dict[str, Any]] = [
        {"zone": "a"},
        {"links": ["c-to-redis-b"]},
        {"nodes": ["memcached-c"]},
    ]
    found = touched(TOPOLOGY, faults)
    assert found == ["redis-a", "memcached-a", "redis-b", "memcached-c"]
