"""The verdict of each shipped scenario, embedded at speed 30, with the architecture's clients.

Not run unless asked for with `--shipped-runs`, as one run of each takes 8 minutes in all. A machine
that is busy with something else makes verdicts `unknown`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from cachesim.cli.app import main
from cachesim.cli.scenario_commands import shipped

VERDICTS: Mapping[str, Mapping[str, str]] = {
    "auth-rotation-under-load": {
        "lost_writes": "pass",
        "unavailability: sessions": "pass",
        "recovery": "pass",
    },
    "az-isolated": {
        "lost_writes": "pass",
        "split_brain": "pass",
        "unavailability: sessions.write": "pass",
        "unavailability: api_cache": "unknown",
        "recovery": "pass",
    },
    "az-outage": {
        "lost_writes": "pass",
        "unavailability: sessions.write": "pass",
        "unavailability: api_cache": "unknown",
        "recovery": "pass",
    },
    "certificate-expiry": {
        "unavailability: api_cache": "unknown",
        "unavailability: sessions": "unknown",
        "recovery": "pass",
    },
    "connection-storm": {
        "unavailability: sessions": "pass",
        "recovery": "pass",
        "connection_storm": "unknown",
    },
    "lag-then-crash": {"lost_writes": "pass", "stale_reads: sessions": "pass", "recovery": "pass"},
    "loading-replica": {
        "lost_writes": "pass",
        "unavailability: sessions.write": "pass",
        "recovery": "pass",
    },
    "max-clients": {"lost_writes": "pass", "recovery": "pass"},
    "memcached-scale-out": {
        "unavailability: api_cache.read": "pass",
        "remap: api_cache": "pass",
        "recovery": "pass",
    },
    "memcached-node-loss": {
        "unavailability: api_cache": "pass",
        "unavailability: sessions": "unknown",
        "recovery": "pass",
        "remap: api_cache": "pass",
    },
    "oom-noeviction": {
        "lost_writes": "pass",
        "unavailability: sessions.read": "pass",
        "unavailability: sessions.write": "pass",
        "recovery": "pass",
        "alarms: redis-memory-high": "pass",
    },
    "primary-crash": {
        "lost_writes": "pass",
        "unavailability: sessions.write": "pass",
        "recovery": "pass",
    },
    "primary-hang": {
        "lost_writes": "pass",
        "split_brain": "pass",
        "unavailability: sessions.write": "pass",
        "recovery": "pass",
    },
    "rolling-replacement": {
        "lost_writes": "pass",
        "unavailability: sessions": "pass",
        "unavailability: api_cache": "pass",
        "recovery": "pass",
    },
    "stale-endpoint": {
        "lost_writes": "pass",
        "unavailability: sessions": "pass",
        "recovery": "pass",
    },
    "whole-region-power-loss": {
        "lost_writes": "pass",
        "unavailability: sessions": "pass",
        "recovery": "pass",
    },
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make as many runs of each as were asked for."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("shipped_runs")))


def test_each_has_its_verdicts() -> None:
    """None is left out."""
    assert set(VERDICTS) == set(shipped())


@pytest.mark.parametrize("name", VERDICTS)
def test_shipped(name: str, seed: int, tmp_path: Path) -> None:
    """It says what it said when it was written."""
    arguments = [name, "--backend", "embedded", "--speed", "30", "--seed", str(seed)]
    result = CliRunner().invoke(main, ["run", *arguments, "--record", str(tmp_path / "it")])
    record = json.loads((tmp_path / "it" / "record.json").read_text())
    found = {it["name"]: it["result"] for it in record["verdicts"]}
    assert found == VERDICTS[name], result.output
