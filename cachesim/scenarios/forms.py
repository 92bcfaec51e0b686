"""The form of a scenario file, version 1, as pydantic models.

Times are in seconds and shares from 0 to 1, read from text with a unit. The fields of a fault are
extra fields of its step: `cachesim.scenarios.rules` checks them, and what concerns several steps.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from cachesim.scenarios.expected import Expect
from cachesim.scenarios.form_fields import Form, Positive, Rate, Seconds, Share
from cachesim.scenarios.targets import Target

# --- the run ----------------------------------------------------------------------------------


class Steady(Form):
    """What a service has to be like before the first fault."""

    good: Share | None = Field(default=None, description="The share of operations that are good.")
    hit_rate: Share | None = Field(
        default=None, description="The share of reads that find something."
    )


class Baseline(Form):
    """The time before the timeline begins. Without a steady baseline there is no verdict."""

    length: Positive = Field(default=10.0, alias="for", description="How long it is, in real time.")
    steady: dict[str, Steady] = Field(default={}, description="By service.")


class Client(Form):
    """What the client under test declares. A verdict at a speed above 1 needs it."""

    patience: Seconds | None = Field(
        default=None,
        description="The longest that a call may take, with all retries, and still succeed.",
    )
    comeback: Seconds | None = Field(
        default=None, description="The longest until a node that was given up is tried again."
    )


class Traffic(Form):
    """The operations of one service."""

    rate: Rate = Field(description="Operations a second over all pods, real.")
    population: int = Field(
        default=1000, ge=1, le=10_000_000, description="Sessions, or cached answers."
    )


class Sessions(Traffic):
    """The sessions in Redis."""

    replicas: bool = Field(default=False, description="Whether the client reads from replicas too.")


class ApiCache(Traffic):
    """The API cache in Memcached."""

    discovery: bool = Field(
        default=False,
        description="Whether the client asks the configuration endpoint for the nodes, each 60 s.",
    )


class Origin(Form):
    """What the API cache loads from on a miss."""

    latency: Seconds = Field(default=0.05, description="The time of a load, real.")
    capacity: Rate = Field(default=200.0, description="The most loads a second.")


class Workload(Form):
    """The operations that run during the timeline: the architecture's, or a user's own."""

    pods: int = Field(default=10, ge=1, le=200, description="Processes of the service.")
    sessions: Sessions | None = Field(default=None, description="Sessions in Redis.")
    api_cache: ApiCache | None = Field(
        default=None, description="A read-through cache in Memcached."
    )
    origin: Origin = Field(default=Origin(), description="Behind the API cache.")
    python: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
        description="A function of yours instead, as `package.module:function`.",
    )

    @property
    def traffic(self) -> dict[str, Traffic]:
        """The built-in operations by service: those that are given, or by default both."""
        given = {"sessions": self.sessions, "api_cache": self.api_cache}
        found: dict[str, Traffic] = {k: it for k, it in given.items() if it is not None}
        if found or self.python is not None:
            return found
        return {
            "sessions": Sessions(rate=100.0, population=5000),
            "api_cache": ApiCache(rate=300.0, population=2000),
        }


class StopIf(Form):
    """When a run is cut short."""

    share: Share = Field(description="The share of bad operations that is too much.")
    length: Positive = Field(alias="for", description="How long it has to last.")
    not_before: str | None = Field(
        default=None, description="The id of a step that has to begin first."
    )


# --- the timeline -----------------------------------------------------------------------------

EventName = Literal[
    "primary-lost",
    "failover-started",
    "failover-completed",
    "node-recovering",
    "node-recovered",
]


class AfterEvent(Form):
    """A step begins after an event of the control plane."""

    event: EventName = Field(description="What has to happen.")
    nth: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Which of them since the baseline's end: 1 is the first.",
    )
    within: Positive = Field(
        default=300.0,
        description="The longest wait, from the begin of the step before it in the file.",
    )


After = Annotated[
    Annotated[str, Tag("text")] | Annotated[AfterEvent, Tag("form")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "form"),
]


class Flap(Form):
    """A fault that comes and goes while its step lasts. It begins with coming."""

    on: Positive = Field(description="How long it is there each time.")
    off: Positive = Field(description="How long it is away each time.")
    clock: Literal["real", "production"] = Field(
        default="production", description="Which time that is. `real` stays the same at any speed."
    )


class Ramp(Form):
    """A number of a fault that changes evenly, then stays."""

    begin: Any = Field(alias="from", description="The first value.")
    end: Any = Field(alias="to", description="The last value.")
    over: Positive = Field(description="How long the change takes.")


class Action(Form):
    """A fault and its target. Extra fields are the fault's own."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    fault: str | None = Field(default=None, description="The fault's name.")
    target: Target | None = Field(default=None, description="What the fault works on.")
    flap: Flap | None = Field(
        default=None, description="How it comes and goes while the step lasts."
    )
    if_none: Literal["fail", "skip", "wait"] = Field(
        default="fail",
        description="If there is no target when it fires, or its event does not come: the verdict "
        "is unknown (`fail`), or the step is left out (`skip`). With `wait` it fires as soon as "
        "there is a target.",
    )


class Choice(Action):
    """One of several actions, of which the seed draws one."""

    weight: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=1, description="How often it is drawn, beside the others' weights."
    )


class Step(Action):
    """One step of the timeline. It begins `at` a time or `after` something."""

    id: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Its name. By default the fault's.",
    )
    at: Seconds | None = Field(
        default=None, description="From the end of the baseline, production time."
    )
    after: After | None = Field(
        default=None, description="An earlier step, as `id.ended` or `id.began`, or an event."
    )
    delay: Seconds = Field(
        default=0.0, description="The time between what `after` says and the begin."
    )
    every: Positive | None = Field(
        default=None, description="Again and again, from begin to begin."
    )
    times: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many times, with `every`. By default up to `duration`.",
    )
    hold: Positive = Field(
        default=60.0, alias="for", description="How long it lasts, then it is healed."
    )
    one_of: list[Choice] | None = Field(
        default=None, min_length=1, description="Instead of `fault`: the seed draws one of them."
    )


# --- all of it --------------------------------------------------------------------------------


class Scenario(Form):
    """A chaos scenario of cachesim."""

    version: Literal[1] = Field(description="The version of this form.")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60, description="Its name.")
    description: str = Field(
        default="", description="What it is about. The first line is its title."
    )
    baseline: Baseline = Field(default=Baseline(), description="The time before the timeline.")
    client: Client = Field(default=Client(), description="What your own client declares.")
    workload: Workload = Field(default=Workload(), description="The operations that run.")
    deadline: Positive = Field(
        default=1.0, description="An answer in this time is good, real time."
    )
    timeline: list[Step] = Field(min_length=1, description="The faults, in order.")
    duration: Positive | None = Field(
        default=None,
        description="The timeline's length, production time. By default it ends "
        "`expect.recovery.within` after the last heal, or 1 minute after it.",
    )
    stop_if: dict[str, StopIf] = Field(
        default={}, description="By `service.errors`: when the run is cut short."
    )
    expect: Expect = Field(default=Expect(), description="What the verdict is about.")
