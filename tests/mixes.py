"""Mixes of several faults at the same time, from a seed; their heal leaves nothing.

The test suite has a few. For many::

    python -m tests.mixes --seeds 10 --runs 20
"""

import argparse
import contextlib
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from cachesim import Simulator
from cachesim.errors import CachesimError
from cachesim.servers.admin import NodeClients
from tests.chaos import Held, Load, through_links, wait_until_well
from tests.drawn_faults import kinds


def mixes(sim: Simulator, seed: str, count: int) -> Iterator[list[str]]:
    """Several faults of different kinds at the same time, healed all at once; nothing is left.

    Gives the names of those that there were.

    Raises:
        AssertionError: something was left.
    """
    draw = Random(seed)
    wait_until_well(sim)
    before = left_behind(sim)
    for _ in range(count):
        begun: list[str] = []
        with Load(sim, threads=1):
            for name in draw.sample(sorted(kinds(sim, draw)), draw.randint(2, 5)):
                with contextlib.suppress(CachesimError, ValueError):
                    kinds(sim, draw)[name]()
                    begun.append(name)
                    time.sleep(draw.choice((0.0, 0.05, 0.2)))
            sim.heal()
        assert sim.faults.active == []
        assert [h.name for h in sim.links.values() if not h.enabled or h.toxics] == [], begun
        wait_until_well(sim)
        after = left_behind(sim)
        assert after == before, f"{begun} left {after}, {before} was there before"
        yield begun


def left_behind(sim: Simulator) -> dict[str, object]:
    """Return what faults change in servers, as clients see it, and the AUTH token."""
    env = sim.env()
    found: dict[str, object] = {"token": Path(env["CACHESIM_REDIS_PASSWORD_FILE"]).read_text()}
    with closing(through_links(sim)) as clients:
        worked_on = _worked_on(sim, clients)
        time.sleep(0.1)  # a hot key is read twenty times meanwhile
        found["requests that somebody makes"] = {
            name: count - worked_on[name]
            for name, count in _worked_on(sim, clients).items()
            if count != worked_on[name]
        }
        for node in sim.topology.redis:
            it = clients.redis(node.name)
            info = it.info("everything")
            names = ("maxclients", "maxmemory", "aof_last_write_status")
            user: Any = it.acl_getuser("default")
            found[node.name] = {name: info[name] for name in names} | {
                "fillers": it.keys("cachesim:*"),
                "passwords": len(user["passwords"]),
            }
        for node in sim.topology.memcached:
            with closing(clients.new_memcached(node.name)) as client:
                names_of_fillers = [f"cachesim:filler:{number}" for number in range(200)]
                found[node.name] = (
                    client.stats()[b"limit_maxbytes"],
                    client.get_many(names_of_fillers),
                )
    return found


def _worked_on(sim: Simulator, clients: NodeClients) -> dict[str, int]:
    """Return how many reads each node had, and on how many requests rules of faults worked."""
    found = {}
    for node in sim.topology.redis:
        info = clients.redis(node.name).info("everything")
        reads = info.get("cmdstat_get", {"calls": 0})["calls"]
        found[node.name] = int(reads) + int(info.get("injected_answers", 0))
    for node in sim.topology.memcached:
        with closing(clients.new_memcached(node.name)) as client:
            stats = client.stats()
            found[node.name] = int(stats[b"cmd_get"]) + int(stats.get(b"injected_answers", 0))
    return found


def main() -> None:
    """As the module's docstring says."""
    parser = argparse.ArgumentParser(prog="python -m tests.mixes", description=__doc__)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=20, help="mixes of each seed")
    parser.add_argument("--backend", default="embedded")
    it = parser.parse_args()
    failed = 0
    for seed in range(it.first, it.first + it.seeds):
        with Simulator(backend=it.backend, speed=100, seed=seed) as sim:
            failed += run(sim, str(seed), it.runs)
    sys.exit(failed)


def run(sim: Simulator, seed: str, count: int) -> int:
    """Run the mixes of one seed; return whether something was left."""
    drawn: list[str] = []
    began = time.monotonic()
    try:
        for begun in mixes(sim, seed, count):
            drawn += begun
    except Exception:
        traceback.print_exc()
        print(f"seed {seed}: FAILED", flush=True)
        return 1
    took = time.monotonic() - began
    spared = ", ".join(sorted(set(kinds(sim, Random())) - set(drawn))) or "none"
    print(
        f"seed {seed}: {count} mixes of {len(drawn)} faults in {took:.0f} s left nothing; not "
        f"drawn: {spared}; {Held.now(sim)}",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    main()
