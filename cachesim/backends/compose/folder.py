"""A topology as files for `docker compose`: what `cachesim compose` writes.

Addresses, links and commands are those of `cachesim.backends.address_plan`. Two services end when
their work is done: `files` gives each server its files, which only its own user may read, and
`form` makes the Redis nodes one cluster.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files as resources
from pathlib import Path
from string import Template

from cachesim.backends.address_plan import (
    FILES,
    LOG_OPTIONS,
    MEMCACHED_UID,
    NETWORK_OPTIONS,
    PART_LABEL,
    REDIS_UID,
    TOXIPROXY_COMMAND,
    Plan,
    auth,
    certificates,
    command_of,
    pod_of,
)
from cachesim.backends.compose.backend import (
    ADMIN_PASSWORD,
    CA,
    COMPOSE_FILE,
    MANIFEST,
    PORTS_PER_ZONE,
    SECRETS,
    TOKEN,
    command_for,
    fixed_plan,
    load_secrets,
    name_of,
    read_manifest,
)
from cachesim.errors import CachesimError, SettingsError
from cachesim.servers.certificates import CertificateAuthority, hosts_in
from cachesim.servers.credentials import Credentials
from cachesim.settings import Settings, load_settings
from cachesim.topology import Service, Topology, Zone, production

__all__ = ["BASE_PORT", "command_for", "render", "write_folder"]

BASE_PORT = 17000
"""The first port, where none is given."""

_TEMPLATES = resources(__package__) / "templates"
_ATTACH_NEEDS = {"name", "engine", "memory_scale", "node_timeout_seconds", "advertise_host"}
_OPEN, _PRIVATE = 0o644, 0o600


def write_folder(
    folder: Path, arguments: Mapping[str, object], base_port: int | None
) -> list[Path]:
    """What `cachesim compose` does: `render`, with settings from everywhere.

    Where a setting or the port is not given, a folder that was written before keeps its own, so
    that whoever clones it gets the same.

    Args:
        arguments: settings by name; None is not given.
        base_port: None is not given.
    """
    kept: Mapping[str, object] = {}
    port = BASE_PORT
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept, port = read_manifest(folder)
    sources = load_settings(arguments).sources
    kept = {key: value for key, value in kept.items() if sources.get(key) == "default"}
    settings = load_settings({**arguments, **kept}).settings
    return render(folder, settings, port if base_port is None else base_port)


def render(folder: Path, settings: Settings, base_port: int = BASE_PORT) -> list[Path]:
    """Write what `docker compose` needs to bring the topology up.

    What was written before is replaced, but for the secrets: those are kept.

    Args:
        folder: a new or an empty one, or one that this has written before.
        base_port: the first of thirty ports. What is published is on 127.0.0.1.

    Returns:
        The files, the secrets among them.

    Raises:
        SettingsError: there are no such ports.
        CachesimError: the folder is somebody else's or can't be written, or the secrets in it don't
            fit the settings.
    """
    topology = production(settings.memory_scale)
    count = PORTS_PER_ZONE * len(topology.zones)
    if not 1024 <= base_port <= 65536 - count:
        raise SettingsError(
            f"base_port = {base_port}: it is the first of {count} ports, "
            f"so choose one from 1024 to {65536 - count}, such as {BASE_PORT}"
        )
    folder = folder.resolve()
    plan = fixed_plan(topology, base_port)
    public = {
        MANIFEST: _json(
            {"base_port": base_port, "settings": settings.model_dump(include=_ATTACH_NEEDS)}
        ),
        COMPOSE_FILE: _compose_file(plan, settings),
        # Many folders are named `compose`, which would be the project's name.
        ".env": f"COMPOSE_PROJECT_NAME={_project(settings.name or name_of(folder))}\n",
        "README.md": _readme(plan),
        "files.sh": _template("files.sh").template,
        "form.sh": _template("form.sh").template,
    }
    for zone in topology.zones:
        public[f"proxies/{zone.name}.json"] = _json(plan.proxies(zone.name))
    configuration = plan.configuration(
        hostname=settings.advertise_host,
        node_timeout_ms=_milliseconds(settings),
        # The same each time, as the files are compared: the CA keeps strangers off anyway.
        ids={n.name: _digest(n.name) for n in topology.redis},
    )
    public |= {f"nodes/{path}": text for path, text in configuration.items()}
    try:
        _claim(folder)
        for path, text in public.items():
            _write(folder / path, text.encode(), _OPEN)
        secrets = _write_secrets(folder, topology, settings.advertise_host)
    except OSError as error:
        raise CachesimError(
            f"{folder} can't be written: {error}. Choose another folder, or get the right to it."
        ) from error
    return [*(folder / path for path in public), *secrets]


def _claim(folder: Path) -> None:
    """Make the folder, unless somebody else has it."""
    folder.mkdir(parents=True, exist_ok=True)
    others = sorted(path.name for path in folder.iterdir())
    if others and MANIFEST not in others:
        raise CachesimError(
            f"{folder} has files that are not from `cachesim compose`: {', '.join(others[:3])}. "
            "Choose a folder that is empty or does not exist yet."
        )


# --- what everybody may see -----------------------------------------------------------------


class _Template(Template):
    delimiter = "@"  # a dollar means something to compose and to shells


def _compose_file(plan: Plan, settings: Settings) -> str:
    topology = plan.topology
    primary = topology.shards[0].first_primary
    redis = sorted((n.name for n in topology.redis), key=lambda name: name != primary)
    limit = math.ceil(settings.start_timeout_seconds)
    return _template("docker-compose.yml").substitute(
        server_image=_yaml(settings.server_image),
        memcached_image=_yaml(settings.memcached_image),
        toxiproxy_image=_yaml(settings.toxiproxy_image),
        log_options=_yaml(LOG_OPTIONS),
        network_options=_yaml(NETWORK_OPTIONS),
        files=FILES,
        label=PART_LABEL,
        files_command=_yaml([str(REDIS_UID), str(MEMCACHED_UID)]),
        form_command=_yaml([str(_milliseconds(settings)), str(limit), *redis]),
        redis_nodes=_yaml(redis),
        zones="\n".join(_zone(plan, zone, settings.engine) for zone in topology.zones),
        volumes="\n".join(
            f"  {name}: {{labels: {{{PART_LABEL}: {name}}}}}" for name in ("files", *sorted(redis))
        ),
    )


def _zone(plan: Plan, zone: Zone, engine: str) -> str:
    nodes = {node.service: node for node in plan.topology.nodes if node.zone == zone.name}
    redis, memcached = nodes[Service.REDIS], nodes[Service.MEMCACHED]
    published = plan.published(zone.name).items()
    return _template("zone.yml").substitute(
        label=PART_LABEL,
        files=FILES,
        pod=pod_of(zone.name),
        pod_command=_yaml([*TOXIPROXY_COMMAND, f"-config=/proxies/{zone.name}.json"]),
        ports=_yaml([f"{plan.host}:{outside}:{inside}" for inside, outside in published]),
        sysctls=_yaml(plan.sysctls()),
        redis=redis.name,
        redis_command=_yaml(command_of(redis, engine)),
        memcached=memcached.name,
        memcached_command=_yaml(command_of(memcached, engine)),
    )


def _readme(plan: Plan) -> str:
    zones = plan.topology.zones
    rows = {
        "": [str(zone) for zone in zones],
        "---": ["---" for _ in zones],
        "Redis": [str(plan.endpoint(n.name)) for n in plan.topology.redis],
        "Memcached": [str(plan.endpoint(n.name)) for n in plan.topology.memcached],
        "Toxiproxy's API": [plan.toxiproxy(zone.name).removeprefix("http://") for zone in zones],
        "Redis, past all links": [str(plan.admin(n.name)) for n in plan.topology.redis],
        "Memcached, past all links": [str(plan.admin(n.name)) for n in plan.topology.memcached],
    }
    return _template("README.md").substitute(
        table="\n".join(f"| {' | '.join([head, *cells])} |" for head, cells in rows.items()),
        port=plan.endpoint(plan.topology.shards[0].first_primary).port,
    )


def _template(name: str) -> _Template:
    return _Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def _yaml(value: str | list[str] | dict[str, str]) -> str:
    # JSON is YAML too, and compose takes a dollar for the beginning of a variable.
    return json.dumps(value).replace("$", "$$")


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _project(name: str) -> str:
    return "cachesim-" + re.sub(r"[^a-z0-9_-]+", "-", name.lower())


def _milliseconds(settings: Settings) -> int:
    return int(settings.node_timeout_seconds * 1000)


def _digest(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


# --- secrets --------------------------------------------------------------------------------


def _write_secrets(folder: Path, topology: Topology, host: str | None) -> list[Path]:
    """Draw the secrets, or keep those that are there."""
    secrets = folder / SECRETS
    if not secrets.exists():
        _draw(folder, topology, host)
    anew = (
        f"Remove {secrets}, run this again, and bring the topology up with "
        f"`{command_for(folder)} up -d --wait --force-recreate`."
    )
    try:
        credentials, _ = load_secrets(secrets)
        for node in topology.nodes:
            certified = hosts_in((secrets / node.name / "cert.pem").read_bytes())
            (secrets / node.name / "key.pem").read_bytes()
            if host is not None and host not in certified:
                raise CachesimError(
                    f"the certificates in {secrets} are not for {host} (advertise_host), "
                    f"but for {', '.join(sorted(certified))}. {anew}"
                )
    except (FileNotFoundError, ValueError) as error:
        raise CachesimError(f"the secrets in {secrets} are damaged: {error}. {anew}") from error
    # Follows from the others.
    for path, text in auth(topology, credentials).items():
        _write(secrets / path, text.encode(), _PRIVATE)
    return sorted(path for path in secrets.rglob("*") if path.is_file())


def _draw(folder: Path, topology: Topology, host: str | None) -> None:
    ca, credentials = CertificateAuthority([host] if host else []), Credentials()
    files = {
        ".gitignore": b"*\n",
        TOKEN: credentials.token.encode(),
        ADMIN_PASSWORD: credentials.admin_password.encode(),
        CA: ca.pem,
        **certificates(topology, ca),
    }
    # All at once: there are never half of them.
    drawn = Path(tempfile.mkdtemp(prefix=f".{SECRETS}-", dir=folder))
    try:
        for path, content in files.items():
            _write(drawn / path, content, _PRIVATE)
        drawn.rename(folder / SECRETS)
    except BaseException:
        shutil.rmtree(drawn, ignore_errors=True)
        raise


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file at once, and with these permissions from the beginning."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if mode == _PRIVATE else 0o777)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.replace(path)
