"""The forms of all faults, made from the catalogue, as JSON. Pure."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from cachesim.faults.catalogue import Catalogue
from cachesim.faults.fields import (
    Field,
    Flag,
    Name,
    Names,
    Number,
    OneToxic,
    Part,
    Streams,
    Whole,
)
from cachesim.faults.spec import FaultSpec
from cachesim.faults.word_fields import Choice, Words
from cachesim.topology import Topology
from cachesim.toxiproxy.toxics import BOTH, TOXICS

Form = dict[str, Any]
"""A fault with its fields. `on` tells the kind of part that it is put on."""

_ON = {
    Part.LINK: "link",
    Part.NODE: "node",
    Part.REDIS_NODE: "node",
    Part.ZONE: "zone",
    Part.ENDPOINT: "endpoint",
}


def forms(catalogue: Catalogue, topology: Topology) -> list[Form]:
    """Return a form for each fault."""
    return [_form(fault, topology) for fault in catalogue]


def _form(fault: type[FaultSpec], topology: Topology) -> Form:
    given = fault.fields()
    parts = [it.part for it in given.values() if isinstance(it, Name | Names)]
    return {
        "name": fault.name,
        "help": fault.help(),
        "effect": fault.effect,
        "on": _ON[parts[0]] if parts else "topology",
        "grows": fault.strength is not None,
        "fields": [
            {
                "name": name,
                "help": field.help,
                "unit": field.unit,
                "required": name in fault.required(),
                "default": _default(fault, name, field),
                **_input(field, topology),
            }
            for name, field in given.items()
        ],
    }


def _default(fault: type[FaultSpec], name: str, field: Field) -> Any:
    value = fault.defaults().get(name)
    return None if value is None else field.as_json(value)


def _input(field: Field, topology: Topology) -> Mapping[str, Any]:
    """Return how a field is filled in: its input, and what it may have."""
    match field:
        case Number(least=least, most=most):
            step = 1 if isinstance(field, Whole) else "any"
            return {"input": "number", "least": least, "most": most, "step": step}
        case Flag():
            return {"input": "flag"}
        case Name(part=part):
            return {"input": "one", "part": _ON[part], "choices": part.names(topology)}
        case Names(part=part):
            return {"input": "several", "part": _ON[part], "choices": part.names(topology)}
        case Streams():
            return {"input": "several", "choices": [str(it) for it in BOTH]}
        case Choice(words=words):
            return {"input": "one", "choices": list(words)}
        case Words():
            return {"input": "words"}
        case OneToxic():
            return {"input": "toxic", "toxics": [_toxic(it) for it in TOXICS]}
    return {"input": "text"}


def _toxic(toxic: type[Any]) -> Mapping[str, Any]:
    return {
        "type": toxic.type,
        "most": toxic.largest,
        "attributes": [
            {"name": it.name, "default": None if it.default is MISSING else it.default}
            for it in fields(toxic)
        ],
    }
