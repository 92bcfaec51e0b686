"""The public files of a composed topology."""

import json
from pathlib import Path

from cachesim import Settings
from cachesim.backends.compose.folder import BASE_PORT, read_folder, write_folder
from cachesim.servers.certificates import hosts_in
from cachesim.topology import ENDPOINTS, production
from tests.composed import public

CHECKED_IN = Path(__file__).parents[3] / "compose"


def test_checked_in(folder: Path) -> None:
    """The folder in the repository is up to date. If not, run `cachesim compose compose`."""
    written, there = public(folder), public(CHECKED_IN)
    assert written.keys() == there.keys()
    for path, content in written.items():
        assert content == there[path], path


def test_proxies(folder: Path) -> None:
    """Every link is a proxy of its zone's Toxiproxy, and no two proxies of a pod share a port."""
    names = []
    for zone in "abc":
        proxies = json.loads((folder / f"proxies/{zone}.json").read_text())
        listeners = {proxy["listen"].rpartition(":")[2] for proxy in proxies}
        assert len(listeners) == len(proxies) == 9
        names += [proxy["name"] for proxy in proxies]
        assert names.pop() == f"{zone}-to-endpoint-redis"
    links = [link.name for link in production().links if link.target_zone != ENDPOINTS]
    assert sorted(names) == sorted(links)


def test_ports(folder: Path) -> None:
    """All ports differ and begin at the base port; they are published on 127.0.0.1 only."""
    plan = read_folder(folder).plan
    used = [port for ports in plan.ports.values() for port in vars(ports).values()]
    assert len(set(used)) == 18
    assert min(used) == BASE_PORT
    assert max(used) < BASE_PORT + 30
    lines = (folder / "docker-compose.yml").read_text().splitlines()
    published = [p for s in lines if "ports:" in s for p in json.loads(s.partition(": ")[2])]
    assert len(published) == 15
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_settings(tmp_path: Path) -> None:
    """Settings reach images, commands, configuration and the name of the project."""
    settings = Settings.model_validate(
        {
            "engine": "valkey", "name": "Demo.One", "valkey_image": "my.mirror/valkey:8$1",
            "node_timeout_seconds": 3, "start_timeout_seconds": 7.5, "memory_scale": 0.5,
            "advertise_host": "cache.example",
        }
    )  # fmt: skip
    folder = tmp_path / "it"
    write_folder(folder, settings)
    composed = (folder / "docker-compose.yml").read_text()
    assert composed.count('image: "my.mirror/valkey:8$$1"') == 2
    assert 'command: ["valkey-server", "/cachesim/redis-b/redis.conf"]' in composed
    assert 'command: ["3000", "8", "redis-a@pod-a", "redis-b@pod-b", "redis-c@pod-c"]' in composed
    assert 'command: ["memcached", "-m", "6144",' in composed
    conf = (folder / "nodes/redis-c/redis.conf").read_text().splitlines()
    assert "cluster-node-timeout 3000" in conf
    assert "cluster-announce-hostname cache.example" in conf
    assert f"maxmemory {5 * 2**30}" in conf
    certified = hosts_in((folder / "secrets/redis-c/cert.pem").read_bytes())
    assert certified == {"localhost", "127.0.0.1", "::1", "cache.example"}
    assert (folder / ".env").read_text() == "COMPOSE_PROJECT_NAME=cachesim-demo-one\n"
