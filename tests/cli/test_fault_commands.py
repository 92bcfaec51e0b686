"""The commands of `cachesim fault`: the value that each makes of its words."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from cachesim.cli import commands
from cachesim.cli.app import main
from cachesim.faults import catalogue
from cachesim.faults.catalogue import CATALOGUE
from cachesim.faults.spec import FaultSpec
from cachesim.toxiproxy.toxics import BOTH, LimitData, Slicer, Stream

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The arguments of what the commands call."""
    found: Calls = []
    monkeypatch.setattr(commands, "fault", lambda *values, **named: found.append((values, named)))
    return found


def run(words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, ["fault", *words.split()])


def times(**given: Any) -> dict[str, Any]:
    """Return when a fault is healed and how it changes, where that is given."""
    return {"seconds": None, "over": None, "flap": None} | given


FORMS: dict[str, FaultSpec] = {
    "latency x y-* --ms 5": catalogue.Latency(("x", "y-*"), 5),
    "latency --jitter 2 --ms 0 x": catalogue.Latency(("x",), 0, 2),
    "bandwidth x --kb-s 64": catalogue.Bandwidth(("x",), 64),
    "loss x --share 0.05": catalogue.Loss(("x",), 0.05),
    "loss x --share 0.05 --ms 50": catalogue.Loss(("x",), 0.05, 50),
    "blackhole x y": catalogue.Blackhole(("x", "y")),
    "refuse x": catalogue.Refuse(("x",)),
    "reset x": catalogue.Reset(("x",)),
    "toxic x --toxic limit_data,bytes=512": catalogue.Toxic(("x",), LimitData(512)),
    "toxic x --toxic slicer,average_size=64,delay=10 --stream upstream --stream downstream": (
        catalogue.Toxic(("x",), Slicer(64, delay=10), BOTH)
    ),
    "toxic x --toxic limit_data,bytes=0 --stream upstream --toxicity 0.5 --label cut": (
        catalogue.Toxic(("x",), LimitData(0), (Stream.UPSTREAM,), 0.5, "cut")
    ),
    "replication-lag 1500ms": catalogue.ReplicationLag(1.5),
    "replication-lag 2 --replica redis-b --replica redis-c": (
        catalogue.ReplicationLag(2.0, ("redis-b", "redis-c"))
    ),
    "partition a b": catalogue.Partition("a", "b"),
    "partition a b --one-way": catalogue.Partition("a", "b", one_way=True),
    "isolate az-a": catalogue.Isolate("az-a"),
    "az-power c": catalogue.AzPower("c"),
    "kill redis-a memcached-b": catalogue.Kill(("redis-a", "memcached-b")),
    "stop redis-a": catalogue.Stop(("redis-a",)),
    "pause redis-a": catalogue.Pause(("redis-a",)),
    "memory-fill redis-a memcached-b": catalogue.MemoryFill(("redis-a", "memcached-b")),
    "memory-fill redis-a --to 0.9": catalogue.MemoryFill(("redis-a",), 0.9),
    "connection-limit redis-a --most 9": catalogue.ConnectionLimit(("redis-a",), 9),
    "connection-limit memcached-a --most 9": catalogue.ConnectionLimit(("memcached-a",), 9),
    "answer redis-a --error LOADING": catalogue.Answer(("redis-a",), "LOADING"),
    "answer redis-a redis-b --error ASK --command get --command set --to redis-c --times 2": (
        catalogue.Answer(("redis-a", "redis-b"), "ASK", ("get", "set"), "redis-c", 1.0, 2)
    ),
    "slow redis-a --cpu 2": catalogue.Slow(("redis-a",), 2),
    "hot-key redis-a memcached-b --key k --rate 9": (
        catalogue.HotKey(("redis-a", "memcached-b"), "k", 9)
    ),
    "replace redis-b": catalogue.Replace(("redis-b",)),
    "replace redis-b --new-address --old hang": catalogue.Replace(("redis-b",), True, "hang"),
    "scale 4": catalogue.Scale(4),
    "stale": catalogue.Stale(),
    "stale --endpoint endpoint-redis": catalogue.Stale(("endpoint-redis",)),
    "aof-error redis-a": catalogue.AofError(("redis-a",)),
    "auth-rotate redis-a redis-b --strategy rotate": (
        catalogue.AuthRotate(("redis-a", "redis-b"), "rotate")
    ),
    "bad-certificate redis-a": catalogue.BadCertificate(("redis-a",)),
    "bad-certificate memcached-a --problem wrong-host": (
        catalogue.BadCertificate(("memcached-a",), "wrong-host")
    ),
    "expire redis-a memcached-a --pattern s:* --share 0.5": (
        catalogue.Expire(("redis-a", "memcached-a"), "s:*", 0.5)
    ),
    "flush redis-a memcached-b": catalogue.Flush(("redis-a", "memcached-b")),
    "delay redis-a --ms 5 --share 0.1": catalogue.Delay(("redis-a",), 5, None, 0.1),
}


@pytest.mark.parametrize("words", FORMS)
def test_form(calls: Calls, words: str) -> None:
    """Each command makes its fault."""
    result = run(words)
    assert (result.exit_code, result.output) == (0, "")
    assert calls == [((None, FORMS[words], times()), {"as_json": False})]


def test_every_fault_has_a_form() -> None:
    """Each fault of the catalogue is a command."""
    assert {type(fault) for fault in FORMS.values()} == set(CATALOGUE)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1.5", 1.5), ("1m30s", 90)],
)
def test_shared_options(calls: Calls, duration: str, seconds: float) -> None:
    """Every fault may be for a time, of a named topology, and give JSON."""
    assert run(f"az-power c --for {duration} --name it --json").exit_code == 0
    assert calls == [(("it", catalogue.AzPower("c"), times(seconds=seconds)), {"as_json": True})]


def test_faults_over_time(calls: Calls) -> None:
    """A fault may grow, if it has a strength, and come and go."""
    assert run("latency x --ms 5 --over 20s --flap 2s 500ms").exit_code == 0
    changing = times(over=20.0, flap=(2.0, 0.5))
    assert calls == [((None, catalogue.Latency(("x",), 5), changing), {"as_json": False})]
    assert "No such option" in run("blackhole x --over 20s").stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("latency x", 2, "Missing option '--ms'"),
        ("latency --ms 5", 2, "Missing argument 'LINK...'"),
        ("latency x --ms 5.5", 2, "Error: latency: ms must be a whole number, got 5.5"),
        ("latency x --ms fast", 2, "Error: latency: ms must be a whole number, got 'fast'"),
        ("latency x --ms nan", 2, "Error: latency: ms must be a whole number, got nan"),
        ("latency x --ms -5", 2, "Error: latency: ms must not be negative, got -5"),
        ("loss x --share nan", 2, "Error: loss: share must be from 0.001 to 1, got nan"),
        ("latency x --ms 0", 2, "latency: latency or jitter must be at least 1 ms, both are 0"),
        ("bandwidth x --kb-s 10000001", 2, "bandwidth: kb_s must be at most 10000000 KB/s, got 1"),
        ("replication-lag", 2, "Missing argument 'SECONDS'"),
        ("replication-lag soon", 2, "should be a time such as 500ms, 10s, 2m or 1h, got 'soon'"),
        ("replication-lag 0.1ms", 2, "replication-lag: seconds must be from 0.001 to 9223372036"),
        ("partition a", 2, "Missing argument 'ZONE'"),
        ("partition a az-a", 2, "a partition is between two zones, not az-a and itself"),
        ("toxic x --toxic slicer,average_size=-5", 2, "'average_size=-5' should be a name and a "),
        ("toxic x --toxic slicer,size=5", 2, "toxic: toxic: slicer: no field 'size': there are "),
        ("toxic x --toxic slicer,delay=5,average_size=9,delay=6", 2, "delay is there twice"),
        ("toxic x --toxic limit_data,bytes=0 --stream up", 2, "'up' is not one of 'upstream', 'd"),
        ("pause redis-a --flap 2s", 2, "Option '--flap' requires 2 arguments"),
        ("az-power c --for 0s", 2, "'0s' should be above 0"),
    ],
)
def test_mistakes(calls: Calls, words: str, code: int, message: str) -> None:
    """A mistake is found before anything is called."""
    result = run(words)
    assert (result.exit_code, result.stdout, calls) == (code, "", [])
    assert message in result.stderr
