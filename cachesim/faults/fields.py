"""The kinds of fields that a fault can have.

Each kind checks a value and has its JSON form, its JSON Schema, its unit, its bounds and its help.
"""

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar

from cachesim.errors import InvalidFault, UnknownName
from cachesim.faults.named import name_of, names_of
from cachesim.faults.named import unknown as unknown
from cachesim.topology import ENDPOINTS, Link, Node, Topology, Zone
from cachesim.toxiproxy.toxics import BOTH, TOXICS, Stream, Toxic


class Part(StrEnum):
    """A part of a topology that a field can name."""

    LINK = "link"
    NODE = "node"
    REDIS_NODE = "Redis node"
    ZONE = "zone"
    ENDPOINT = "configuration endpoint"

    def names(self, topology: Topology) -> list[str]:
        """Return the names of a topology's parts of this kind."""
        if self is Part.ENDPOINT:
            return [link.target for link in topology.links if link.target_zone == ENDPOINTS]
        parts: dict[Part, Iterable[Link | Node | Zone]] = {
            Part.LINK: topology.links,
            Part.NODE: topology.nodes,
            Part.REDIS_NODE: topology.redis,
            Part.ZONE: topology.zones,
        }
        return [part.name for part in parts[self]]

    def expand(self, names: Iterable[str], topology: Topology, where: str) -> tuple[str, ...]:
        """Return the full names that names stand for, each once.

        A name of links or nodes may be a pattern, such as `client-to-*`. A zone may be written as
        it is shown: `az-a`.

        Args:
            where: the names of fault and field, for the error.

        Raises:
            UnknownName: a name matches nothing.
        """
        known, found = self.names(topology), list[str]()
        for name in names:
            if name in known:
                here = [name]
            elif self is Part.ZONE:
                here = [zone for zone in known if str(Zone(zone)) == name]
            else:
                here = [it for it in known if fnmatch.fnmatchcase(it, name)]
            if not here:
                raise UnknownName(f"{where}: {unknown(self, name, known)}")
            found += here
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Field(ABC):
    """A kind of field, and the values that it may have.

    Attributes:
        help: one line for people.
        unit: such as `ms`; empty if there is none.
    """

    _type: ClassVar[str]
    help: str
    unit: str = ""

    @property
    def type(self) -> str:
        """The type, for people."""
        return self._type

    @property
    def bounds(self) -> str:
        """The bounds, for people; empty if there are none."""
        return ""

    @abstractmethod
    def check(self, value: Any, where: str) -> Any:
        """Check a value, from Python or from JSON, and return it as the fault keeps it.

        Args:
            where: the names of fault and field, for the error.

        Raises:
            InvalidFault: the value is of another type or out of bounds.
        """

    def resolve(self, value: Any, topology: Topology, where: str) -> Any:  # noqa: ARG002
        """Return a value with the full names of a topology.

        Raises:
            UnknownName: the topology lacks a name.
        """
        return value

    def as_json(self, value: Any) -> Any:
        """Return the JSON form of a value."""
        return value

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a value."""


@dataclass(frozen=True)
class Number(Field):
    """A number within bounds.

    Attributes:
        least: the smallest value.
        most: the largest value.
    """

    _type = "number"
    least: float = 0
    most: float = 0

    @property
    def bounds(self) -> str:
        """See `Field.bounds`."""
        return f"{_digits(self.least)} to {_digits(self.most)}"

    def check(self, value: Any, where: str) -> Any:
        """See `Field.check`."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.least <= value <= self.most:
            kind = "" if isinstance(value, int | float) else "a number "
            raise InvalidFault(f"{where} must be {kind}from {self.bounds}, got {value!r}")
        return value

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Seconds(Number):
    """A time in seconds."""

    unit: str = "s"


@dataclass(frozen=True)
class Whole(Number):
    """A whole number within bounds.

    Attributes:
        instead: the hint for a value that is too small.
    """

    _type = "whole number"
    instead: str = ""

    def check(self, value: Any, where: str) -> Any:
        """See `Field.check`."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidFault(f"{where} must be a whole number, got {value!r}")
        if value < self.least == 0:
            raise InvalidFault(f"{where} must not be negative, got {value}")
        if value < self.least:
            instead = f"; {self.instead}" if self.instead else ""
            least = f"{self.least} {self.unit}"
            raise InvalidFault(f"{where} must be at least {least}, got {value}{instead}")
        if value > self.most:
            raise InvalidFault(f"{where} must be at most {self.most} {self.unit}, got {value}")
        return value

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {**super().schema(), "type": "integer"}


@dataclass(frozen=True)
class Flag(Field):
    """True or false."""

    _type = "true or false"

    def check(self, value: Any, where: str) -> bool:
        """See `Field.check`."""
        if not isinstance(value, bool):
            raise InvalidFault(f"{where} must be true or false, got {value!r}")
        return value

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text(Field):
    """Any text that is not empty.

    Attributes:
        sample: a value, for examples.
    """

    _type = "text"
    sample: str = ""

    def check(self, value: Any, where: str) -> str:
        """See `Field.check`."""
        if not isinstance(value, str):
            raise InvalidFault(f"{where} must be {self.type}, got {value!r}")
        if not value:
            raise InvalidFault(f"{where} must not be empty")
        return value

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Name(Text):
    """The name of one part of the topology."""

    part: Part = Part.NODE

    @property
    def type(self) -> str:
        """See `Field.type`."""
        return f"the name of a {self.part}"

    def check(self, value: Any, where: str) -> str:
        """See `Field.check`."""
        return super().check(name_of(value), where)

    def resolve(self, value: Any, topology: Topology, where: str) -> str:
        """See `Field.resolve`."""
        one, *others = self.part.expand([value], topology, where)
        if others:
            raise InvalidFault(f"{where} must be one {self.part}, got {value!r}")
        return one


@dataclass(frozen=True)
class Names(Field):
    """The names of one or more parts of the topology."""

    part: Part = Part.NODE

    @property
    def type(self) -> str:
        """See `Field.type`."""
        return f"list of {self.part}s"

    def check(self, value: Any, where: str) -> tuple[str, ...]:
        """See `Field.check`."""
        items = _list(names_of(value), f"{where} must be a list with the names of {self.part}s")
        if not items:
            raise InvalidFault(f"{where}: no {self.part}s were chosen: name at least one")
        for item in items:
            if not isinstance(item, str) or not item:
                raise InvalidFault(f"{where} must have the names of {self.part}s, got {item!r}")
        return tuple(dict.fromkeys(items))

    def resolve(self, value: Any, topology: Topology, where: str) -> tuple[str, ...]:
        """See `Field.resolve`."""
        return self.part.expand(value, topology, where)

    def as_json(self, value: Any) -> list[str]:
        """See `Field.as_json`."""
        return list(value)

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        name = {"type": "string", "minLength": 1}
        return {"anyOf": [{"type": "array", "items": name, "minItems": 1}, name]}


@dataclass(frozen=True)
class Streams(Field):
    """The streams that a toxic works on."""

    _type = f"list of {', '.join(BOTH)}"

    def check(self, value: Any, where: str) -> tuple[Stream, ...]:
        """See `Field.check`."""
        items = _list(value, f"{where} must be a list")
        if not items:
            raise InvalidFault(f"{where} must have at least one of {', '.join(BOTH)}")
        for item in items:
            if item not in BOTH:
                raise InvalidFault(f"{where}: {unknown('stream', item, BOTH)}")
        return tuple(Stream(item) for item in dict.fromkeys(items))

    def as_json(self, value: Any) -> list[str]:
        """See `Field.as_json`."""
        return [str(stream) for stream in value]

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"type": "array", "items": {"enum": [str(s) for s in BOTH]}, "minItems": 1}


@dataclass(frozen=True)
class OneToxic(Field):
    """A toxic, in JSON with `type` and `attributes` as Toxiproxy's API has them."""

    _type = "toxic"

    def check(self, value: Any, where: str) -> Toxic:
        """See `Field.check`."""
        toxic = value if isinstance(value, Toxic) else self._read(value, where)
        try:
            toxic.check_effect()
        except ValueError as error:
            raise InvalidFault(f"{where}: {error}") from error
        return toxic

    def _read(self, value: Any, where: str) -> Toxic:
        if not isinstance(value, Mapping) or value.keys() != {"type", "attributes"}:
            raise InvalidFault(
                f"{where} must be a toxic, in JSON with `type` and `attributes`, got {value!r}"
            )
        types = {cls.type: cls for cls in TOXICS}
        cls = types.get(value["type"]) if isinstance(value["type"], str) else None
        if cls is None:
            raise InvalidFault(f"{where}: {unknown('type of toxic', value['type'], types)}")
        try:
            return cls(**members(value["attributes"], cls, f"{where}: {cls.type}"))
        except InvalidFault:
            raise
        except ValueError as error:
            raise InvalidFault(f"{where}: {error}") from error

    def as_json(self, value: Any) -> dict[str, Any]:
        """See `Field.as_json`."""
        return {"type": value.type, "attributes": value.attributes}

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"oneOf": [_toxic_schema(cls) for cls in TOXICS]}


def members(data: Any, cls: type[Any], where: str) -> dict[str, Any]:
    """Return the arguments for a dataclass from a JSON object.

    Raises:
        InvalidFault: it is not an object, a field is unknown, or one is missing.
    """
    if not isinstance(data, Mapping):
        raise InvalidFault(f"{where} must be an object, got {data!r}")
    known = {field.name: field for field in fields(cls)}
    for name in data:
        if name not in known:
            raise InvalidFault(f"{where}: {unknown('field', name, known)}")
    for name, field in known.items():
        if name not in data and field.default is MISSING:
            raise InvalidFault(f"{where}: {name} is missing")
    return dict(data)


def _toxic_schema(cls: type[Toxic]) -> dict[str, Any]:
    attributes = {
        field.name: {"type": "integer", "minimum": 0, "maximum": cls.largest}
        for field in fields(cls)
    }
    required = [field.name for field in fields(cls) if field.default is MISSING]
    return strict_object(
        {"type": {"const": cls.type}, "attributes": strict_object(attributes, required)},
        ["type", "attributes"],
    )


def strict_object(properties: Mapping[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of an object that has no other properties."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(value: Any, problem: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidFault(f"{problem}, got {value!r}")
    return list(value)


def _digits(number: float) -> str:
    """Return a number as text without an exponent."""
    return str(number) if isinstance(number, int) else f"{number:f}".rstrip("0").rstrip(".")
