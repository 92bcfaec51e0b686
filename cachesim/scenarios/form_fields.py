"""The values of a scenario file: quantities with units, from text."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    WithJsonSchema,
)

from cachesim.scenarios import units


def text(pattern: str, *others: dict[str, Any]) -> WithJsonSchema:
    """Return the JSON Schema of a text of this pattern, or of one of the others."""
    schema = {"type": "string", "pattern": pattern}
    return WithJsonSchema({"anyOf": [schema, *others]} if others else schema)


Seconds = Annotated[
    float, BeforeValidator(units.seconds), text(units.TIME, {"type": "integer", "const": 0})
]
Positive = Annotated[float, BeforeValidator(units.seconds_above_zero), text(units.TIME)]
Share = Annotated[float, BeforeValidator(units.share), text(units.SHARE)]
Rate = Annotated[
    float,
    BeforeValidator(units.rate),
    text(units.RATE, {"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000}),
]


class Form(BaseModel):
    """Base of all parts of a file: no other keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
