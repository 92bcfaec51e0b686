"""Faults drawn from a seed: any of the catalogue, anywhere."""

from collections.abc import Callable
from random import Random

from cachesim import Fault, Simulator
from cachesim.toxiproxy.toxics import LimitData, Slicer, SlowClose, Timeout


def kinds(sim: Simulator, draw: Random) -> dict[str, Callable[[], Fault]]:
    """Return what begins each fault of the catalogue, anywhere, by its name."""
    faults = sim.faults
    zones = [zone.name for zone in sim.topology.zones]
    nodes = [node.name for node in sim.topology.nodes]
    redis = [node.name for node in sim.topology.redis]
    every = list(sim.topology.links)
    links = draw.sample(every, draw.choice((1, 1, 2, 4, 8, len(every))))
    one, other = draw.sample(zones, 2)
    some = draw.sample(nodes, draw.choice((1, 1, 1, 2, 3, len(nodes))))

    def toxic() -> Fault:
        it = draw.choice(
            (
                SlowClose(draw.randint(1, 500)),
                Slicer(draw.randint(1, 2000), 1, 10),
                Timeout(draw.randint(1, 500)),
                LimitData(draw.randint(1, 5000)),
            )
        )
        return faults.toxic(links, it, toxicity=draw.choice((0.5, 1)))

    def answer() -> Fault:
        if draw.random() < 0.5:
            return faults.answer(draw.choice(redis), error="MOVED", to=draw.choice(redis))
        return faults.answer(*draw.sample(redis, 2), error="LOADING", share=0.5)

    return {
        "latency": lambda: faults.latency(links, draw.randint(1, 500), draw.randint(0, 100)),
        "bandwidth": lambda: faults.bandwidth(links, draw.randint(1, 1000)),
        "loss": lambda: faults.loss(links, draw.uniform(0.01, 0.5), draw.randint(10, 300)),
        "blackhole": lambda: faults.blackhole(links),
        "refuse": lambda: faults.refuse(links),
        "reset": lambda: faults.reset(links),
        "toxic": toxic,
        "replication-lag": lambda: faults.replication_lag(
            draw.uniform(0.01, 2.0), draw.sample(redis, 1)
        ),
        "partition": lambda: faults.partition(one, other, one_way=draw.random() < 0.3),
        "isolate": lambda: faults.isolate(one),
        "az-power": lambda: faults.az_power(one),
        "kill": lambda: faults.kill(*some),
        "stop": lambda: faults.stop(*some),
        "pause": lambda: faults.pause(*some),
        "memory-fill": lambda: faults.memory_fill(*some, to=draw.uniform(0.5, 2)),
        "connection-limit": lambda: faults.connection_limit(
            *draw.sample(nodes, 2), most=draw.randint(1, 50)
        ),
        "answer": answer,
        "delay": lambda: faults.delay(*some, ms=draw.randint(1, 500), share=0.5),
        "slow": lambda: faults.slow(*some, cpu=draw.uniform(1, 50)),
        "hot-key": lambda: faults.hot_key(*some, key="load:0:0", rate=draw.randint(200, 2000)),
        "aof-error": lambda: faults.aof_error(*draw.sample(redis, 1)),
        "auth-rotate": lambda: faults.auth_rotate(strategy=draw.choice(("rotate", "set"))),
        "bad-certificate": lambda: faults.bad_certificate(
            *some, problem=draw.choice(("expired", "wrong-host"))
        ),
        "expire": lambda: faults.expire(
            draw.choice(nodes), pattern="load:*", share=draw.random() or 1
        ),
        "flush": lambda: faults.flush(*some),
        "replace": lambda: faults.replace(*some, new_address=draw.random() < 0.5),
        "scale": lambda: faults.scale(draw.randint(3, 6)),
        "stale": lambda: faults.stale(),
    }


def drawn_fault(sim: Simulator, draw: Random) -> Fault:
    """Begin any fault of the catalogue, anywhere.

    Raises:
        CachesimError, ValueError: it can't be had now.
    """
    return draw.choice(list(kinds(sim, draw).values()))()
