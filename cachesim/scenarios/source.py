"""YAML as plain values, with the line and the column of each."""

from dataclasses import dataclass, field
from typing import Any

from cachesim.errors import CachesimError, InvalidScenario, Problem

Path = tuple[str | int, ...]
"""Where a value is: the keys and positions that lead to it."""

_LARGEST = 2**20  # characters
_MOST = 20_000  # values, as aliases can make many of few
_DEEPEST = 30


@dataclass(frozen=True)
class Source:
    """The plain values of a file.

    Attributes:
        name: of the file, for people.
        data: mappings, lists, texts, numbers, true and false.
        values: the line and the column of each value, from 1.
        keys: the same of each key.
        problems: values that scenarios don't have. They are left out of `data`.
    """

    name: str
    data: Any
    values: dict[Path, tuple[int, int]]
    keys: dict[Path, tuple[int, int]]
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> Problem:
        """Return a problem with a value, or of what should stand there.

        Args:
            at_key: whether it is the key that is wrong.
        """
        places = {**self.values, **self.keys} if at_key else self.values
        known = path
        while known not in places:
            known = known[:-1]
        return Problem(self.name, *places[known], written(path), message)


def written(path: Path) -> str:
    """Return a path as people write it, such as `timeline[0].target.node`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def load(text: str, name: str) -> Source:
    """Return the values of a YAML text.

    Args:
        name: the file's name, for problems.

    Raises:
        InvalidScenario: it is not YAML 1.2 of one document, a key is there twice, or it is too
            large.
        CachesimError: ruamel.yaml is not installed.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError as error:
        missing = "scenarios need ruamel.yaml: pip install 'cachesim[scenarios]'"
        raise CachesimError(missing) from error

    if len(text) > _LARGEST:
        raise InvalidScenario([Problem(name, 1, 1, "", f"is larger than {_LARGEST} characters")])
    line, column = 1, 1
    try:
        found = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        if error.problem_mark is not None:
            line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        what = str(error.problem or error.context or "is not YAML").partition("\n")[0]
        raise InvalidScenario([Problem(name, line, column, "", what)]) from None
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # What ruamel.yaml raises for characters, numbers, dates and tags that can't be.
        what = str(error).partition("\n")[0]
        raise InvalidScenario([Problem(name, line, column, "", f"not YAML: {what}")]) from None
    reader = _Reader(name)
    data = reader.read(found, (), (1, 1))
    return Source(name, data, reader.values, reader.keys, reader.problems)


class _Reader:
    """Makes plain values of what ruamel.yaml has read."""

    def __init__(self, name: str) -> None:
        self.values: dict[Path, tuple[int, int]] = {}
        self.keys: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._name = name

    def read(self, value: Any, path: Path, place: tuple[int, int]) -> Any:
        """Return a value without what ruamel.yaml adds."""
        from ruamel.yaml.comments import CommentedMap, CommentedSeq
        from ruamel.yaml.scalarbool import ScalarBoolean

        self.values[path] = place
        if len(path) > _DEEPEST or len(self.values) > _MOST:
            what = "is nested too deeply, or there are too many values"
            raise InvalidScenario([Problem(self._name, *place, "", what)])
        if isinstance(value, CommentedMap):
            return self._mapping(value, path, place)
        if isinstance(value, CommentedSeq):
            return [
                self.read(item, (*path, i), _place(value.lc.data, i, 0, place))
                for i, item in enumerate(value)
            ]
        if isinstance(value, ScalarBoolean):  # which is an int
            return bool(value)
        for kind in (bool, int, float, str):  # a bool is an int too
            if isinstance(value, kind):
                return kind(value)
        empty = "is empty: give it a value" + (", or leave it out" if path else "")
        self._refuse(path, place, empty if value is None else f"is no plain value: {value}")
        return None

    def _mapping(self, value: Any, path: Path, place: tuple[int, int]) -> dict[str, Any]:
        found = {}
        for key, item in value.items():
            at_key = _place(value.lc.data, key, 0, place)
            if not isinstance(key, str):
                self._refuse(path, at_key, f"a key should be text, got {key!r}")
                continue
            self.keys[(*path, str(key))] = at_key
            at_value = _place(value.lc.data, key, 2, place)
            plain = self.read(item, (*path, str(key)), at_value)
            if plain is not None:
                found[str(key)] = plain
        return found

    def _refuse(self, path: Path, place: tuple[int, int], message: str) -> None:
        self.problems.append(Problem(self._name, *place, written(path), message))


def _place(marks: Any, key: Any, first: int, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Return where ruamel.yaml saw a key or an item, from 1. What it merges has no place."""
    mark = (marks or {}).get(key)
    return (mark[first] + 1, mark[first + 1] + 1) if mark else otherwise
