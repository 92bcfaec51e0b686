"""What Toxiproxy 2.12 documents is in the fuzzer's grammar, or a known difference.

The names are those of its README.md, METRICS.md, CHANGELOG.md and `toxiproxy-server -help`.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from tests.embedded.toxiproxy.bodies import KNOWN, Call, calls

ENDPOINTS = (
    "GET /proxies", "POST /proxies", "POST /populate", "GET /proxies/{proxy}",
    "POST /proxies/{proxy}", "PATCH /proxies/{proxy}", "DELETE /proxies/{proxy}",
    "GET /proxies/{proxy}/toxics", "POST /proxies/{proxy}/toxics",
    "GET /proxies/{proxy}/toxics/{toxic}", "POST /proxies/{proxy}/toxics/{toxic}",
    "PATCH /proxies/{proxy}/toxics/{toxic}", "DELETE /proxies/{proxy}/toxics/{toxic}",
    "POST /reset", "GET /version", "GET /metrics",
)  # fmt: skip
PROXY_FIELDS = ("name", "listen", "upstream", "enabled")
TOXIC_FIELDS = ("name", "type", "stream", "toxicity", "attributes")
TOXICS = {
    "latency": ("latency", "jitter"),
    "bandwidth": ("rate",),
    "slow_close": ("delay",),
    "timeout": ("timeout",),
    "reset_peer": ("timeout",),
    "slicer": ("average_size", "size_variation", "delay"),
    "limit_data": ("bytes",),
}
AGENTS = ("Mozilla/", "toxiproxy-cli/")
"""The beginnings of the User-Agents that it tells apart or sends."""
OF_THE_PROCESS = (
    "-config", "-host", "-port", "-seed", "-proxy-metrics", "-runtime-metrics", "LOG_LEVEL",
)  # fmt: skip
"""The options of `toxiproxy-server`, and the variable that it reads."""


@pytest.fixture(scope="module")
def drawn() -> list[Call]:
    """Many calls."""
    return list(calls(1, 20_000, ["127.0.0.1:0"]))


def bodies(drawn: list[Call], path: str) -> list[Mapping[str, Any]]:
    """Return the objects in the bodies of the calls of a path, which is a regular expression."""
    found: list[Any] = []
    for call in drawn:
        if re.fullmatch(path, call.path):
            with suppress(ValueError):
                body = json.loads(call.body)
                found += body if isinstance(body, list) else [body]
    return [body for body in found if isinstance(body, dict)]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_endpoints(drawn: list[Call], endpoint: str) -> None:
    """Each endpoint is called."""
    method, path = endpoint.split()
    pattern = re.sub(r"\{\w+\}", "[^/]+", path)
    assert any(call.method == method and re.fullmatch(pattern, call.path) for call in drawn)


@pytest.mark.parametrize("path", ["/proxies", "/populate", "/proxies/[^/]+"])
@pytest.mark.parametrize("field", PROXY_FIELDS)
def test_proxy_fields(drawn: list[Call], path: str, field: str) -> None:
    """Each field of a proxy is sent wherever it may be."""
    assert any(field in body for body in bodies(drawn, path))


@pytest.mark.parametrize("path", ["/proxies/[^/]+/toxics", "/proxies/[^/]+/toxics/[^/]+"])
@pytest.mark.parametrize("field", TOXIC_FIELDS)
def test_toxic_fields(drawn: list[Call], path: str, field: str) -> None:
    """Each field of a toxic is sent when it is added, and when it is changed."""
    assert any(field in body for body in bodies(drawn, path))


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in TOXICS.items() for name in names]
)
def test_attributes(drawn: list[Call], kind: str, name: str) -> None:
    """Each attribute of each toxic is sent."""
    added = [body for body in bodies(drawn, "/proxies/[^/]+/toxics") if body.get("type") == kind]
    given = [body["attributes"] for body in added if isinstance(body.get("attributes"), dict)]
    assert any(name in attributes for attributes in given)


@pytest.mark.parametrize("agent", AGENTS)
def test_agents(drawn: list[Call], agent: str) -> None:
    """Each kind of client is drawn, as browsers are refused."""
    assert any(call.agent.startswith(agent) for call in drawn)


@pytest.mark.parametrize("name", OF_THE_PROCESS)
def test_process(name: str) -> None:
    """What an emulated server has not is a known difference."""
    assert any(f"`{name}`" in what for what, _ in KNOWN)
