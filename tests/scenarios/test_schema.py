"""The JSON Schema of scenario files: published, and one with what the files are read by."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachesim.scenarios.files import library
from cachesim.scenarios.schema import schema
from tests.scenarios.test_files import FULL, SHORT, STEP, STEPS


def test_published_schema() -> None:
    """The schema in the documentation is what the form is: `cachesim scenario schema` makes it."""
    published = Path(__file__).parents[2] / "docs" / "reference" / "scenario.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == schema()


def test_schema_agrees_with_the_form() -> None:
    """What is valid is so for the schema too, and most mistakes are mistakes to it."""
    from ruamel.yaml import YAML

    jsonschema = pytest.importorskip("jsonschema")
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    validator = jsonschema.Draft202012Validator(made)

    def is_valid(text: str) -> bool:
        return bool(validator.is_valid(YAML(typ="safe", pure=True).load(text)))

    assert all(map(is_valid, [SHORT, FULL, *library().values()]))
    seen = [step for step in STEPS if not is_valid(STEP % step)]
    # Not those between steps, of sums, and of names that a pattern may have.
    assert len(seen) >= len(STEPS) * 0.6
    assert set(list(STEPS)[:6]) <= set(seen)


def defaults(part: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every schema that has a default, with it."""
    if isinstance(part, dict):
        if "default" in part:
            yield part, part["default"]
        for it in part.values():
            yield from defaults(it)
    elif isinstance(part, list):
        for it in part:
            yield from defaults(it)


def test_defaults_of_the_schema_are_valid() -> None:
    """What an editor fills in is as files have it: `10s`, not 10."""
    jsonschema = pytest.importorskip("jsonschema")
    found = list(defaults(schema()))
    assert "10s" in [default for _, default in found]
    for part, default in found:
        assert jsonschema.Draft202012Validator(part).is_valid(default), (part, default)
