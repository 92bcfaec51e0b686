"""A control plane for each test."""

import pytest

from tests.control_plane.play import Play


@pytest.fixture
def play() -> Play:
    """Return a control plane over a healthy shard, at production's speed."""
    return Play()
