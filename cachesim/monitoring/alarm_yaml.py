"""YAML of alarm files as plain values, with the line of each mapping and CloudFormation's tags."""

from pathlib import Path
from typing import Any

from cachesim.errors import CachesimError, SettingsError

_LARGEST = 2**20  # characters


class Place:
    """Where a mapping is in a file, for messages.

    Attributes:
        file: the file's name.
        line: from 1.
        path: the keys that lead to it.
    """

    def __init__(self, file: str, line: int, path: str) -> None:
        self.file, self.line, self.path = file, line, path

    def problem(self, key: str, message: str) -> str:
        """Return a message about a key of it."""
        where = ".".join(filter(None, (self.path, key)))
        return f"{self.file}:{self.line}: {where}: {message}"


class Mapping(dict[str, Any]):
    """A mapping of a file. `line` is where it begins, from 1."""

    line = 1


def load(path: Path) -> Any:
    """Return the values of a YAML or JSON file.

    `!Ref X` is `{"Ref": X}`, and `!Sub X` is `{"Fn::Sub": X}`, as CloudFormation writes them out.

    Raises:
        SettingsError: it can't be read, or is no YAML of one document.
        CachesimError: ruamel.yaml is not installed.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError
    except ImportError as error:
        missing = "alarm files need ruamel.yaml: pip install 'cachesim[scenarios]'"
        raise CachesimError(missing) from error
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{path}: can't be read as UTF-8 text: {error}") from None
    if len(text) > _LARGEST:
        raise SettingsError(f"{path} is larger than {_LARGEST} characters")
    try:
        return _plain(YAML(typ="rt", pure=True).load(text))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        what = str(error.problem or error.context or "is not YAML").partition("\n")[0]
        if "block scalar" in str(error.context):
            what += ": put a value that begins with > or | in quotes"
        raise SettingsError(f"{path}:{line}: {what}") from None
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(f"{path}: not YAML: {str(error).partition(chr(10))[0]}") from None


def _plain(value: Any) -> Any:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
    from ruamel.yaml.scalarbool import ScalarBoolean

    tag = str(getattr(getattr(value, "tag", None), "value", None) or "")
    if isinstance(value, TaggedScalar):
        found: Any = value.value
    elif isinstance(value, CommentedMap):
        found = Mapping({str(key): _plain(item) for key, item in value.items()})
        found.line = value.lc.line + 1
    elif isinstance(value, CommentedSeq):
        found = [_plain(item) for item in value]
    elif isinstance(value, ScalarBoolean):
        found = bool(value)
    else:
        kinds = (bool, int, float, str)
        found = next((kind(value) for kind in kinds if isinstance(value, kind)), value)
    if not tag.startswith("!"):
        return found
    name = tag.removeprefix("!")
    return {"Ref" if name == "Ref" else f"Fn::{name}": found}
