"""The forms of faults: whatever they offer is accepted."""

from typing import Any

import pytest

from cachesim.dashboard.forms import Form, forms
from cachesim.faults.catalogue import CATALOGUE
from tests.dashboard.statuses import TOPOLOGY

FORMS = {form["name"]: form for form in forms(CATALOGUE, TOPOLOGY)}


def test_there_is_one_for_each_fault() -> None:
    """None is left out, and each is on a part that can be clicked."""
    assert list(FORMS) == [fault.name for fault in CATALOGUE]
    assert {form["on"] for form in FORMS.values()} == {
        *("link", "node", "zone", "endpoint", "topology"),
    }


def filled(field: Form) -> Any:
    """What a user would give for a field that is required."""
    match field["input"]:
        case "number":
            return max(field["least"], 1)
        case "one":
            return field["choices"][0]
        case "several":
            return field["choices"][:1]
        case "toxic":
            first = field["toxics"][0]
            return {
                "type": first["type"],
                "attributes": {it["name"]: 5 for it in first["attributes"]},
            }
    return "LOADING"


@pytest.mark.parametrize("name", FORMS)
def test_is_accepted_as_filled_in(name: str) -> None:
    """The fields that are required are enough, with any value that is offered."""
    values = {it["name"]: filled(it) for it in FORMS[name]["fields"] if it["required"]}
    if name == "partition":
        values["b"] = "c"
    fault = CATALOGUE.read({"fault": name, **values}).resolve(TOPOLOGY)
    given = {it["name"]: it["default"] for it in FORMS[name]["fields"] if not it["required"]}
    whole = {k: v for k, v in given.items() if v is not None}
    assert CATALOGUE.read({**whole, **fault.as_dict()}) == fault


def test_every_input_is_known_to_the_page() -> None:
    """The page has a way to fill in each."""
    from importlib.resources import files

    script = files("cachesim.dashboard").joinpath("assets/panel.js").read_text(encoding="utf-8")
    line = next(it for it in script.splitlines() if "const kinds = {" in it)
    known = {word.strip() for word in line.partition("{")[2].partition("}")[0].split(",")}
    assert {it["input"] for form in FORMS.values() for it in form["fields"]} <= known
