"""Fixtures of the tests of runs."""

from pathlib import Path

import pytest

from cachesim.runs.files import RunFiles


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:
    """No other topologies than a test's own."""


@pytest.fixture
def up() -> RunFiles:
    """The files of a topology that is up."""
    files = RunFiles("one", b"pem", "to ken")
    files.save_env(
        {"CACHESIM_REDIS_PASSWORD": "to ken", "CACHESIM_REDIS_URL": "//to ken@", "CACHESIM_X": "x"}
    )
    return files
