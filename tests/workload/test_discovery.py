"""A HashClient that follows auto discovery."""

from typing import Any

import pytest
from pymemcache.client.hash import HashClient

from cachesim.servers.discovery import cluster_reply
from cachesim.topology import Endpoint
from cachesim.workload.discovery import Discovery, nodes_in

KEYS = [f"api:products:list:{number}" for number in range(300)]


def following(client: HashClient, monkeypatch: pytest.MonkeyPatch) -> Discovery:
    """Return what changes a client's nodes."""
    monkeypatch.setattr("cachesim.servers.certificates.client_context", lambda _: None)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: b"")
    env = {"CACHESIM_MEMCACHED_HOST": "h", "CACHESIM_MEMCACHED_PORT": "1", "CACHESIM_CA_FILE": "f"}
    return Discovery(client, env)


def chosen(client: Any) -> dict[str, str]:
    """Return the node of each key."""
    return {key: "{}:{}".format(*client._get_client(key).server) for key in KEYS}


def test_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """New nodes get their share of the keys, removed ones none, and those that stay their own."""
    client = HashClient([("h", port) for port in (1, 2, 3)], use_pooling=True)
    it = following(client, monkeypatch)
    before, kept = chosen(client), client.clients["h:2"]
    it.follow([("h", 1), ("h", 2), ("h", 4)])
    after = chosen(client)
    assert set(after.values()) == {"h:1", "h:2", "h:4"}
    stayed = {key for key in KEYS if before[key] != "h:3" and after[key] != "h:4"}
    assert len(stayed) > 100
    assert all(after[key] == before[key] for key in stayed)
    assert client.clients["h:2"] is kept
    it.follow([("h", 1), ("h", 2), ("h", 3)])
    assert chosen(client) == before
    assert set(client.clients) == {"h:1", "h:2", "h:3", "h:4"}  # calls may be about to use it
    it.follow([("h", 1), ("h", 2), ("h", 3)])
    assert set(client.clients) == {"h:1", "h:2", "h:3"}


def test_a_dead_node_that_left_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """HashClient tries dead nodes again, but not those that auto discovery has dropped."""
    client: Any = HashClient([("h", 1), ("h", 2)], use_pooling=True, dead_timeout=0)
    client._failed_clients["h", 2] = {}
    client.remove_server(("h", 2))
    it = following(client, monkeypatch)
    it.follow([("h", 1), ("h", 2)])
    assert ("h", 2) in client._dead_clients  # whether it is tried is the client's business
    it.follow([("h", 1)])
    assert not client._dead_clients
    assert set(chosen(client).values()) == {"h:1"}


def test_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes."""
    client = HashClient([("h", 1), ("h", 2)], use_pooling=True)
    it = following(client, monkeypatch)

    def refused(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("cachesim.workload.discovery.discovered", refused)
    it.ask()
    assert set(chosen(client).values()) == {"h:1", "h:2"}


def test_answers() -> None:
    """ElastiCache's form is read; anything else is an error."""
    text = cluster_reply(7, [Endpoint("a.example", 11211), Endpoint("", 11212)])
    assert nodes_in(text[: -len("\r\nEND\r\n")]) == [("a.example", 11211), ("127.0.0.1", 11212)]
    for wrong in (b"ERROR\r\n", b"", b"CONFIG cluster 0 9\r\n7\nnodes\n"):
        with pytest.raises(ValueError):  # noqa: PT011
            nodes_in(wrong)
