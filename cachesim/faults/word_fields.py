"""Kinds of fields that are words: one of a few, or several of any."""

from dataclasses import dataclass
from typing import Any

from cachesim.errors import InvalidFault
from cachesim.faults.fields import Field, Text, unknown


@dataclass(frozen=True)
class Choice(Text):
    """One of some words.

    Attributes:
        words: all of them.
    """

    words: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """See `Field.type`."""
        return " or ".join(f"`{word}`" for word in self.words)

    def check(self, value: Any, where: str) -> str:
        """See `Field.check`."""
        if value not in self.words:
            raise InvalidFault(f"{where}: {unknown('choice', value, self.words)}")
        return str(value)

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Words(Field):
    """Some words, such as the names of commands."""

    _type = "list of words"

    def check(self, value: Any, where: str) -> tuple[str, ...]:
        """See `Field.check`."""
        items = value if isinstance(value, list | tuple) else ()
        if not items or not all(isinstance(item, str) and item for item in items):
            raise InvalidFault(f"{where} must have one word or more, got {value!r}")
        return tuple(dict.fromkeys(items))

    def as_json(self, value: Any) -> list[str]:
        """See `Field.as_json`."""
        return list(value)

    def schema(self) -> dict[str, Any]:
        """See `Field.schema`."""
        return {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
