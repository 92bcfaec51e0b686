"""The JSON Schema (draft 2020-12) of scenario files, for editors."""

from typing import Any

from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import Field, Number, strict_object
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios import units
from cachesim.scenarios.forms import Scenario
from cachesim.scenarios.rules import own_fields, target_fields

_UNITS = {"ms": units.TIME, "s": units.TIME, "KB/s": units.KILOBYTES, "": units.SHARE}
_OF_ACTIONS = ("fault", "target", "flap", "if_none")


def schema(catalogue: Catalogue = CATALOGUE) -> dict[str, Any]:
    """Return the schema of the form, with a variant of a step for each fault of a catalogue."""
    made = form()
    defs = made["$defs"]
    for name in ("Step", "Choice"):
        step = defs.pop(name)
        defs[f"{name}Keys"] = {"properties": step["properties"]}
        keys = {k: {"$ref": f"#/$defs/{name}Keys/properties/{k}"} for k in step["properties"]}
        variants = [_variant(keys, fault) for fault in catalogue]
        if name == "Step":
            shared = {k: v for k, v in keys.items() if k not in _OF_ACTIONS}
            variants.append(strict_object(shared, ["one_of"]))
        defs[name] = {"description": step["description"], "oneOf": variants}
    begins = {"oneOf": [{"required": ["at"]}, {"required": ["after"]}]}
    defs["Step"]["allOf"] = [begins]
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return made


def form() -> dict[str, Any]:
    """Return the schema of the form, without the fields of faults."""
    found: dict[str, Any] = _as_in_files(Scenario.model_json_schema())
    return found


def _variant(keys: dict[str, Any], fault: type[FaultSpec]) -> dict[str, Any]:
    properties = {k: v for k, v in keys.items() if k != "one_of"}
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
    texts = [{"type": "string", "pattern": _UNITS[it]} for it in (field.unit,) if it in _UNITS]
    one = {"anyOf": [plain, *texts]}
    over = {"type": "string", "pattern": units.TIME}
    ramp = strict_object({"from": one, "to": one, "over": over}, ["from", "to", "over"])
    return {"anyOf": [*one["anyOf"], ramp]}


def _as_in_files(part: Any) -> Any:
    """Leave out None, which a file has nowhere, and write defaults as files do."""
    if isinstance(part, list):
        return [_as_in_files(it) for it in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _as_in_files(value) for key, value in part.items()}
    members = [it for it in kept.pop("anyOf", ()) if it != {"type": "null"}]
    kept |= members[0] if len(members) == 1 else {"anyOf": members} if members else {}
    default = kept.get("default")
    if default is None or isinstance(default, dict):
        kept.pop("default", None)
    elif isinstance(default, float) and units.TIME in [
        it.get("pattern") for it in (kept, *members)
    ]:
        kept["default"] = f"{default:g}s" if default else 0
    return kept
