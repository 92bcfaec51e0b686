"""Programs in other languages, given nothing but our variables, live through a failover."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cachesim import Fault, Simulator
from tests.clients.programs import HERE, RECIPES, NotBuilt, Program, build
from tests.contract.helpers import through_link

# A Java process begins, with a first TLS handshake, on a machine that is busy with other tests.
START = 60.0
# The libraries' time, not ours: go-redis looks for a new primary when what it knows is 10 s old,
# and Jedis spends up to 10 s on its 5 attempts and then begins anew. Measured: up to 12 s (see
# README.md), and thrice that for a machine that is busy with other tests.
RECOVERY = 40.0
PROMISE = 0.1  # seconds that the control plane's promise is kept to


@pytest.fixture(scope="module")
def shared(backend: str) -> Iterator[Simulator]:
    """A running topology for all tests."""
    with Simulator(backend=backend, speed=30, seed=7) as sim:
        yield sim


@pytest.fixture
def sim(shared: Simulator, request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """The running topology, as new."""
    shared.reset(request.node.name)
    yield shared
    shared.heal()


@pytest.fixture(scope="session", params=RECIPES)
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A program's name, and the folder that it was built in."""
    folder = tmp_path_factory.mktemp("clients") / request.param
    try:
        build(request.param, folder)
    except NotBuilt as error:
        if os.environ.get("CACHESIM_REQUIRE_CLIENTS", "0") not in ("", "0"):
            pytest.fail(f"CACHESIM_REQUIRE_CLIENTS is set, but {error}")
        pytest.skip(str(error))
    return request.param, folder


def kill(sim: Simulator) -> Fault:
    """Connections are closed."""
    return sim.redis.primary.kill()


def isolate(sim: Simulator) -> Fault:
    """Connections hang."""
    return sim.faults.isolate(sim.redis.primary.zone)


# What hangs is noticed by a timeout alone, so that one is asked for: 1 s.
LOSSES: dict[Callable[[Simulator], Fault], tuple[str, ...]] = {kill: (), isolate: ("1",)}


@pytest.mark.parametrize("how", LOSSES)
def test_failover(
    program: tuple[str, Path], sim: Simulator, how: Callable[[Simulator], Fault]
) -> None:
    """It stops writing when the primary is lost, and goes on writing on the promoted node."""
    name, folder = program
    with Program(name, folder, sim.env(), LOSSES[how]) as client:
        client.wait_for("ready", START)
        mark = sim.events.mark()
        with how(sim):
            (fault,) = sim.events.of("fault", mark)
            new = sim.redis.wait_for_failover()
            (detecting,) = sim.events.of("detecting", mark)
            promised = detecting.data["promised_at"] - PROMISE
            recovered = client.wait_for("recovered", RECOVERY, after=promised)
            # It tells for how many milliseconds no write of its was accepted.
            assert int(recovered.text.split()[1]) / 1000 >= promised - fault.at

            client.stop()
            done = client.wait_for("done", RECOVERY)
            assert client.exit_code(RECOVERY) == 0
            assert through_link(sim, new.name).get("counter") == done.text.split()[1]


def test_how_to_shows_the_programs() -> None:
    """Each piece of code in the how-to is what a program has, line by line."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    sources = [
        _stripped((HERE / name / recipe.source).read_text(encoding="utf-8"))
        for name, recipe in RECIPES.items()
    ]
    blocks = re.findall(r"^```(?:sh|js|go|java)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= len(RECIPES)
    for block in blocks:
        assert any(_stripped(block) in source for source in sources), block


def _stripped(code: str) -> str:
    return "".join(f"{line.strip()}\n" for line in code.splitlines())
