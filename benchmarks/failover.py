"""A failover, compared with its promise: from the kill of the primary to the first accepted write.

At speed 30. The event `detecting` promises the moment at which another primary takes writes. The
client is production's RedisCluster with a `socket_timeout` of 0.5 s, which writes until a
write is accepted. Each run draws its own times.
"""

import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from benchmarks.measure import Row, comparison, duration, table
from cachesim import Simulator

if TYPE_CHECKING:
    from redis.cluster import RedisCluster

SPEED = 30
_LIMIT = 30.0  # seconds


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    promised, promoted, wrote = [], [], []
    with Simulator(backend="docker", speed=SPEED, seed=7) as sim:
        for number in range(runs):
            sim.reset(draws=f"benchmark {number}")
            with closing(sim.redis_cluster()) as client:
                client.set("k", 1)
                mark = sim.events.mark()
                killed = time.monotonic()
                sim.redis.primary.kill()
                written = _first_write(client)
            (detecting,) = sim.events.of("detecting", mark)
            failover = sim.events.of("failover", mark)[0]
            promised.append(detecting.data["promised_at"] - killed)
            promoted.append(failover.at - killed)
            wrote.append(written - killed)
    rows = [
        Row("kill to new primary", promoted, "promised", promised),
        Row("kill to first write", wrote, "promised", promised),
    ]
    late = {
        "new primary": [at - due for at, due in zip(promoted, promised, strict=True)],
        "first write of RedisCluster": [at - due for at, due in zip(wrote, promised, strict=True)],
    }
    overshoot = table(
        ("later than promised", "median", "max"),
        ([what, duration(median(by)), duration(max(by))] for what, by in late.items()),
    )
    return f"{comparison(rows)}\n\n{overshoot}"


def _first_write(client: "RedisCluster") -> float:
    """Write until a write is accepted; return the moment, in monotonic seconds."""
    end = time.monotonic() + _LIMIT
    while True:
        try:
            client.set("k", 2)
            return time.monotonic()
        except (RedisError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.005)
