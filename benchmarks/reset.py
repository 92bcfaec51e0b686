"""A reset between two tests: `Simulator.reset`, compared with one written by hand.

By hand is: toxiproxy-python's `reset` on the three servers, FLUSHALL with redis-py, `flush_all`
with pymemcache, one after the other; once with new clients, as in a fixture that trusts no older
connection, and once with clients that are kept. It has an advantage: it starts no dead node,
restores no role and checks nothing.
"""

from collections.abc import Mapping
from contextlib import ExitStack, closing

from benchmarks.measure import Row, comparison, in_turns, seconds
from cachesim import Simulator

_LINK = "client-to-redis-a"
_KEYS = 100


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with Simulator(backend="docker") as sim, ExitStack() as life:
        servers = {zone: sim.toxiproxy(zone) for zone in sim.zones}
        redis, memcached = sim.redis_cluster(), sim.memcached_client()
        life.enter_context(closing(redis))
        life.callback(memcached.close)

        def fill() -> None:
            for number in range(_KEYS):
                redis.set(f"session:{number}", "x" * 2048)
                memcached.set(f"api:products:list:{number}", "x" * 2048)

        def add_toxic() -> None:
            servers["a"].get_proxy(_LINK).add_toxic(type="latency", attributes={"latency": 1})

        def ours() -> Mapping[str, float]:
            fill()
            sim.faults.latency(_LINK, 1)
            return {"reset": seconds(sim.reset)}

        def with_new_clients() -> Mapping[str, float]:
            def reset() -> None:
                for server in servers.values():
                    server.reset()
                with closing(sim.redis_cluster()) as client:
                    client.flushall()
                with closing(sim.memcached_client()) as client:
                    client.flush_all()

            fill()
            add_toxic()
            return {"reset": seconds(reset)}

        def with_kept_clients() -> Mapping[str, float]:
            def reset() -> None:
                for server in servers.values():
                    server.reset()
                redis.flushall()
                memcached.flush_all()

            fill()
            add_toxic()
            return {"reset": seconds(reset)}

        peers = {
            "by hand, with new clients": with_new_clients,
            "by hand, with kept clients": with_kept_clients,
        }
        times = in_turns(runs, {"ours": ours, **peers})
        return comparison(
            Row("reset", times["ours"]["reset"], peer, times[peer]["reset"]) for peer in peers
        )
