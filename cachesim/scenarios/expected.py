"""What a scenario file expects, as pydantic models; see `cachesim.scenarios.forms`."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    PlainValidator,
    WithJsonSchema,
)

from cachesim.scenarios import units
from cachesim.scenarios.form_fields import Form, Positive, Rate, Share, text


def _number_or_bound(value: object) -> object:
    if value == "bound" or (type(value) is int and value >= 0):
        return value
    raise ValueError(f"should be a number from 0, or bound, got {value!r}")


_NUMBER_OR_BOUND = WithJsonSchema(
    {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "bound"}]}
)


def _age(value: object) -> object:
    return value if value in ("bound", "ttl") else units.seconds_above_zero(value)


_AGE = text(units.TIME, {"enum": ["bound", "ttl"]})


class LostWrites(Form):
    """Acknowledged writes that are gone."""

    max: Annotated[int | Literal["bound"], PlainValidator(_number_or_bound), _NUMBER_OR_BOUND] = (
        Field(
            description="The most of them. `bound`: as many as such a fault may cost in production."
        )
    )


class SplitBrain(Form):
    """Writes that a former primary acknowledged."""

    max: int = Field(default=0, ge=0, description="The most of them.")


class StaleReads(Form):
    """Reads that returned an older version."""

    max: Annotated[float | Literal["bound", "ttl"], PlainValidator(_age), _AGE] = Field(
        default="bound",
        description="The greatest age. `bound`: what the lag allows. `ttl`: the TTL.",
    )


class Unavailability(Form):
    """Time in which a service was not served."""

    longest: Positive | None = Field(
        default=None, description="The longest outage, production time."
    )
    total: Positive | None = Field(
        default=None, description="All outages together, production time."
    )


class ErrorBudget(Form):
    """Bad operations."""

    max: Share = Field(description="The largest share of them.")


class Recovery(Form):
    """The time from the last heal until all is as before."""

    within: Positive = Field(default=60.0, description="The longest, production time.")


class ConnectionStorm(Form):
    """New connections."""

    max: Annotated[int, Field(ge=1)] = Field(description="The most in a second on one node.")


class Remap(Form):
    """Keys that are asked of another node."""

    max: Share = Field(
        description="The largest share of the keys whose own node has no fault. A consistent hash "
        "moves none of them."
    )


class Herd(Form):
    """Loads of the origin."""

    same_key: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The most loads of one key under way at once."
    )
    loads: Rate | None = Field(default=None, description="The most that begin within a second.")
    refused: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="The most that are beyond the origin's capacity."
    )


class HitRate(Form):
    """Reads of a cache that find something."""

    min: Share = Field(description="The lowest share of them, over any 10 s.")


class Alarm(Form):
    """An alarm of the topology: the architecture's, or of the setting `alarms`."""

    fires: bool = Field(default=True, description="Whether it fires after the first fault.")
    within: Positive | None = Field(
        default=None, description="The longest time from the first fault, production time."
    )


class Expect(Form):
    """What the verdict is about. What is left out is measured, not judged."""

    lost_writes: LostWrites | None = Field(
        default=None, description="Acknowledged writes that are gone."
    )
    split_brain: SplitBrain | None = Field(default=None, description="Writes of a former primary.")
    stale_reads: dict[str, StaleReads] = Field(default={}, description="By service.")
    unavailability: dict[str, Unavailability] = Field(
        default={}, description="By service, or `service.read` and `service.write`."
    )
    error_budget: dict[str, ErrorBudget] = Field(
        default={}, description="By service, or `service.read` and `service.write`."
    )
    recovery: Recovery | None = Field(default=None, description="The time until all is as before.")
    connection_storm: ConnectionStorm | None = Field(default=None, description="New connections.")
    remap: dict[str, Remap] = Field(default={}, description="By service.")
    herd: Herd | None = Field(default=None, description="Loads of the origin.")
    hit_rate: dict[str, HitRate] = Field(default={}, description="By service.")
    alarms: dict[str, Alarm] = Field(default={}, description="By the alarm's name.")
