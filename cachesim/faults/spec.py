"""A fault as a value: the base of all faults of the catalogue. Data, no I/O."""

import dataclasses
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, ClassVar, Self

from cachesim.errors import InvalidFault
from cachesim.faults.fields import Field, Name, Names, Part, Whole, strict_object
from cachesim.topology import Topology, Zone

KEY = "fault"
"""The key of a fault's name in JSON."""


@dataclass(frozen=True)
class FaultSpec:
    """Base of all faults. The first line of a fault's docstring is its help.

    A subclass is a frozen dataclass. The annotation of each field is `Annotated` with its type and
    a `Field`. None stands for a field that was not given.

    Raises:
        InvalidFault: a field is wrong.

    Attributes:
        name: the fault's name in JSON and on the command line.
        effect: what a client sees of the fault.
        strength: the field that says how strong it is, which may grow. None: it is there or not.
        is_of_emulated: whether only emulated nodes can have it.
    """

    name: ClassVar[str]
    effect: ClassVar[str]
    strength: ClassVar[str | None] = None
    is_of_emulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, field in self.fields().items():
            value = getattr(self, name)
            if value is not None or name in self.required():
                object.__setattr__(self, name, field.check(value, f"{self.name}: {name}"))
        self.check()

    def check(self) -> None:
        """Check rules that concern several fields.

        Raises:
            InvalidFault: the fields do not go together.
        """

    @property
    def kind(self) -> str:
        """The fault's name in the event log, such as `latency of 5 ms`."""
        return self.name

    @property
    def target(self) -> str:
        """The fault's links, nodes or zones in the event log, such as `az-a|az-b`.

        The names must be resolved.
        """
        for name, field in self.fields().items():
            value = getattr(self, name)
            if isinstance(field, Name):
                return str(Zone(value)) if field.part is Part.ZONE else str(value)
            if isinstance(field, Names):
                first, *others = value
                if field.part is Part.LINK and others:
                    return f"{first} and {len(others)} more"
                return ", ".join(value)
        return ""

    def resolve(self, topology: Topology) -> Self:
        """Return the same fault with the full names of a topology, and patterns expanded.

        Raises:
            UnknownName: the topology lacks a name. The message has the nearest one, and all names.
        """
        given = {name: getattr(self, name) for name in self.fields()}
        found = {
            name: field.resolve(given[name], topology, f"{self.name}: {name}")
            for name, field in self.fields().items()
            if given[name] is not None
        }
        return dataclasses.replace(self, **found)

    def grown(self, level: float) -> Self | None:
        """Return the fault at a share of its strength, 0 to 1. None: there is nothing of it."""
        if self.strength is None:
            return self if level else None
        field, full = self.fields()[self.strength], getattr(self, self.strength)
        value = round(full * level) if isinstance(field, Whole) else full * level
        try:
            return dataclasses.replace(self, **{self.strength: value}) if level else None
        except InvalidFault:  # less than what has an effect
            return None

    def as_dict(self) -> dict[str, Any]:
        """Return the fault's JSON form, with its name as `fault`. Fields not given are left out."""
        given = {name: getattr(self, name) for name in self.fields()}
        values = {k: self.fields()[k].as_json(v) for k, v in given.items() if v is not None}
        return {KEY: self.name, **values}

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """Return the fields by name, in their order."""
        # The annotation is an `Annotated`, which has its `Field` there.
        return {it.name: it.type.__metadata__[0] for it in dataclasses.fields(cls)}  # type: ignore[union-attr]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults of the fields that may be left out."""
        found = {it.name: it.default for it in dataclasses.fields(cls)}
        return {k: v for k, v in found.items() if v is not dataclasses.MISSING}

    @classmethod
    def required(cls) -> list[str]:
        """Return the names of the fields that have no default."""
        return [name for name in cls.fields() if name not in cls.defaults()]

    @classmethod
    def help(cls) -> str:
        """Return one line for people."""
        return cleandoc(cls.__doc__ or "").partition("\n")[0]

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of `as_dict`."""
        properties: dict[str, Any] = {KEY: {"const": cls.name}}
        defaults = cls.defaults()
        for name, field in cls.fields().items():
            properties[name] = {"description": field.help, **field.schema()}
            if (default := defaults.get(name)) is not None:
                properties[name]["default"] = field.as_json(default)
        schema = strict_object(properties, [KEY, *cls.required()])
        return {"description": cls.help(), **schema}
