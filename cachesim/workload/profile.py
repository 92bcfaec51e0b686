"""How long the built-in clients wait and stay away, from their own constants."""

import inspect
from collections.abc import Mapping

from cachesim.workload.clients import TIMEOUT, redis_tries
from cachesim.workload.plan import Plan

Profile = dict[str, float]
"""`patience`: the longest that a call may take and still succeed. `comeback`: the longest until a
node that was given up is tried again. `discovery`, where there is one: the time between two times
that the nodes are asked for. All in seconds."""

_REDIS_NODES = 3
_CLUSTERDOWN_PAUSE = 0.25
"""Seconds that RedisCluster waits after CLUSTERDOWN before it tries again."""


def redis_profile() -> Profile:
    """Return the profile of RedisCluster.

    A try ends with its first timeout, 0.5 s. Then the client asks the nodes for the slots again,
    each for up to another timeout, and after CLUSTERDOWN it pauses for 0.25 s. A call has 11 tries
    with redis-py 8 (4 with 5). It stays away from no node: the longest until a node is tried again
    is one such try.
    """
    a_try = TIMEOUT * (1 + _REDIS_NODES) + _CLUSTERDOWN_PAUSE
    return {"patience": redis_tries() * a_try, "comeback": a_try}


def memcached_profile(discovery: float | None = None) -> Profile:
    """Return the profile of HashClient.

    Args:
        discovery: seconds between two times that it asks for the nodes. None: it does not.

    A call is tried once: TCP, TLS and the answer have a timeout of 0.5 s each. A node that is
    marked dead stays out for `dead_timeout`, 60 s, which is looked at every 60 s: up to twice that.
    """
    from pymemcache.client.hash import HashClient

    dead_timeout = inspect.signature(HashClient).parameters["dead_timeout"].default
    found = {"patience": 3 * TIMEOUT, "comeback": 2.0 * dead_timeout}
    return found if discovery is None else {**found, "discovery": discovery}


def profiles_of(plan: Plan) -> dict[str, Profile]:
    """Return the profile of each service's client, of those that are built in."""
    return {
        **({"sessions": redis_profile()} if plan.sessions else {}),
        **({"api_cache": memcached_profile(plan.api_cache.discovery)} if plan.api_cache else {}),
    }


def longest(profiles: Mapping[str, Profile]) -> Profile:
    """Return the longest that any of several clients waits and stays away. Of none: empty."""
    found = profiles.values()
    return {name: max(it[name] for it in found) for name in ("patience", "comeback") if found}
