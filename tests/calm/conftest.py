"""The number of runs, and their combinations of load and fault."""

import random
from itertools import cycle, islice, product
from typing import NamedTuple

import pytest

from tests.calm.loads import LOADS


class Run(NamedTuple):
    """What a run is of."""

    backend: str
    speed: int
    load: str


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make as many runs as were asked for, of all sorts."""
    if "run" in metafunc.fixturenames:
        runs = [Run(*run) for run in product(("embedded", "docker"), (1, 30, 100), sorted(LOADS))]
        random.Random(7).shuffle(runs)
        chosen = islice(cycle(runs), metafunc.config.getoption("calm_runs"))
        metafunc.parametrize("run", list(chosen), ids=lambda run: "-".join(map(str, run)))


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest) -> None:
    if request.getfixturevalue("run").backend == "docker":
        request.getfixturevalue("require_docker")
