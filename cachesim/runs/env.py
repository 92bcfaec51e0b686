"""Every environment variable of cachesim, by name.

- A service gets `SERVICE`: `cachesim env` prints them, `Simulator.env` returns them.
- Each setting is read from a variable, such as `CACHESIM_SPEED`: `settings` lists them.
- pytest's plugin and the tests read `SWITCHES` too.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from cachesim.topology import Endpoint, production

NAME = "CACHESIM_NAME"
BACKEND = "CACHESIM_BACKEND"
ENGINE = "CACHESIM_ENGINE"
REDIS_HOST = "CACHESIM_REDIS_HOST"
REDIS_PORT = "CACHESIM_REDIS_PORT"
REDIS_NODES = "CACHESIM_REDIS_NODES"
REDIS_USERNAME = "CACHESIM_REDIS_USERNAME"
REDIS_PASSWORD = "CACHESIM_REDIS_PASSWORD"  # noqa: S105  # a name
REDIS_PASSWORD_FILE = "CACHESIM_REDIS_PASSWORD_FILE"  # noqa: S105  # a name
REDIS_URL = "CACHESIM_REDIS_URL"
REDIS_TLS = "CACHESIM_REDIS_TLS"
MEMCACHED_HOST = "CACHESIM_MEMCACHED_HOST"
MEMCACHED_PORT = "CACHESIM_MEMCACHED_PORT"
MEMCACHED_NODES = "CACHESIM_MEMCACHED_NODES"
MEMCACHED_TLS = "CACHESIM_MEMCACHED_TLS"
CA_FILE = "CACHESIM_CA_FILE"
REDIS_ADDRESS_MAP = "CACHESIM_REDIS_ADDRESS_MAP"
"""With `cachesim exec --by-address` alone: a JSON object with the address to take from the zone,
by the one that a Redis node announces."""


def toxiproxy(zone: str) -> str:
    """Return the name of the variable with the URL of a zone's Toxiproxy.

    Args:
        zone: its name, such as `a`.
    """
    return f"CACHESIM_TOXIPROXY_{zone.upper()}"


SERVICE: Mapping[str, str] = {
    NAME: "the topology's name",
    BACKEND: "the backend: `docker`, `embedded`, or `compose` after `cachesim attach`",
    ENGINE: "the server of the Redis nodes: `redis` or `valkey`",
    REDIS_HOST: "the host of the configuration endpoint, which leads to a node that is healthy",
    REDIS_PORT: "the port of that endpoint",
    REDIS_NODES: "all nodes: `host:port,host:port,...`",
    REDIS_USERNAME: "`default`",
    REDIS_PASSWORD: "the AUTH token; printed with `--show-secrets` only",
    REDIS_PASSWORD_FILE: "the file with the AUTH token",
    REDIS_URL: "`rediss://...`, with the token; printed with `--show-secrets` only",
    REDIS_TLS: "`1`",
    MEMCACHED_HOST: "the host of the configuration endpoint",
    MEMCACHED_PORT: "the port of that endpoint",
    MEMCACHED_NODES: "all nodes: `host:port,host:port,...`",
    MEMCACHED_TLS: "`1`",
    CA_FILE: "the certificate of the CA that signed the nodes' certificates, PEM",
    **{
        toxiproxy(zone.name): f"the URL of the API of {zone}'s Toxiproxy"
        for zone in production().zones
    },
}
"""Each variable that a service gets, and its value, in the order of `service_variables`."""

SECRETS = (REDIS_PASSWORD, REDIS_URL)
"""The secret variables of `SERVICE`. No file but the token's has them."""

REQUIRE_DOCKER = "CACHESIM_REQUIRE_DOCKER"
SWITCHES: Mapping[str, str] = {
    "CACHESIM": "`1`: pytest starts a topology, as `--cachesim` does",
    "CACHESIM_KEEP": "`1`: as pytest's `--cachesim-keep`",
    "CACHESIM_REPORT_LINES": "as pytest's `--cachesim-report-lines`",
    "CACHESIM_ARTIFACTS": "a folder: as pytest's `--cachesim-artifacts`",
    "CACHESIM_ATTACH": "`1` or a name: as pytest's `--cachesim-attach`",
    REQUIRE_DOCKER: "`1`: without a Docker engine, tests that need it fail instead of skipping",
}
"""Each variable that pytest's plugin reads besides the settings, and what it does."""


def settings() -> dict[str, str]:
    """Return each variable that a setting is read from, and the setting's description."""
    from cachesim.settings import Settings, variable  # slow to import

    return {variable(k): f.description or "" for k, f in Settings.model_fields.items()}


def service_variables(
    *,
    name: str,
    backend: str,
    engine: str,
    redis_endpoint: Endpoint,
    redis: Sequence[Endpoint],
    memcached_endpoint: Endpoint,
    memcached: Sequence[Endpoint],
    username: str,
    token: str,
    token_file: Path,
    ca_file: Path,
    toxiproxies: Mapping[str, str],
) -> dict[str, str]:
    """Return the variables of `SERVICE` for a topology, secrets included.

    Args:
        redis_endpoint: the configuration endpoint of Redis.
        redis: the address of each Redis node.
        memcached_endpoint: the configuration endpoint of Memcached.
        memcached: the address of each Memcached node.
        toxiproxies: the URL of each zone's Toxiproxy, by the zone's name.
    """
    return {
        NAME: name,
        BACKEND: backend,
        ENGINE: engine,
        REDIS_HOST: redis_endpoint.host,
        REDIS_PORT: str(redis_endpoint.port),
        REDIS_NODES: ",".join(map(str, redis)),
        REDIS_USERNAME: username,
        REDIS_PASSWORD: token,
        REDIS_PASSWORD_FILE: str(token_file),
        REDIS_URL: redis_url(username, token, redis_endpoint),
        REDIS_TLS: "1",
        MEMCACHED_HOST: memcached_endpoint.host,
        MEMCACHED_PORT: str(memcached_endpoint.port),
        MEMCACHED_NODES: ",".join(map(str, memcached)),
        MEMCACHED_TLS: "1",
        CA_FILE: str(ca_file),
        **{toxiproxy(zone): url for zone, url in toxiproxies.items()},
    }


def placed(variables: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with addresses as a zone sees them, and `REDIS_ADDRESS_MAP`.

    Args:
        seen: the address to take, by the announced one.
    """
    found = dict(variables)
    for name in (REDIS_NODES, MEMCACHED_NODES):
        found[name] = ",".join(seen.get(it, it) for it in variables[name].split(","))
    for host, port in ((REDIS_HOST, REDIS_PORT), (MEMCACHED_HOST, MEMCACHED_PORT)):
        announced = str(Endpoint(variables[host], int(variables[port])))
        to = Endpoint.parse(seen.get(announced, announced))
        found |= {host: to.host, port: str(to.port)}
        if host == REDIS_HOST and REDIS_PASSWORD in variables:
            user, token = variables[REDIS_USERNAME], variables[REDIS_PASSWORD]
            found[REDIS_URL] = redis_url(user, token, to)
    nodes = variables[REDIS_NODES].split(",")
    found[REDIS_ADDRESS_MAP] = json.dumps({it: seen.get(it, it) for it in nodes})
    return found


def redis_url(username: str, token: str, node: Endpoint) -> str:
    """Return the value of `REDIS_URL`."""
    return f"rediss://{username}:{token}@{node}"


_PYTHON = """\
import ssl
from pathlib import Path

from pymemcache.client.hash import HashClient
from redis.cluster import RedisCluster

redis_cluster = RedisCluster(
    host={host!r},
    port={port},
    password=Path({token!r}).read_text(),
    ssl=True,
    ssl_ca_certs={ca!r},
    decode_responses=True,
)
memcached = HashClient(
    {memcached},
    tls_context=ssl.create_default_context(cafile={ca!r}),
)"""


def render(variables: Mapping[str, str], style: str) -> str:
    """Return variables as text.

    Args:
        style: `shell`, for `eval`; `dotenv`, for files; `json`; or `python`, the code that connects
            clients to what they say.
    """
    match style:
        case "python":
            return _PYTHON.format(
                host=variables[REDIS_HOST],
                port=variables[REDIS_PORT],
                token=variables[REDIS_PASSWORD_FILE],
                ca=variables[CA_FILE],
                memcached=variables[MEMCACHED_NODES].split(","),
            )
        case "json":
            return json.dumps(variables, indent=2)
        case "dotenv":
            return "\n".join(f"{key}={_dotenv_quote(value)}" for key, value in variables.items())
        case _:
            return "\n".join(f"export {key}={shlex.quote(v)}" for key, v in variables.items())


def _dotenv_quote(value: str) -> str:
    # `docker run --env-file` knows no quotes, so they are used only where others need them.
    if re.fullmatch(r"[\w./:\\@,+=~-]*", value):
        return value
    return "'" + value.replace("\\", r"\\").replace("'", r"\'") + "'"
