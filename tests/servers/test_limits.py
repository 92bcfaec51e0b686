"""The limits of servers, over clients that the tests make up."""

from types import SimpleNamespace
from typing import cast

import pytest

from cachesim.servers.admin import NodeClients
from cachesim.servers.credentials import Credentials
from cachesim.servers.hot_keys import HotKeys
from cachesim.servers.limits import Servers
from cachesim.topology import production

CONFIGURED = production().node("redis-a").max_memory


@pytest.mark.parametrize(
    ("used", "share", "limit"),
    [
        pytest.param(CONFIGURED // 10, 1.0, CONFIGURED // 10, id="full"),
        pytest.param(CONFIGURED // 10, 2.0, CONFIGURED // 20, id="too-full"),
        pytest.param(CONFIGURED // 2, 0.1, CONFIGURED, id="fuller-already"),
    ],
)
def test_memory_fill_never_gives_more_memory(used: int, share: float, limit: int) -> None:
    """Redis's memory is lowered to what it holds, and stays if that is a larger share of it."""
    told: dict[str, int] = {}
    client = SimpleNamespace(info=lambda _: {"used_memory": used}, config_set=told.__setitem__)
    admin = cast(NodeClients, SimpleNamespace(redis=lambda _: client))
    hot_keys = cast(HotKeys, SimpleNamespace(read=None))
    servers = Servers(production(), admin, Credentials(), lambda _: None, hot_keys)
    servers.fill_memory("redis-a", share)
    assert told == {"maxmemory": limit}
