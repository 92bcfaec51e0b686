"""What `cachesim env` prints: the variables of a topology that another process runs."""

import json
import re
import shlex
from collections.abc import Mapping

from cachesim.files import find_run

__all__ = ["of_running", "render"]


def of_running(name: str | None, *, secrets: bool) -> dict[str, str]:
    """The variables of a topology that is up.

    Args:
        name: its name; None for the one that the settings name, or else the only one.
        secrets: whether the password is among them.

    Raises:
        CachesimError: none is up, not the named one, or several.
    """
    return find_run(name).env(secrets=secrets) or {}


def render(variables: Mapping[str, str], style: str) -> str:
    """The variables as text.

    Args:
        style: `shell`, for `eval`; `dotenv`, for files; or `json`.
    """
    match style:
        case "json":
            return json.dumps(variables, indent=2)
        case "dotenv":
            return "\n".join(f"{key}={_dotenv_quote(value)}" for key, value in variables.items())
        case _:
            return "\n".join(f"export {key}={shlex.quote(v)}" for key, v in variables.items())


def _dotenv_quote(value: str) -> str:
    # `docker run --env-file` knows no quotes, so there are none but where others need them.
    if re.fullmatch(r"[\w./:\\@,+=~-]*", value):
        return value
    return "'" + value.replace("\\", r"\\").replace("'", r"\'") + "'"
