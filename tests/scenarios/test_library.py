"""The shipped scenarios and the examples: each can run, and has a page that says what it is for."""

from pathlib import Path

import pytest

from cachesim.faults.catalogue import CATALOGUE
from cachesim.scenarios.checkers.expectations import CHECKERS
from cachesim.scenarios.checkers.expectations import read as expectations
from cachesim.scenarios.files import library, read
from cachesim.scenarios.targets import Roles
from cachesim.scenarios.timeline import Timeline, plan
from cachesim.topology import production

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    file.stem: file.read_text("utf-8")
    for file in sorted((ROOT / "examples" / "scenarios").glob("*.yaml"))
}
ALL = library() | EXAMPLES
ROLES = Roles("redis-a", {"redis-b": 5, "redis-c": 7})
every = pytest.mark.parametrize("name", sorted(ALL))


def timeline_of(name: str) -> Timeline:
    """Return the timeline of a scenario."""
    return plan(read(ALL[name], name), seed=1)


def test_there_are_enough() -> None:
    """Those that were promised are shipped, and no example has the name of one."""
    assert set(library()) == {
        "primary-crash", "primary-hang", "az-outage", "az-isolated", "lag-then-crash",
        "memcached-node-loss", "connection-storm", "oom-noeviction", "whole-region-power-loss",
        "auth-rotation-under-load", "certificate-expiry", "max-clients", "loading-replica",
        "rolling-replacement", "stale-endpoint", "memcached-scale-out",
    }  # fmt: skip
    assert len(ALL) == len(library()) + len(EXAMPLES)
    assert len(EXAMPLES) >= 10


@every
def test_runs(name: str) -> None:
    """A scenario has its file's name, each step has a target, and something is expected of it."""
    timeline = timeline_of(name)
    assert timeline.scenario.name == name
    for step in timeline.steps:
        stages = step.stages(production(), ROLES, speed=30)
        assert stages
        assert {type(fault) for stage in stages for fault in stage.faults} <= set(CATALOGUE)
    found = list(expectations(timeline.expect))
    assert found
    assert {type(it) for it in found} <= CHECKERS.keys()
    assert timeline.latest_end <= 20 * 60


def test_every_fault_over_time_is_shown() -> None:
    """There is an example of a ramp, of a flap, of a step after an event and of each new fault."""
    steps = [step for name in ALL for step in timeline_of(name).steps]
    faults = {step.fault for step in steps}
    assert {"loss", "memory-fill", "connection-limit", "partition"} <= faults
    assert any(step.flap for step in steps)
    assert any(step.after for step in steps)
    assert any(len(step.stages(production(), ROLES)) > 10 for step in steps if not step.flap)


@every
def test_page(name: str) -> None:
    """Its page says what it shows, what production does, and how to mend a client."""
    pytest.importorskip("sphinx")
    from docs._ext import generated, scenario_pages

    assert "{generated} scenario " + name in (ROOT / f"docs/scenarios/{name}.md").read_text("utf-8")
    paragraphs = scenario_pages.comment(ALL[name])
    assert tuple(paragraphs) == scenario_pages.TITLES
    assert all(len(it) > 40 and it.endswith(".") for it in paragraphs.values())
    page = list(generated.scenario(name))
    assert f"name: {name}" in page
    assert not any(line.startswith("#") for line in page)


def test_no_other_pages() -> None:
    """Each page is of a scenario, and the overview has them all."""
    pytest.importorskip("sphinx")
    from docs._ext import generated

    pages = {page.stem for page in (ROOT / "docs" / "scenarios").glob("*.md")}
    assert pages == {*ALL, "index"}
    listed = [*generated.scenarios("shipped"), *generated.scenarios("examples")]
    assert all(any(f"[{name}]" in line for line in listed) for name in ALL)
