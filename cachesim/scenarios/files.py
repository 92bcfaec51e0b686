"""Scenario files: reading them, with all mistakes at once, and those shipped."""

import types
from collections.abc import Iterator
from importlib import resources
from pathlib import Path as FilePath
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cachesim.errors import InvalidScenario, Problem
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import unknown
from cachesim.scenarios.forms import Scenario
from cachesim.scenarios.rules import findings
from cachesim.scenarios.source import Path, Source, load

_SUFFIX = ".yaml"


def read(text: str, name: str, catalogue: Catalogue = CATALOGUE) -> Scenario:
    """Return the scenario of a YAML text.

    Args:
        name: the file's name, for problems.

    Raises:
        InvalidScenario: it has mistakes. The error has them all, with line and column, key, and the
            nearest valid name.
    """
    source = load(text, name)
    problems = list(source.problems)
    for path, what, at_key in findings(source.data, catalogue):
        problems.append(source.problem(path, what, at_key=at_key))
    scenario = None
    try:
        scenario = Scenario.model_validate(source.data)
    except ValidationError as error:
        problems += _of_models(error, source)
    if problems or scenario is None:
        raise InvalidScenario(sorted(set(problems), key=lambda it: (it.line, it.column, it.key)))
    return scenario


def read_file(path: str | FilePath, catalogue: Catalogue = CATALOGUE) -> Scenario:
    """Return the scenario of a file, or the shipped one of that name.

    Raises:
        InvalidScenario: it has mistakes, can't be read, or there is no such file or scenario.
    """
    shipped = library()
    if str(path) in shipped and not FilePath(path).is_file():
        return read(shipped[str(path)], f"{path}{_SUFFIX}", catalogue)
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        what = f"no such file; {unknown('scenario', str(path), shipped)}"
        raise InvalidScenario([Problem(str(path), 1, 1, "", what)]) from None
    except (OSError, UnicodeError) as error:
        what = f"can't be read as UTF-8 text: {error}"
        raise InvalidScenario([Problem(str(path), 1, 1, "", what)]) from None
    return read(text, str(path), catalogue)


def library() -> dict[str, str]:
    """Return the texts of the shipped scenarios, by name."""
    folder = resources.files("cachesim.scenarios") / "library"
    return {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda it: it.name)
        if file.name.endswith(_SUFFIX)
    }


# --- the models' errors -----------------------------------------------------------------------


def _of_models(error: ValidationError, source: Source) -> Iterator[Problem]:
    for it in error.errors(include_url=False):
        path = _path(it["loc"], source.data)
        match it["type"]:
            case "missing":
                key = str(it["loc"][-1])
                yield source.problem(path[:-1], f"{key} is missing")
            case "extra_forbidden":
                what = unknown("key", path[-1], _known(path[:-1]))
                yield source.problem(path, what, at_key=True)
            case "literal_error" if isinstance(it["input"], str):
                known = [word.strip(" '") for word in _words(it["ctx"]["expected"])]
                yield source.problem(path, unknown("choice", it["input"], known))
            case _:
                yield source.problem(path, _plain(it["msg"]))


def _plain(message: str) -> str:
    text = message.removeprefix("Value error, ")
    text = text.removeprefix("Input ").replace("valid dictionary or instance of", "mapping for")
    return text[:1].lower() + text[1:]


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").split(", ")


def _path(loc: tuple[int | str, ...], data: Any) -> Path:
    """Return where a model's error is in the data. What names a member of a union is left out."""
    found: list[int | str] = []
    for i, part in enumerate(loc):
        is_there = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int)
        )
        if is_there:
            data = data[part]
            found.append(part)
        elif i == len(loc) - 1 and isinstance(data, dict):
            found.append(part)
    return tuple(found)


def _known(path: Path) -> list[str]:
    """Return the keys that a form has at a path."""
    annotation: Any = Scenario
    for part in path:
        model = _model(annotation)
        if model is not None:
            names = {field.alias or name: field for name, field in model.model_fields.items()}
            annotation = names[str(part)].annotation
        else:  # a list or a mapping of forms
            annotation = next(it for it in _members(annotation) if get_origin(it) in (list, dict))
            annotation = get_args(annotation)[-1]
    model = _model(annotation)
    assert model is not None  # noqa: S101  # only forms refuse keys
    return [field.alias or name for name, field in model.model_fields.items()]


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union, or the one that it is, without what annotates them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (types.UnionType, Union):
        return [it for argument in arguments for it in _members(argument)]
    return [annotation]


def _model(annotation: Any) -> type[BaseModel] | None:
    for it in _members(annotation):
        if isinstance(it, type) and issubclass(it, BaseModel):
            return it
    return None
