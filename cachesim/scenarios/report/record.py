"""The record of a run, `record.json`: what every report is made from. Data, no I/O.

Times named `begin`, `end` or `at` are seconds, real, from the end of the baseline: those in it are
negative. Lengths are seconds; where a form says production, they are production's.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Result = Literal["pass", "fail", "unknown"]


class Part(BaseModel):
    """Base of all parts of a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Part):
    """From the least to the most that a figure may be."""

    low: float
    high: float | None = Field(description="Null: without an upper limit.")

    @classmethod
    def of(cls, low: float, high: float) -> Self:
        """Return an interval whose upper end may be infinite."""
        return cls(low=low, high=None if high == float("inf") else high)


class Finding(Part):
    """What one checker says."""

    name: str = Field(description="The checker, with the class of operations if it judges one.")
    title: str = Field(description="The same for people.")
    result: Result
    low: float | None = Field(description="The least that the figure may be. Null: no figure.")
    high: float | None = Field(description="The most that it may be.")
    unbounded: bool = Field(description="Whether the most has no limit; `high` is null then.")
    unit: str
    threshold: float | None = Field(description="What the figure must not exceed.")
    reason: str
    meaning: str = Field(description="What it says of the service.")
    details: dict[str, Any]


class PodFigures(Part):
    """The operations of one class that one pod made."""

    pod: str
    due: int
    bad: int
    longest_outage: float = Field(description="As measured, in real seconds.")


class ClassFigures(Part):
    """The operations of one class: a service's reads, or its writes."""

    name: str
    service: str
    due: int
    bad: int
    undecided: int = Field(description="Under way when the run ended, before their deadline.")
    errors: dict[str, int] = Field(description="How many were bad, by error.")
    p50: float | None = Field(description="Of the latency of good ones, in seconds.")
    p99: float | None
    slowest: float | None
    average_pod: float = Field(description="The share of bad operations of the average pod.")
    worst_pod: PodFigures | None


class SplitPart(Part):
    """One part of an outage, in production seconds."""

    name: Literal["detection", "promotion", "fault", "client"]
    title: str
    length: Interval
    note: str


class Split(Part):
    """What one outage consists of."""

    name: str = Field(description="The class of operations.")
    what: str = Field(description="What happened.")
    begin: float
    end: float
    parts: list[SplitPart]
    total: Interval = Field(description="Production seconds.")
    shorten: str = Field(description="Which part to shorten, and how.")


class Cost(Part):
    """What the outages of a class cost at production's rates."""

    name: str
    seconds: Interval = Field(description="All outages together, production seconds.")
    rate: float = Field(description="Operations of the class a second.")
    requests: Interval = Field(description="How many of them that is.")
    is_production: bool = Field(description="Whether the rate is production's, not the run's own.")
    budget_share: Interval = Field(description="Of what 99.9 % a month allows. 1 is all of it.")


class Cause(Part):
    """A constant of the client that made it so."""

    service: str
    constant: str = Field(description="`socket_timeout 0.5 s x 11 tries`.")
    observed: str
    remedy: str


class StepRecord(Part):
    """One step of the timeline, as it happened."""

    id: str
    fault: dict[str, Any]
    target: str
    begin: float | None
    begin_confirmed: float | None
    end: float | None
    end_confirmed: float | None
    outcome: str
    witness: str = Field(description="What was seen of its effect.")
    problem: str = Field(description="Why it can't be taken to have happened. Empty: it did.")


class EventRecord(Part):
    """One event of the control plane, of a fault or of a node."""

    at: float
    kind: str
    source: str
    message: str


class Scenario(Part):
    """What was run."""

    name: str
    description: str
    seed: int | None
    expect: dict[str, Any]
    timeline: dict[str, Any] = Field(description="Resolved: its draws are made.")


class Environment(Part):
    """Where it ran."""

    backend: str | None
    speed: float
    is_cut: bool = Field(description="Whether idle holds were cut: `--quiet-cut`.")
    settings: dict[str, Any]
    versions: dict[str, Any]
    client: dict[str, Any] = Field(description="What the client declares, in seconds.")
    clients: dict[str, dict[str, Any]] = Field(
        description="The same of each service's own client, where they differ."
    )
    pods: int | None
    pool: int | None
    deadline: float


class Record(Part):
    """The record of a run of a scenario of cachesim."""

    version: Literal[1] = 1
    scenario: Scenario
    environment: Environment
    begun: str | None = Field(description="When, in UTC, ISO 8601.")
    begin: float = Field(description="When the baseline began; negative.")
    end: float = Field(description="When the workload ended.")
    interrupted: str | None
    again: str = Field(description="The command that does it again.")
    run: Finding
    gates: list[Finding]
    verdicts: list[Finding]
    classes: list[ClassFigures]
    splits: list[Split]
    costs: list[Cost]
    causes: list[Cause]
    untested: list[str]
    steps: list[StepRecord]
    events: list[EventRecord]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `record.json`."""
    made = Record.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
