"""The built-in workload against a topology."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachesim import Simulator
from cachesim.history.reader import History
from cachesim.topology import Endpoint
from cachesim.workload.plan import Plan, Traffic
from cachesim.workload.pods import Pods

LIMIT = 60.0


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology."""
    with Simulator(backend="embedded", speed=60, seed=7) as made:
        yield made


def counts(path: Path) -> dict[str, int]:
    """How many operations each service has had."""
    with History(path) as history:
        return dict(history.rows("SELECT service, count(*) FROM operations GROUP BY 1"))


def wait_for(path: Path, service: str, count: int) -> None:
    """Wait until a service has had some more operations."""
    least = counts(path).get(service, 0) + count
    limit = time.monotonic() + LIMIT
    while counts(path).get(service, 0) < least:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_traffic_of_the_architecture(sim: Simulator, tmp_path: Path) -> None:
    """Pods read what they wrote, each node is known, and a failover shows in who answers."""
    path = tmp_path / "history.sqlite"
    plan = Plan(pods=2, sessions=Traffic(60, 40), api_cache=Traffic(60, 60))
    with Pods(plan, env=sim.env(), path=path, deadline=1.0, seed=7) as pods:
        pods.open()
        begin = time.monotonic()
        pods.begin(begin)
        wait_for(path, "sessions", 100)
        old = sim.redis.primary.name
        killed = time.monotonic()
        sim.redis.primary.kill()
        sim.redis.wait_for_failover(timeout=LIMIT)
        promoted = time.monotonic()
        wait_for(path, "sessions", 100)
        new = sim.redis.primary.name
        assert pods.end() == {"pod-0": 0, "pod-1": 0}
        assert set(pods.profile) == {"patience", "comeback"}
    with History(path) as history:
        every = list(history.operations())
        loaded = [it for it in every if it.due < begin]
        assert len({it.key for it in loaded if it.service == "sessions"}) == 40
        assert len({it.key for it in loaded if it.service == "api_cache"}) == 60
        rows = [it for it in every if it.due >= begin and it.service == "sessions"]
        ok = [it for it in rows if it.outcome == "ok"]
        assert {it.node for it in ok if it.end and it.end < killed} == {old}
        assert {it.node for it in ok if it.start > promoted} == {new}
        assert all(it.attempts for it in ok)
        assert {it.attempts for it in ok if it.end and it.end < killed} == {1}
        assert all(it.outcome in ("ok", "info", "shed") for it in rows)
        assert {it.kind for it in rows} == {"read", "write", "touch", "delete"}
        _assert_versions(loaded, ok)
        cached = [it for it in every if it.due >= begin and it.service == "api_cache"]
        assert {it.node for it in cached} == {"memcached-a", "memcached-b", "memcached-c"}
        hits = [it for it in cached if it.kind == "read" and it.read is not None]
        assert len(hits) > 0.5 * len(cached)
        patience = max(it.end - it.start for it in ok if it.end)
        assert patience < pods.profile["patience"]


def test_new_addresses(sim: Simulator, tmp_path: Path) -> None:
    """Clients find nodes at new addresses by themselves, and these are recorded by name.

    redis-py does not ask again as long as the nodes that it knows answer, so it may miss a replica.
    """
    sim.reset()
    path, mark = tmp_path / "history.sqlite", sim.events.mark()
    traffic = Traffic(60, 40, replicas=True), Traffic(60, 60, discovery=0.2)
    plan = Plan(pods=1, sessions=traffic[0], api_cache=traffic[1])

    def served(since: float) -> set[str]:
        with History(path) as history:
            rows = history.rows(
                "SELECT DISTINCT node FROM operations WHERE outcome = 'ok' AND start > ?", since
            )
            return {node for (node,) in rows}

    with Pods(plan, env=sim.env(), path=path, deadline=1.0, seed=7) as pods:
        pods.open()
        pods.begin(time.monotonic())
        # One by one: redis-py asks the nodes that it found last, and never again if all have gone.
        for node in (*sim.redis.replicas, sim.redis.primary, *sim.memcached.values()):
            wait_for(path, "sessions", 20)
            node.replace(new_address=True)
        for event in sim.events.since(mark):
            if event.kind == "moved":
                pods.know(event.source, Endpoint.parse(event.data["address"]))
        replaced, limit = time.monotonic(), time.monotonic() + LIMIT
        nodes = {sim.redis.primary.name, *(it.name for it in sim.memcached.values())}
        while not nodes <= served(replaced):
            assert time.monotonic() < limit, served(replaced)
            time.sleep(0.1)
        pods.end()


PAGE = Path(__file__).parents[2] / "docs/reference/workload.md"


def test_the_function_of_the_page(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the documentation shows runs in pods, and writes."""
    [code] = re.findall(r"```python\n(# load\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "load.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "history.sqlite"
    plan = Plan(pods=1, python="load:run")
    with Pods(plan, env=sim.env(), path=path, deadline=1.0, seed=7) as pods:
        pods.open()
        pods.begin(time.monotonic())
        wait_for(path, "basket", 5)
        assert pods.end() == {"pod-0": 0}
    with History(path) as history:
        rows = list(history.operations())
        last = max(it.written or 0 for it in rows)
        assert {(it.kind, it.outcome, it.key) for it in rows} == {("write", "ok", "basket:pod-0")}
    assert int(sim.redis_cluster().get("basket:pod-0")) >= last  # type: ignore[arg-type]


def _assert_versions(loaded: list, ok: list) -> None:  # type: ignore[type-arg]
    """What was read before the failover was the last version, or one that was being written."""
    last = {it.key: it.written for it in loaded if it.service == "sessions"}
    seen = 0
    for it in sorted(ok, key=lambda it: it.end):
        if it.kind == "write":
            last[it.key] = it.written
        elif it.kind == "read" and it.key in last and it.read is not None:
            assert it.read <= last[it.key] + 1
            seen += 1
    assert seen > 20
