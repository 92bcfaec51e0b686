"""What Redis servers are started with."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cachesim.clock import Deadline
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.credentials import ADMIN_USER, Credentials
from cachesim.servers.redis_config import (
    BUS_PORT,
    REDIS_PORT,
    AnnouncedPorts,
    auth_conf,
    can_tell_zone,
    nodes_conf,
    random_node_ids,
    redis_conf,
    redis_settings,
)
from cachesim.topology import Endpoint, Topology, production
from tests.contract.helpers import config_of

if TYPE_CHECKING:
    from redis import Redis

FORBIDDEN = [
    "bgrewriteaof", "bgsave", "config", "debug", "migrate", "psync", "replicaof", "save",
    "slaveof", "shutdown", "sync", "acl|setuser", "acl|load", "acl|save", "acl|deluser",
    "cluster|addslots", "cluster|addslotsrange", "cluster|bumpepoch", "cluster|delslots",
    "cluster|delslotsrange", "cluster|failover", "cluster|flushslots", "cluster|forget",
    "cluster|meet", "cluster|replicate", "cluster|reset", "cluster|setslot",
]  # fmt: skip
"""The commands that ElastiCache forbids, from its user guide."""
PORTS = {
    "redis-a": AnnouncedPorts(40001, 41001),
    "redis-b": AnnouncedPorts(40002, 41002),
    "redis-c": AnnouncedPorts(40003, 41003),
}


@pytest.fixture
def topology() -> Topology:
    """A hundredth of production's memory."""
    return production(0.01)


@pytest.fixture
def credentials() -> Credentials:
    """The secrets of one run."""
    return Credentials()


@pytest.fixture
def auth(credentials: Credentials) -> str:
    """The file with the passwords."""
    return auth_conf(credentials)


@pytest.fixture
def conf(topology: Topology) -> str:
    """The configuration of redis-b."""
    return configure(topology)


def configure(topology: Topology, hostname: str | None = None) -> str:
    """The configuration of redis-b."""
    return redis_conf(
        redis_settings(
            topology.node("redis-b"), PORTS["redis-b"], hostname=hostname, node_timeout_ms=15000
        ),
        "/data/cachesim",
    )


def settings(conf: str) -> dict[str, str]:
    """Return the settings of a `redis.conf`, none of which may be repeated."""
    pairs = [line.split(" ", 1) for line in conf.splitlines() if not line.startswith("user ")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def user(conf: str, name: str) -> list[str]:
    """The ACL rules of a user."""
    (line,) = [line for line in conf.splitlines() if line.startswith(f"user {name} ")]
    return line.split()[2:]


def test_no_plain_token(auth: str, credentials: Credentials) -> None:
    """The configuration has the hash of the AUTH token, but not the token."""
    assert credentials.token not in auth
    assert any(rule.startswith("#") and len(rule) == 65 for rule in user(auth, "default"))


def test_passwords_apart(conf: str) -> None:
    """The configuration includes the file with the passwords, and has no passwords itself."""
    assert settings(conf)["include"] == "/data/cachesim/auth.conf"
    assert not settings(conf).keys() & {"masterauth", "masteruser", "requirepass"}
    assert "user " not in conf


def test_tls_only(conf: str) -> None:
    """There is no plain port, and replication and the cluster bus use TLS 1.2 and later too."""
    tls = settings(conf)
    assert tls["port"] == "0"
    assert tls["tls-port"] == str(REDIS_PORT)
    assert tls["tls-replication"] == "yes"
    assert tls["tls-cluster"] == "yes"
    assert tls["tls-protocols"] == '"TLSv1.2 TLSv1.3"'


def test_every_user_has_a_password(auth: str) -> None:
    """Both users need a password, and there are no others."""
    users = [line.split()[1] for line in auth.splitlines() if line.startswith("user ")]
    assert sorted(users) == sorted(["default", ADMIN_USER])
    for name in users:
        assert "nopass" not in user(auth, name)
        assert any(rule.startswith("#") for rule in user(auth, name))


@pytest.mark.parametrize("command", FORBIDDEN)
def test_forbidden_to_clients(auth: str, command: str) -> None:
    """The rules forbid clients a command after they have allowed all commands."""
    rules = user(auth, "default")
    assert rules.index(f"-{command}") > rules.index("+@all")


def test_nothing_else_is_forbidden(auth: str) -> None:
    """Clients may use all commands that ElastiCache does not forbid."""
    taken = {rule[1:] for rule in user(auth, "default") if rule.startswith("-")}
    assert taken == set(FORBIDDEN)


def test_control_plane_may_do_all(auth: str) -> None:
    """The control plane's own user, which nodes also replicate as, may use all commands."""
    assert not [rule for rule in user(auth, ADMIN_USER) if rule.startswith("-")]
    assert settings(auth)["masteruser"] == ADMIN_USER


def test_durability(conf: str) -> None:
    """Writes go to an append-only file that is synced every second. There are no snapshots."""
    aof = settings(conf)
    assert (aof["appendonly"], aof["appendfsync"], aof["save"]) == ("yes", "everysec", '""')


def test_memory(conf: str, topology: Topology) -> None:
    """Nothing is evicted at the memory limit of the node."""
    memory = settings(conf)
    assert memory["maxmemory-policy"] == "noeviction"
    assert memory["maxmemory"] == str(topology.node("redis-b").max_memory)


def test_connection_limit(conf: str) -> None:
    """A node accepts as many connections as one of ElastiCache's."""
    assert settings(conf)["maxclients"] == "65000"


def test_replicas_do_not_promote_themselves(conf: str) -> None:
    """Only the control plane promotes."""
    assert settings(conf)["cluster-replica-no-failover"] == "yes"


def test_announced_address(conf: str) -> None:
    """A node announces its one address and no port of its own to clients, peers and primary."""
    announced = settings(conf)
    assert announced["cluster-announce-ip"] == "127.0.0.1"
    assert announced["replica-announce-ip"] == "127.0.0.1"
    assert announced["cluster-announce-tls-port"] == "40002"
    assert announced["replica-announce-port"] == "40002"
    assert announced["cluster-announce-bus-port"] == "41002"
    assert str(BUS_PORT) not in conf


def test_replicas_come_back_quickly(conf: str) -> None:
    """A full resync begins at once."""
    assert settings(conf)["repl-diskless-sync"] == "no"


def test_files(conf: str) -> None:
    """Certificates and `nodes.conf` are in the given folder."""
    files = settings(conf)
    for name in ("tls-cert-file", "tls-key-file", "tls-ca-cert-file", "cluster-config-file"):
        assert files[name].startswith("/data/cachesim/")


def test_hostname(topology: Topology, conf: str) -> None:
    """Clients are told the hostname if there is one, else the address."""
    told = settings(configure(topology, "cache.example"))
    assert told["cluster-announce-hostname"] == "cache.example"
    assert told["cluster-preferred-endpoint-type"] == "hostname"
    assert told["cluster-announce-ip"] == "127.0.0.1"
    assert "hostname" not in conf


# --- what servers make of it ----------------------------------------------------------------


@pytest.fixture
def real(
    require_server: Callable[[str, str], str],
    topology: Topology,
    credentials: Credentials,
    tmp_path: Path,
) -> Iterator[tuple[dict[str, str], "Redis"]]:
    """The settings that a real Redis 7.0 was started with, and a client of it."""
    binary = require_server("redis-server", "v=7.0.")
    with socket.socket() as free, socket.socket() as another:
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        port, bus_port = free.getsockname()[1], another.getsockname()[1]
    given = redis_settings(
        topology.node("redis-b"),
        PORTS["redis-b"],
        hostname="cache.example",
        node_timeout_ms=15000,
    )
    given |= {"tls-port": str(port), "cluster-port": str(bus_port)}
    given["maxclients"] = "100"  # more than the process may open files would be cut
    ca = CertificateAuthority()
    certificate = ca.issue("redis-b")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    (tmp_path / "cert.pem").write_bytes(certificate.chain)
    (tmp_path / "key.pem").write_bytes(certificate.key)
    (tmp_path / "auth.conf").write_text(auth_conf(credentials))
    known = nodes_conf(topology.shards[0], PORTS, random_node_ids(topology))
    (tmp_path / "nodes.conf").write_text(known["redis-b"])
    (tmp_path / "redis.conf").write_text(redis_conf(given, str(tmp_path)))
    server = subprocess.Popen(
        [binary, tmp_path / "redis.conf"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    at = Endpoint("127.0.0.1", port)
    tls = client_context(ca.pem)
    admin = NodeClients(lambda _: at, ADMIN_USER, credentials.admin_password, tls)
    try:
        deadline = Deadline(10)
        while True:
            try:
                admin.redis("redis-b").ping()
                break
            except errors():
                assert server.poll() is None
                assert not deadline.expired
        yield given, admin.redis("redis-b")
    finally:
        admin.close()
        server.kill()
        server.wait()


def test_a_real_server_takes_it(real: tuple[dict[str, str], "Redis"]) -> None:
    """A real server says of every setting what it was given.

    The contract has the same for every backend's nodes.
    """
    given, client = real
    assert config_of(client, given) == given | {"repl-backlog-size": str(16 * 2**20)}


# --- nodes.conf -----------------------------------------------------------------------------


def known(text: str) -> list[list[str]]:
    """Return the nodes of a `nodes.conf` as lists of fields."""
    return [line.split() for line in text.splitlines() if not line.startswith("vars ")]


@pytest.fixture
def confs(topology: Topology) -> dict[str, str]:
    """The `nodes.conf` of every node."""
    return nodes_conf(topology.shards[0], PORTS, random_node_ids(topology))


def test_all_know_all(confs: dict[str, str]) -> None:
    """Every Redis node knows all, at their announced addresses, and no Memcached node."""
    addresses = {f"127.0.0.1:{p.redis}@{p.bus}" for p in PORTS.values()}
    assert confs.keys() == PORTS.keys()
    for text in confs.values():
        replicas = [fields for fields in known(text) if "slave" in fields[2].split(",")]
        assert {fields[1].partition(",")[0] for fields in replicas} == addresses


def test_same_ids_everywhere(confs: dict[str, str]) -> None:
    """All nodes have the same ids for each other: 40 hexadecimal digits, all different."""
    ids = [{fields[1]: fields[0] for fields in known(text)} for text in confs.values()]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0].values())) == 4
    for name in ids[0].values():
        assert len(bytes.fromhex(name)) == 20


def test_ids_of_a_run(topology: Topology, confs: dict[str, str]) -> None:
    """Another run has other ids, so its nodes can't be mistaken for this one's."""
    other = nodes_conf(topology.shards[0], PORTS, random_node_ids(topology))
    assert known(confs["redis-a"])[0][0] != known(other["redis-a"])[0][0]


def test_myself(confs: dict[str, str]) -> None:
    """Each file marks the node it belongs to."""
    for name, text in confs.items():
        (myself,) = [fields for fields in known(text) if "myself" in fields[2].split(",")]
        assert f":{PORTS[name].redis}@" in myself[1]


def test_a_placeholder_owns_the_slots(confs: dict[str, str]) -> None:
    """All nodes are replicas of one that owns all slots and is none of them."""
    for text in confs.values():
        (owner,) = [fields for fields in known(text) if fields[2] == "master"]
        assert owner[3:] == ["-", "0", "0", "1", "connected", "0-16383"]
        replicas = [fields for fields in known(text) if fields != owner]
        assert len(replicas) == 3
        for replica in replicas:
            assert "slave" in replica[2].split(",")
            assert replica[3:] == [owner[0], "0", "0", "1", "connected"]


def test_one_shard(confs: dict[str, str]) -> None:
    """All nodes have the same shard id."""
    addresses = {fields[1] for text in confs.values() for fields in known(text)}
    (shard,) = {at.partition(",,shard-id=")[2] for at in addresses}
    assert len(bytes.fromhex(shard)) == 20


def test_ends_with_the_epoch(confs: dict[str, str]) -> None:
    """The file ends as Redis writes it."""
    for text in confs.values():
        assert text.endswith("\nvars currentEpoch 1 lastVoteEpoch 0\n")


@pytest.mark.parametrize(
    ("engine", "image", "can"),
    [
        ("redis", None, False),
        ("redis", "redis:8.0", False),
        ("valkey", None, True),
        ("valkey", "valkey/valkey:7.2", False),
        ("valkey", "registry.example:5000/valkey:8.1-alpine", True),
        ("valkey", "valkey/valkey:10", True),
        ("valkey", "valkey/valkey:latest", False),
    ],
)
def test_only_valkey_8_tells_zones(engine: str, image: str | None, can: bool) -> None:
    """Older servers refuse to start with the setting."""
    assert can_tell_zone(engine, image) is can
