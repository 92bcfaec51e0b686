"""The table of transitions."""

import random
from collections.abc import Callable

import pytest

from cachesim.control_plane import failover
from cachesim.control_plane.states import TRANSITIONS, Signal, State
from tests.control_plane.play import PROMOTION, Play


def detecting(play: Play) -> None:
    """Lose the primary."""
    play.down(play.plane.shard().primary)


def promoting(play: Play) -> None:
    """Lose the primary for as long as a detection takes."""
    detecting(play)
    play.until_state(State.PROMOTING)


def replacing(play: Play) -> None:
    """Lose the primary for good."""
    detecting(play)
    play.until_state(State.REPLACING)


def detecting_again(play: Play) -> None:
    """Lose the new primary too, while the old one is away."""
    replacing(play)
    detecting(play)


def nothing(play: Play) -> None:
    """Leave all as it is."""


def primary_back(play: Play) -> None:
    """Let the primary answer again, and wait for what is due."""
    play.up(play.plane.shard().primary)
    play.run(PROMOTION[1])


def wait(play: Play) -> None:
    """Wait until the shard is in another state."""
    before = play.state()
    while play.state() is before:
        play.tick()


def request(play: Play) -> None:
    """Call TestFailover."""
    play.plane.failover()


WAYS: dict[tuple[State, Signal], tuple[Callable[[Play], None], Callable[[Play], None]]] = {
    (State.AVAILABLE, Signal.PRIMARY_LOST): (nothing, detecting),
    (State.AVAILABLE, Signal.REQUESTED): (nothing, request),
    (State.AVAILABLE, Signal.STILL_REPLACING): (detecting_again, primary_back),
    (State.DETECTING, Signal.PRIMARY_BACK): (detecting, primary_back),
    (State.DETECTING, Signal.DETECTED): (detecting, wait),
    (State.PROMOTING, Signal.PRIMARY_BACK): (promoting, primary_back),
    (State.PROMOTING, Signal.PROMOTED): (promoting, wait),
    (State.REPLACING, Signal.PRIMARY_LOST): (replacing, detecting),
    (State.REPLACING, Signal.REQUESTED): (replacing, request),
    (State.REPLACING, Signal.REPLACED): (replacing, wait),
}
"""How to come near a transition, and then how to bring it about."""


class Table(dict[tuple[State, Signal], State]):
    """The table, which notes what is looked up.

    Attributes:
        taken: the transitions, in order: a tick may make several.
    """

    def __init__(self) -> None:
        super().__init__(TRANSITIONS)
        self.taken: list[tuple[State, Signal]] = []

    def __getitem__(self, key: tuple[State, Signal]) -> State:
        self.taken.append(key)
        return super().__getitem__(key)


@pytest.mark.parametrize(("state", "signal"), TRANSITIONS)
def test_transition(
    play: Play, monkeypatch: pytest.MonkeyPatch, state: State, signal: Signal
) -> None:
    """Every transition of the table can be brought about, and leads where the table says."""
    table = Table()
    reach, give = WAYS[state, signal]
    reach(play)
    monkeypatch.setattr(failover, "TRANSITIONS", table)
    give(play)
    assert table.taken[-1] == (state, signal)
    assert play.state() is TRANSITIONS[state, signal]


def test_every_state_is_reached_and_left() -> None:
    """From every state every other can be reached."""
    for start in State:
        reached = {start}
        for _ in State:
            reached |= {to for (state, _), to in TRANSITIONS.items() if state in reached}
        assert reached == set(State)


@pytest.mark.parametrize("seed", range(30))
def test_no_signal_outside_the_table(seed: int) -> None:
    """Whatever happens to the nodes, a tick never needs a transition that the table lacks."""
    chance = random.Random(seed)
    play = Play(seed=str(seed), speed=30)
    redis = ["redis-a", "redis-b", "redis-c"]
    for _ in range(400):
        node = play.shard.nodes[chance.choice(list(play.shard.nodes))]
        match chance.randrange(8):
            case 0:
                node.up = False
            case 1 | 2:
                node.up = True
            case 3:
                play.shard.silent.clear()
            case 4:
                play.cut_off(*redis, speaker=play.plane.shard().primary)
            case 5:
                node.knows = not node.knows
            case 6:
                play.shard.unpowered ^= {chance.choice("abc")}
            case 7 if play.state() in (State.AVAILABLE, State.REPLACING):
                play.plane.failover()
        play.tick(chance.uniform(0.0, 0.5), look=chance.random() < 0.9)
        assert play.state() in State
