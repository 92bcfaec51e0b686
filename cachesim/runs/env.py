"""What `cachesim env` prints: the variables of a topology that another process runs."""

import json
import re
import shlex
from collections.abc import Mapping

from cachesim.runs.files import find_run
from cachesim.topology import production

__all__ = ["MEANINGS", "of_running", "render"]

MEANINGS: Mapping[str, str] = {
    "CACHESIM_NAME": "the topology's name",
    "CACHESIM_BACKEND": "what carries it: `docker`, `embedded`, or `compose` if it is attached",
    "CACHESIM_ENGINE": "what the Redis nodes run: `redis` or `valkey`",
    "CACHESIM_REDIS_HOST": "the host of one node, to begin with",
    "CACHESIM_REDIS_PORT": "its port",
    "CACHESIM_REDIS_NODES": "all nodes: `host:port,host:port,...`",
    "CACHESIM_REDIS_USERNAME": "`default`",
    "CACHESIM_REDIS_PASSWORD": "the AUTH token; printed with `--show-secrets` only",
    "CACHESIM_REDIS_PASSWORD_FILE": "a file that holds it",
    "CACHESIM_REDIS_URL": "`rediss://...`, with the token; printed with `--show-secrets` only",
    "CACHESIM_REDIS_TLS": "`1`",
    "CACHESIM_MEMCACHED_NODES": "all nodes: `host:port,host:port,...`",
    "CACHESIM_MEMCACHED_TLS": "`1`",
    "CACHESIM_CA_FILE": "the CA that all certificates are from, as PEM",
    **{
        f"CACHESIM_TOXIPROXY_{zone.name.upper()}": f"the URL of the API of {zone}'s Toxiproxy"
        for zone in production().zones
    },
}
"""Each variable that a service gets, in the order of `Simulator.env`, and what it is."""


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
