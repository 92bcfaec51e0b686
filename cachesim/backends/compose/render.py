"""The public files of a composed topology, made from templates and the address plan.

Addresses, links and commands are those of `cachesim.backends.address_plan`. Two services end when
their work is done: `files` gives each server its files, which only its own user may read, and
`form` makes the Redis nodes one cluster.
"""

import hashlib
import json
import math
import re
from importlib.resources import files as resources
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
    pod_name,
    server_command,
)
from cachesim.servers.redis_config import can_tell_zone
from cachesim.settings import Settings
from cachesim.topology import Service, Topology, Zone

COMPOSE_FILE = "docker-compose.yml"

_TEMPLATES = resources(__package__) / "templates"


def render(plan: Plan, settings: Settings, name: str) -> dict[str, str]:
    """Return the text of all public files, by path in the folder.

    Args:
        name: the topology's name.
    """
    files = {
        COMPOSE_FILE: _compose_file(plan, settings),
        # Without it the folder's name would be the project's, and many folders are named `compose`.
        ".env": f"COMPOSE_PROJECT_NAME={_project_name(name)}\n",
        "README.md": _readme(plan),
        "files.sh": _template("files.sh").template,
        "form.sh": _template("form.sh").template,
    }
    for zone in plan.topology.zones:
        files[f"proxies/{zone.name}.json"] = json.dumps(plan.proxies(zone.name), indent=2) + "\n"
    redis_files = plan.redis_files(
        hostname=settings.advertise_host,
        node_timeout_ms=_milliseconds(settings),
        # The same each time, so that the files stay the same. The CA, not the ids, keeps the nodes
        # of other topologies away.
        ids={node.name: _sha1(node.name) for node in plan.topology.redis},
        tells_zone=can_tell_zone(settings.engine, settings.server_image),
    )
    return files | {f"nodes/{path}": text for path, text in redis_files.items()}


class _Template(Template):
    delimiter = "@"  # a dollar means something to compose and to shells


def _compose_file(plan: Plan, settings: Settings) -> str:
    topology = plan.topology
    redis = [node.name for node in topology.redis]
    timeout = math.ceil(settings.start_timeout_seconds)
    return _template(COMPOSE_FILE).substitute(
        server_image=_yaml(settings.server_image),
        memcached_image=_yaml(settings.memcached_image),
        toxiproxy_image=_yaml(settings.toxiproxy_image),
        log_options=_yaml(LOG_OPTIONS),
        network_options=_yaml(NETWORK_OPTIONS),
        files=FILES,
        label=PART_LABEL,
        files_command=_yaml([str(REDIS_UID), str(MEMCACHED_UID)]),
        form_command=_yaml([str(_milliseconds(settings)), str(timeout), *_nodes_to_form(topology)]),
        redis_nodes=_yaml(redis),
        zones="\n".join(_zone(plan, zone, settings.engine) for zone in topology.zones),
        volumes="\n".join(
            f"  {name}: {{labels: {{{PART_LABEL}: {name}}}}}" for name in ("files", *redis)
        ),
    )


def _nodes_to_form(topology: Topology) -> list[str]:
    """Return the Redis nodes as `form.sh` takes them, the wanted primary first."""
    (shard,) = topology.shards
    nodes = sorted(shard.nodes, key=lambda node: node.name != shard.first_primary)
    return [f"{node.name}@{pod_name(node.zone)}" for node in nodes]


def _zone(plan: Plan, zone: Zone, engine: str) -> str:
    nodes = {node.service: node for node in plan.topology.nodes if node.zone == zone.name}
    redis, memcached = nodes[Service.REDIS], nodes[Service.MEMCACHED]
    published = plan.published(zone.name).items()
    return _template("zone.yml").substitute(
        label=PART_LABEL,
        files=FILES,
        pod=pod_name(zone.name),
        pod_command=_yaml([*TOXIPROXY_COMMAND, f"-config=/proxies/{zone.name}.json"]),
        ports=_yaml([f"{plan.host}:{outside}:{inside}" for inside, outside in published]),
        sysctls=_yaml(plan.sysctls()),
        redis=redis.name,
        redis_command=_yaml(server_command(redis, engine)),
        memcached=memcached.name,
        memcached_command=_yaml(server_command(memcached, engine)),
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
    # JSON is YAML too. In a compose file a dollar begins a variable.
    return json.dumps(value).replace("$", "$$")


def _project_name(name: str) -> str:
    return "cachesim-" + re.sub(r"[^a-z0-9_-]+", "-", name.lower())


def _milliseconds(settings: Settings) -> int:
    return int(settings.node_timeout_seconds * 1000)


def _sha1(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
