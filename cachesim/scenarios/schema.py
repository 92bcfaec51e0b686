"""The JSON Schema (draft 2020-12) of scenario files, for editors."""

from typing import Any

from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import Field, Number, strict_object
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios import units
from cachesim.scenarios.forms import Scenario
from cachesim.scenarios.rules import own_fields, target_fields

_UNITS = {"ms": units.TIME, "s": units.TIME, "KB/s": units.KILOBYTES, "": units.SHARE}
_OF_ACTIONS = ("target", "flap", "if_none")


def schema(catalogue: Catalogue = CATALOGUE) -> dict[str, Any]:
    """Return the schema of the form, with a variant of a step for each fault of a catalogue."""
    made = Scenario.model_json_schema()
    defs = made["$defs"]
    for name in ("Step", "Choice"):
        form = defs[name]
        del form["additionalProperties"]
        variants = [_variant(form, fault) for fault in catalogue]
        if name == "Step":
            shared = {k: v for k, v in form["properties"].items() if k not in _OF_ACTIONS}
            del shared["fault"]
            variants.append(strict_object(shared, ["one_of"]))
        defs[name] = {"description": form["description"], "oneOf": variants}
    begins = {"oneOf": [{"required": ["at"]}, {"required": ["after"]}]}
    defs["Step"]["allOf"] = [begins]
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found: dict[str, Any] = _without_null(made)
    return found


def _variant(form: dict[str, Any], fault: type[FaultSpec]) -> dict[str, Any]:
    properties = {k: v for k, v in form["properties"].items() if k != "one_of"}
    properties["fault"] = {"const": fault.name, "description": fault.help()}
    for name, field in own_fields(fault).items():
        properties[name] = {"description": field.help, **_field(field)}
    required = [name for name in fault.required() if name in own_fields(fault)]
    if set(fault.required()) & set(target_fields(fault)):
        required.append("target")
    return strict_object(properties, ["fault", *required])


def _field(field: Field) -> dict[str, Any]:
    plain = field.schema()
    if not isinstance(field, Number):
        return plain
    one = {"anyOf": [plain, {"type": "string", "pattern": _UNITS[field.unit]}]}
    over = {"type": "string", "pattern": units.TIME}
    ramp = strict_object({"from": one, "to": one, "over": over}, ["from", "to", "over"])
    return {"anyOf": [*one["anyOf"], ramp]}


def _without_null(part: Any) -> Any:
    """Leave out what pydantic says of None: a file leaves such a key out."""
    if isinstance(part, list):
        return [_without_null(it) for it in part]
    if not isinstance(part, dict):
        return part
    kept = {k: _without_null(v) for k, v in part.items() if not (k == "default" and v is None)}
    return _not_null(kept)


def _not_null(part: dict[str, Any]) -> dict[str, Any]:
    members = [it for it in part.get("anyOf", ()) if it != {"type": "null"}]
    if len(members) == len(part.get("anyOf", ())):
        return part
    rest = {k: v for k, v in part.items() if k != "anyOf"}
    return {**rest, **members[0]} if len(members) == 1 else {**rest, "anyOf": members}
