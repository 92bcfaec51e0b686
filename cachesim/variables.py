"""What `cachesim env` prints: the variables of a topology that another process runs."""

import json
import re
import shlex
from collections.abc import Mapping

from cachesim.config import load_settings
from cachesim.errors import CachesimError
from cachesim.files import living_runs

__all__ = ["of_running", "render"]


def of_running(name: str | None, *, secrets: bool) -> dict[str, str]:
    """The variables of a topology that is up.

    Args:
        name: its name; None for the one that the settings name, or else the only one.
        secrets: whether the password is among them.

    Raises:
        CachesimError: none is up, not the named one, or several.
    """
    found = {run.name: env for run in living_runs() if (env := run.env(secrets=secrets))}
    loaded = load_settings({"name": name})
    wanted, running = loaded.settings.name, ", ".join(found)
    if not found:
        raise CachesimError("no topology is up. Start one with `cachesim up`.")
    if wanted is None and len(found) > 1:
        raise CachesimError(f"several topologies are up: choose one with --name: {running}")
    if wanted is None:
        wanted = next(iter(found))
    if wanted not in found:
        raise CachesimError(
            f"no topology named {wanted!r} ({loaded.sources['name']}) is up, but these are: "
            f"{running}. Choose one with --name, or start another with "
            f"`cachesim up --name {wanted}`."
        )
    return found[wanted]


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
