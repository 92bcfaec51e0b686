"""Scenario files: what is valid is read, and what is not is told all at once and where it is."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachesim.errors import InvalidScenario, Problem
from cachesim.scenarios import units
from cachesim.scenarios.checkers import expectations
from cachesim.scenarios.checkers.unavailability import Expectation as Unavailability
from cachesim.scenarios.files import library, read, read_file
from cachesim.scenarios.timeline import plan

SHORT = """\
version: 1
name: short
timeline:
  - {at: 1m, fault: kill, target: {node: redis-a}}
"""

FULL = """\
version: 1
name: primary-flaps-then-zone-dies
description: |
  The title.
  More.
baseline: {for: 10s, steady: {sessions: {good: 99.9%}, api_cache: {hit_rate: 80%}}}
client: {patience: 6s, comeback: 120s}
workload:
  pods: 10
  sessions: {rate: 100, population: 5000}
  api_cache: {rate: 300/s, population: 2000}
  origin: {latency: 50ms, capacity: 200/s}
deadline: 1s
timeline:
  - id: ramp
    at: 0s
    fault: latency
    target: {links: client-to-*}
    ms: {from: 0, to: 300, over: 20s}
    for: 1m
  - id: flap
    after: ramp.ended
    fault: partition
    target: {zones: [{of: primary}, {of: best-replica}]}
    flap: {on: 2s, off: 3s, clock: real}
    for: 30s
  - id: outage
    after: {event: failover-completed, nth: 1, within: 2m}
    delay: 5s
    one_of:
      - {weight: 3, fault: az-power, target: {zone: {of: primary}}}
      - {fault: kill, target: {nodes: redis, pick: 1, role: replica}, if_none: skip}
    for: 10m
  - {at: 2m, every: 1m, times: 3, fault: bandwidth, target: {links: "*"}, kb_s: 50kb/s, for: 5s}
stop_if: {sessions.errors: {share: 90%, for: 2m, not_before: outage}}
expect:
  lost_writes: {max: bound}
  split_brain: {max: 0}
  stale_reads: {api_cache: {max: ttl}, sessions: {max: 5s}}
  unavailability: {sessions.write: {longest: 35s}, api_cache: {longest: 5s}}
  error_budget: {sessions: {max: 1%}}
  recovery: {within: 60s}
  connection_storm: {max: 500}
  remap: {api_cache: {max: 5%}}
  herd: {same_key: 2, loads: 150/s, refused: 0}
  hit_rate: {api_cache: {min: 60%}}
  alarms: {redis-memory-high: {within: 10m}, redis-cpu-high: {fires: false}}
"""


def problems(text: str) -> list[Problem]:
    """What is wrong with a text."""
    with pytest.raises(InvalidScenario) as caught:
        read(text, "f.yaml")
    assert str(caught.value).splitlines() == [str(it) for it in caught.value.problems]
    return list(caught.value.problems)


def test_quantities() -> None:
    """Texts with units become seconds, shares and rates."""
    found = read(FULL, "f.yaml")
    assert found.deadline == 1
    assert found.client.patience == 6
    assert found.baseline.steady["sessions"].good == pytest.approx(0.999)
    assert found.baseline.length == 10
    assert found.workload.origin.latency == 0.05
    assert found.workload.traffic["api_cache"].rate == 300
    assert found.stop_if["sessions.errors"].share == 0.9
    assert found.timeline[0].hold == 60


def test_a_share_is_as_large_as_its_count() -> None:
    """What is exactly as many as a share allows is not above it."""
    for tenths in range(1001):
        assert units.share(f"{tenths / 10:g}%") == tenths / 1000


def test_defaults() -> None:
    """A short file gets a workload, a baseline and a deadline."""
    found = read(SHORT, "f.yaml")
    assert list(found.workload.traffic) == ["sessions", "api_cache"]
    assert (found.baseline.length, found.deadline, found.duration) == (10, 1, None)
    assert found.timeline[0].hold == 60


def test_only_the_services_that_are_given() -> None:
    """A workload of one service is not filled up with the other."""
    found = read(f"{SHORT}workload: {{sessions: {{rate: 5}}}}", "f.yaml")
    assert list(found.workload.traffic) == ["sessions"]
    assert not read(f"{SHORT}workload: {{python: a.b:c}}", "f.yaml").workload.traffic


# --- mistakes ---------------------------------------------------------------------------------

STEP = "version: 1\nname: x\ntimeline:\n  - {%s}\n"
KILL = "at: 0s, fault: kill, target: {node: redis-a}"
SLOW = "at: 0s, fault: latency, target: {links: client-to-*}"

STEPS = {
    "at: 0s, fault: kil, target: {node: redis-a}": ("fault", "Did you mean kill?"),
    "at: 0s, falt: kill, target: {node: redis-a}": ("falt", "Did you mean fault?"),
    "at: 0s, target: {node: redis-a}": ("", "fault is missing"),
    "fault: kill, target: {node: redis-a}": ("", "at or after is missing"),
    f"{KILL}, after: {{event: primary-lost}}": ("after", "at is given too"),
    "at: 0s, fault: kill": ("", "target is missing"),
    "at: 0s, fault: kill, target: {node: redis-d}": ("target.node", "Did you mean redis-c?"),
    "at: 0s, fault: kill, target: {nodes: [redis-a, mecached]}": ("target.nodes", "memcached?"),
    "at: 0s, fault: kill, target: {zone: d}": ("target.zone", "no zone 'd'"),
    "at: 0s, fault: kill, target: {zone: {of: prim}}": ("target.zone", "Did you mean primary?"),
    "at: 0s, fault: kill, target: {links: client-to-*}": ("target", "works on nodes"),
    "at: 0s, fault: kill, target: {pick: 1}": ("target", "should have one of node"),
    "at: 0s, fault: kill, target: {role: primry}": ("target.role", "Did you mean primary?"),
    "at: 0s, fault: kill, target: {role: primary, pck: 1}": ("target.pck", "Did you mean pick?"),
    "at: 0s, fault: kill, target: {role: primary, pick: 0}": ("target.pick", "greater than"),
    "at: 0s, fault: kill, target: redis-a": ("target", "should be a mapping"),
    "at: 0s, fault: kill, nodes: redis-a, target: {node: redis-a}": ("nodes", "into the target"),
    "at: 0s, fault: isolate, target: {role: primary}": ("target", "should have zone or zones"),
    "at: 0s, fault: isolate, target: {zone: a, node: redis-a}": ("target", "has node"),
    "at: 0s, fault: partition, target: {zone: a}": ("target", "should be 2 zones"),
    f"{SLOW}": ("", "ms is missing"),
    f"{SLOW}, ms: -1": ("ms", "must not be negative"),
    f"{SLOW}, ms: 5kb": ("ms", "should be a time"),
    f"{SLOW}, ms: 0": ("", "both are 0"),
    f"{SLOW}, ms: 5, jiter: 2": ("jiter", "Did you mean jitter?"),
    f"{SLOW}, ms: {{from: 0, to: 5}}": ("ms", "over is missing"),
    f"{SLOW}, ms: {{from: 0, to: -5, over: 1s}}": ("ms.to", "must not be negative"),
    f"{SLOW}, ms: {{from: 0, to: 5, over: 1s, oer: 1}}": ("ms.oer", "Did you mean over?"),
    f"{SLOW}, ms: {{from: 0, to: 5, over: 61s}}": ("ms.over", "longer than the step lasts"),
    f"{KILL}, for: 5": ("for", "Did you mean 5s?"),
    f"{KILL}, for: 0s": ("for", "should be above 0"),
    f"{KILL}, delay: 5s": ("delay", "needs after"),
    f"{KILL}, times: 5": ("times", "needs every"),
    f"{KILL}, every: 2m": ("every", "needs times, or a duration"),
    f"{KILL}, every: 30s, times: 2": ("every", "at least as long as the step lasts, 60s"),
    f"{KILL}, if_none: wit": ("if_none", "Did you mean wait?"),
    f"{KILL}, flap: {{on: 1s}}": ("flap", "off is missing"),
    f"{KILL}, flap: {{on: 1ms, off: 1ms}}": ("flap", "more than 1000 times"),
    f"{KILL}, one_of: [{{fault: kill, target: {{node: redis-a}}}}]": ("fault", "one of both"),
    "at: 0s, one_of: []": ("one_of", "at least 1"),
    "at: 0s, one_of: [{fault: stp, target: {node: redis-a}}]": ("one_of[0].fault", "stop?"),
    "at: 0s, ms: 5, one_of: [{fault: kill, target: {node: redis-a}}]": ("ms", "no key 'ms'"),
    "at: 0s, one_of: [{fault: kill, target: {node: redis-a}, weight: 0}]": (
        "one_of[0].weight",
        "greater than 0",
    ),
    "after: y.ended, fault: kill, target: {node: redis-a}": ("after", "no moment of a step above"),
    "after: {event: failover}, fault: kill, target: {node: redis-a}": (
        "after.event",
        "Did you mean failover-",
    ),
    "after: {nth: 2}, fault: kill, target: {node: redis-a}": ("after", "event is missing"),
}


@pytest.mark.parametrize("step", STEPS)
def test_mistake_in_a_step(step: str) -> None:
    """A mistake is told once, at its key, with the nearest valid name."""
    key, message = STEPS[step]
    (problem,) = problems(STEP % step)
    assert (problem.file, problem.line) == ("f.yaml", 4)
    assert problem.key == f"timeline[0]{'.' if key else ''}{key}"
    assert message in problem.message


@pytest.mark.parametrize("moment", ["one.began", "two.ended"])
def test_after_a_step_that_is_not_above(moment: str) -> None:
    """A step does not wait for itself, nor for one below it."""
    waiting = f"id: one, after: {moment}, fault: kill, target: {{node: redis-a}}"
    (problem,) = problems(f"{STEP % waiting}  - {{id: two, {KILL}}}\n")
    assert problem.key == "timeline[0].after"


TOPS = {
    "nam: x": ("nam", "Did you mean name?"),
    "deadline: 5": ("deadline", "Did you mean 5s?"),
    "duration: 8d": ("duration", "should be a time"),
    "duration: 30s": ("timeline[0].at", "after the scenario's end"),
    "workload: {pods: 0}": ("workload.pods", "greater than or equal to 1"),
    "workload: {pods: '5'}": ("workload.pods", "integer"),
    "workload: {sessions: {rate: 5/m}}": ("workload.sessions.rate", "should be a rate"),
    "workload: {sessions: {rate: 5}, python: 'a:b'}": ("workload.sessions", "python is given too"),
    "workload: {python: a.b}": ("workload.python", "match pattern"),
    "client: {patience: }": ("client.patience", "is empty"),
    "client: {patience: 2020-01-01}": ("client.patience", "no plain value"),
    "stop_if: {sessions.errors: {share: 90, for: 1m}}": ("stop_if.sessions.errors.share", "90%"),
    "stop_if: {session.errors: {share: 90%, for: 1m}}": ("stop_if.session.errors", "sessions.err"),
    "stop_if: {sessions.errors: {share: 90%, for: 1m, not_before: kll}}": (
        "stop_if.sessions.errors.not_before",
        "Did you mean kill?",
    ),
    "baseline: {steady: {session: {good: 9%}}}": ("baseline.steady.session", "mean sessions?"),
    "expect: {lost_writes: {max: many}}": ("expect.lost_writes.max", "or bound"),
    "expect: {lost_writes: {max: true}}": ("expect.lost_writes.max", "or bound"),
    "expect: {stale_reads: {sessions: {max: -1s}}}": ("expect.stale_reads.sessions.max", "a time"),
    "expect: {error_budget: {sessions: {max: 101%}}}": (
        "expect.error_budget.sessions.max",
        "at most 100%",
    ),
    "expect: {unavailability: {sessions.wrte: {longest: 5s}}}": (
        "expect.unavailability.sessions.wrte",
        "Did you mean sessions.write?",
    ),
    "expect: {unavailability: {sessions: {}}}": (
        "expect.unavailability.sessions",
        "expects nothing: give it longest",
    ),
    "expect: {alarms: {an-alarm: {fires: false, within: 5m}}}": (
        "expect.alarms.an-alarm.within",
        "needs fires: true",
    ),
    "expect: {herd: {}}": ("expect.herd", "expects nothing: give it same_key"),
    "stop_if: {sessions.errors: {share: 0%, for: 1m}}": (
        "stop_if.sessions.errors.share",
        "should be above 0%",
    ),
    "expect: {recvery: {within: 5s}}": ("expect.recvery", "Did you mean recovery?"),
    "5: x": ("", "a key should be text"),
}


@pytest.mark.parametrize("line", TOPS)
def test_mistake_elsewhere(line: str) -> None:
    """The same outside the timeline."""
    key, message = TOPS[line]
    (problem,) = problems(f"{SHORT}{line}\n")
    assert problem.key == key
    assert problem.line == (4 if key.startswith("timeline") else 5)
    assert message in problem.message


OWN_SERVICES = {
    "expect: {unavailability: {basket.wirte: {longest: 5s}}}": "expect.unavailability.basket.wirte",
    "expect: {error_budget: {shop.basket: {max: 1%}}}": "expect.error_budget.shop.basket",
    "expect: {stale_reads: {basket.read: {max: 5s}}}": "expect.stale_reads.basket.read",
    "expect: {remap: {basket.read: {max: 5%}}}": "expect.remap.basket.read",
    "expect: {hit_rate: {basket.read: {min: 5%}}}": "expect.hit_rate.basket.read",
    "baseline: {steady: {basket.write: {good: 5%}}}": "baseline.steady.basket.write",
    "stop_if: {basket: {share: 90%, for: 1m}}": "stop_if.basket",
    "stop_if: {basket.write.errors: {share: 90%, for: 1m}}": "stop_if.basket.write.errors",
}


@pytest.mark.parametrize("line", OWN_SERVICES)
@pytest.mark.parametrize("own", ["client: {patience: 1s}", "workload: {python: 'a:b'}"])
def test_mistake_in_a_service_of_the_users(line: str, own: str) -> None:
    """Its name is the user's own, and its form is not: it would be found when the run is over."""
    (problem,) = problems(f"{SHORT}{own}\n{line}\n")
    assert problem.key == OWN_SERVICES[line]
    assert "should be" in problem.message


def test_services_of_the_users() -> None:
    """What operations may be called, verdicts may be asked of."""
    names = "basket: {longest: 5s}, basket.read: {longest: 5s}, shop.basket.write: {longest: 5s}"
    text = f"{SHORT}client: {{patience: 1s}}\nexpect: {{unavailability: {{{names}}}}}\n"
    expect = plan(read(text, "x.yaml"), 1).expect
    assert list(expectations.read(expect)) == [
        Unavailability("basket", None, 5),
        Unavailability("basket", "read", 5),
        Unavailability("shop.basket", "write", 5),
    ]


def test_all_mistakes_at_once_and_where_they_are() -> None:
    """Mistakes of the form, of faults, of targets and between steps are in one error, in order."""
    text = """\
version: 2
nam: x
timeline:
  - id: one
    at: 5
    fault: kill
    target:
      node: redis-x
  - {id: one, after: one.end, fault: latency, target: {links: "*"}, ms: x}
  - kill
expect: {recovery: {within: }}
"""
    found = [(it.line, it.column, it.key) for it in problems(text)]
    assert found == [
        (1, 1, ""),  # name is missing
        (1, 10, "version"),
        (2, 1, "nam"),
        (5, 9, "timeline[0].at"),
        (8, 13, "timeline[0].target.node"),
        (9, 10, "timeline[1].id"),
        (9, 22, "timeline[1].after"),
        (9, 73, "timeline[1].ms"),
        (10, 5, "timeline[2]"),
        (11, 28, "expect.recovery.within"),
    ]


def bomb() -> str:
    """A short text of a million values."""
    pairs = zip("abcdefg", "bcdefgh", strict=True)
    lines = (f"{to}: &{to} [{','.join([f'*{name}'] * 9)}]\n" for name, to in pairs)
    return "a: &a [1, 2, 3, 4]\n" + "".join(lines)


NO_SCENARIOS = {
    "a key twice": ("version: 1\nname: x\nname: y\n", 3, "duplicate key"),
    "indented": ("version: 1\n  name: x\n", 2, "mapping values are not allowed here"),
    "an open bracket": ("a: [1\nb: 2\n", 2, ""),
    "two documents": ("a: 1\n---\nb: 1\n", 2, "document"),
    "nothing": ("", 1, "is empty"),
    "a list": ("- a\n", 1, "mapping"),
    "a zero byte": ("a: \x00\n", 1, "not YAML"),
    "itself": ("a: &a\n  - *a\n", 1, "is empty"),
    "a bomb": (bomb(), 1, "too many values"),
    "deep": (f"a: {'[' * 40}1{']' * 40}\n", 1, "too deeply"),
    "large": ("a: " + "x" * 2**20, 1, "is larger than"),
}


@pytest.mark.parametrize("case", NO_SCENARIOS)
def test_what_is_no_scenario_at_all(case: str) -> None:
    """YAML that is wrong, hostile, or something else is refused where it is."""
    text, line, message = NO_SCENARIOS[case]
    found = problems(text)
    assert any(message in it.message for it in found)
    assert found[0].line == line


def test_yaml_is_of_version_1_2() -> None:
    """`on` is a key, not true, as `flap` has it; `1:30` is text, and no time."""
    assert read(STEP % f"{KILL}, flap: {{on: 1s, off: 2s}}", "f").timeline[0].flap is not None
    (problem,) = problems(STEP % f"{KILL}, for: 1:30")
    assert "'1:30'" in problem.message


def test_anchors() -> None:
    """What an alias or a merge repeats counts as written, and has a place."""
    text = (
        SHORT
        + "  - &x {id: b, at: 2m, fault: stop, target: {node: redis-b}}\n  - {<<: *x, id: c}\n"
    )
    assert [step.id for step in read(text, "f").timeline] == [None, "b", "c"]
    (problem,) = problems(text + "  - {<<: *x, id: d, fault: stp}\n")
    assert (problem.line, problem.key) == (7, "timeline[3].fault")


def test_file(tmp_path: Path) -> None:
    """A file is read by its path; one that is missing or no text is told."""
    path = tmp_path / "x.yaml"
    path.write_text(SHORT, encoding="utf-8")
    assert read_file(path).name == "short"
    path.write_bytes(b"\xff\xfe\x00")
    for wrong, message in (
        (path, "UTF-8"),
        (tmp_path, "can't be read"),
        ("az-outag", "az-outage?"),
    ):
        with pytest.raises(InvalidScenario, match=re.escape(message)):
            read_file(wrong)


def test_shipped() -> None:
    """Every shipped scenario is valid, has its file's name, a title and an expectation."""
    assert len(library()) >= 7
    for name in library():
        found = read_file(name)
        assert found.name == name
        assert found.description.partition("\n")[0].endswith(".")
        assert plan(found, 1).expect


# --- anything ---------------------------------------------------------------------------------

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**9),
    st.floats(),
    st.sampled_from(["", "x", "5s", "9%", "a", "*", "primary", "ramp.ended", "[", "latency"]),
    st.lists(st.sampled_from(["a", 1, None]), max_size=2),
    st.dictionaries(st.sampled_from(["of", "from", "on", "x", "event"]), st.just("1s"), max_size=2),
)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every key and position of nested values, with what it is in."""
    if isinstance(data, dict | list):
        for key in list(data) if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from places(data[key])


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_change_is_valid_or_told(data: st.DataObject) -> None:
    """A file with values changed, renamed or left out is planned, or is an error with a place."""
    from ruamel.yaml import YAML

    plain = YAML(typ="safe", pure=True).load(FULL)
    plain = copy.deepcopy(plain)
    for _ in range(data.draw(st.integers(1, 3))):
        inside, key = data.draw(st.sampled_from(list(places(plain))))
        match data.draw(st.sampled_from(["change", "drop", "rename"])):
            case "change":
                inside[key] = data.draw(_JUNK)
            case "drop":
                del inside[key]
            case _ if isinstance(inside, dict):
                inside[f"{key}x"] = inside.pop(key)
    text = json.dumps(plain)  # which is YAML too
    found: tuple[Problem, ...] = ()
    try:
        plan(read(text, "f"), 1)
    except InvalidScenario as error:
        found = error.problems
    assert all(it.line == 1 and it.column <= len(text) and it.message for it in found)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_text_is_told(text: str) -> None:
    """No text makes another error."""
    with pytest.raises(InvalidScenario):
        read(text, "f")
