"""The states of a shard, and the table of transitions between them."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """The state of a shard."""

    AVAILABLE = "available"
    DETECTING = "detecting"
    PROMOTING = "promoting"
    REPLACING = "replacing"


class Signal(StrEnum):
    """A reason to change the state."""

    PRIMARY_LOST = "primary lost"
    PRIMARY_BACK = "primary back"
    DETECTED = "detected"
    REQUESTED = "failover requested"
    PROMOTED = "promoted"
    REPLACED = "replaced"
    STILL_REPLACING = "an old primary is still away"


TRANSITIONS: Mapping[tuple[State, Signal], State] = {
    (State.AVAILABLE, Signal.PRIMARY_LOST): State.DETECTING,
    (State.AVAILABLE, Signal.REQUESTED): State.PROMOTING,
    (State.AVAILABLE, Signal.STILL_REPLACING): State.REPLACING,
    (State.DETECTING, Signal.PRIMARY_BACK): State.AVAILABLE,
    (State.DETECTING, Signal.DETECTED): State.PROMOTING,
    (State.PROMOTING, Signal.PRIMARY_BACK): State.AVAILABLE,
    (State.PROMOTING, Signal.PROMOTED): State.REPLACING,
    (State.REPLACING, Signal.PRIMARY_LOST): State.DETECTING,
    (State.REPLACING, Signal.REQUESTED): State.PROMOTING,
    (State.REPLACING, Signal.REPLACED): State.AVAILABLE,
}
