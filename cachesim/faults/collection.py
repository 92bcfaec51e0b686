"""A set of faults, by name: reads their JSON forms, and has their schema. Data, no I/O."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cachesim.errors import InvalidFault
from cachesim.faults.fields import members, unknown
from cachesim.faults.spec import KEY, FaultSpec
from cachesim.topology import Topology


class Catalogue:
    """A set of faults, by name."""

    def __init__(self, faults: Iterable[type[FaultSpec]]) -> None:
        self._faults = {fault.name: fault for fault in faults}

    def __iter__(self) -> Iterator[type[FaultSpec]]:
        return iter(self._faults.values())

    def read(self, data: object) -> FaultSpec:
        """Return a fault that is given as a value or in its JSON form.

        Raises:
            InvalidFault: there is no such fault, or a field is wrong.
        """
        if isinstance(data, FaultSpec):
            if type(data) not in self._faults.values():
                raise InvalidFault(unknown("fault", data.name, self._faults))
            return data
        if not isinstance(data, Mapping):
            raise InvalidFault(f"a fault must be an object with the field `{KEY}`, got {data!r}")
        if KEY not in data:
            raise InvalidFault(
                f"the field `{KEY}` is missing. It has the fault's name: {', '.join(self._faults)}"
            )
        name = data[KEY]
        if not isinstance(name, str) or name not in self._faults:
            raise InvalidFault(unknown("fault", name, self._faults))
        cls = self._faults[name]
        values = members({k: v for k, v in data.items() if k != KEY}, cls, name)
        for field, value in values.items():
            if value is None:
                raise InvalidFault(f"{name}: {field} is null: leave it out, or give it a value")
        return cls(**values)

    def read_list(self, data: object, topology: Topology | None = None) -> list[FaultSpec]:
        """Return the faults of a list. If it has several, an error has the position, from 1.

        Args:
            topology: with it, the faults are resolved.

        Raises:
            InvalidFault: it is not a list, is empty, or has an invalid fault.
        """
        if not isinstance(data, list | tuple):
            raise InvalidFault(f"faults must be a list, got {data!r}")
        if not data:
            raise InvalidFault("the list has no faults: give at least one")
        found = []
        for number, item in enumerate(data, 1):
            try:
                fault = self.read(item)
                found.append(fault if topology is None else fault.resolve(topology))
            except InvalidFault as error:
                if len(data) == 1:
                    raise
                raise type(error)(f"fault {number} of {len(data)}: {error}") from error
        return found

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of one fault or a list of faults."""
        ref = {"$ref": "#/$defs/fault"}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Faults of cachesim",
            "description": "One fault, or a list of faults.",
            "oneOf": [ref, {"type": "array", "items": ref, "minItems": 1}],
            "$defs": {
                "fault": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in self._faults]},
                **{name: fault.schema() for name, fault in self._faults.items()},
            },
        }
