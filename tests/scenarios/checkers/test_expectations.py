"""What scenario files expect is what checkers take."""

import pytest

from cachesim.scenarios import files, timeline
from cachesim.scenarios.checkers.expectations import CHECKERS, read


@pytest.mark.parametrize("name", files.library())
def test_shipped_scenarios(name: str) -> None:
    """Every expectation of a shipped scenario has its checker."""
    planned = timeline.plan(files.read(files.library()[name], name), seed=1)
    found = list(read(planned.expect))
    assert found
    assert {type(it) for it in found} <= CHECKERS.keys()
