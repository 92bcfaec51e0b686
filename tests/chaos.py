"""Chaos from a seed: random calls in many threads, or a long sequence of random faults.

The test suite runs it shortly. To run it longer::

    python -m tests.chaos storm --seed 1 --runs 100 --seconds 25
    python -m tests.chaos marathon --seed 1 --faults 3000 --backend docker
"""

import argparse
import contextlib
import faulthandler
import gc
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from cachesim import Fault, Simulator
from cachesim.control_plane.states import State
from cachesim.errors import CachesimError, FaultError
from cachesim.runs.registry import find_run
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.certificates import client_context
from cachesim.servers.credentials import DEFAULT_USER
from cachesim.topology import NodeState
from tests.drawn_faults import drawn_fault

LATEST = 15.0
"""Seconds that all may take to be well after the last fault is healed."""
STUCK = 60.0
"""Seconds that a verb may take which waits for its turn behind others, resets among them."""
_POLL = 0.02  # seconds


@dataclass
class Load:
    """Clients that write and read, whatever they get, while it is entered."""

    sim: Simulator
    threads: int = 2
    answered: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        for number in range(self.threads):
            for work in (self._redis, self._memcached):
                thread = threading.Thread(target=work, args=[number], daemon=True)
                self._threads.append(thread)
                thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _redis(self, number: int) -> None:
        client = None
        while not self._stopping.is_set():
            try:
                client = client or self.sim.redis_cluster(socket_timeout=0.2)
                with client.pipeline() as pipeline:
                    for count in range(10):
                        pipeline.set(f"load:{number}:{count}", "x" * 100)
                    pipeline.execute()
                client.get(f"load:{number}:0")
                self.answered += 1
            except Exception:  # redis-py has many; what counts comes after the storm
                time.sleep(_POLL)
        if client is not None:
            client.close()

    def _memcached(self, number: int) -> None:
        with closing(self.sim.memcached_client(timeout=0.2, connect_timeout=0.2)) as client:
            while not self._stopping.is_set():
                with contextlib.suppress(*errors()):
                    client.set(f"load:{number}", "x" * 100, noreply=False)
                    client.get(f"load:{number}")
                time.sleep(_POLL)


class Storm:
    """Threads that each do random verbs, for so many seconds.

    Attributes:
        findings: what must not be: verbs that were late, or ended with an error that is not ours.
        done: how many verbs were done.
    """

    def __init__(
        self, sim: Simulator, seed: str, threads: int = 16, *, resets: bool = True
    ) -> None:
        self.findings: list[str] = []
        self.done = 0
        self._sim = sim
        self._seed = seed
        self._threads = threads
        self._resets = resets
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def run(self, seconds: float) -> None:
        """Let it rage."""
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._rage, args=[Random(f"{self._seed} {n}"), until])
            for n in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 2 * STUCK)
        if any(thread.is_alive() for thread in threads):
            faulthandler.dump_traceback()
            self.findings.append("a verb never ended")

    def _rage(self, draw: Random, until: float) -> None:
        while time.monotonic() < until:
            name, verb = self._draw(draw)
            begun = time.monotonic()
            try:
                verb()
            except (CachesimError, ValueError):
                pass  # refused, and said so
            except Exception:
                self.findings.append(f"{name}: {traceback.format_exc()}")
            took = time.monotonic() - begun
            if took > STUCK:
                self.findings.append(f"{name} took {took:.1f} s")
            self.done += 1

    def _draw(self, draw: Random) -> tuple[str, Callable[[], object]]:
        sim = self._sim
        node = sim.nodes[draw.choice(sorted(sim.nodes))]
        zone = draw.choice(sorted(sim.zones))
        key = f"storm:{draw.random()}"
        verbs: list[tuple[int, str, Callable[[], object]]] = [
            (20, "fault", lambda: self._begin(draw)),
            (20, "heal", lambda: self._heal(draw)),
            (2, "kill", node.kill),
            (2, "stop", node.stop),
            (2, "pause", node.pause),
            (4, "resume", node.resume),
            (4, "restart", node.restart),
            (3, "failover", lambda: sim.control_plane.failover(draw.choice((None, zone)))),
            (2, "isolate", sim.zones[zone].isolate),
            (1, "power", sim.zones[zone].lose_power),
            (self._resets, "heal all", sim.heal),
            (self._resets, "reset", lambda: sim.reset(key)),
            (3, "look", lambda: (node.state, node.logs(5), str(sim.events), sim.faults.active)),
        ]
        _, name, verb = draw.choices(verbs, [weight for weight, _, _ in verbs])[0]
        return name, verb

    def _begin(self, draw: Random) -> None:
        fault = drawn_fault(self._sim, draw)
        with self._lock:
            self._faults.append(fault)

    def _heal(self, draw: Random) -> None:
        with self._lock:
            if not self._faults:
                return
            fault = self._faults.pop(draw.randrange(len(self._faults)))
        fault.heal()


def problem(sim: Simulator) -> str | None:
    """What keeps a topology without faults from being well, under whichever primary it has."""
    plane = sim.control_plane
    if plane.state is not State.AVAILABLE:
        return f"the shard is {plane.state}"
    for node in sim.topology.nodes:
        if (state := sim.nodes[node.name].state) is not NodeState.RUNNING:
            return f"{node.name} is {state}"
    try:
        with closing(through_links(sim)) as clients:
            primary = plane.primary
            for node in sim.topology.redis:
                role = clients.redis(node.name).role()[0]
                if role != ("master" if node.name == primary else "slave"):
                    return f"{node.name} is a {role}, and the primary is {primary}"
                slots = clients.redis(node.name).execute_command("CLUSTER SLOTS")
                if [len(row) - 2 for row in slots] != [len(sim.topology.redis)]:
                    return f"{node.name} tells of {slots}"
                if int(slots[0][2][1]) != sim.nodes[primary].endpoint.port:
                    return f"{node.name} tells of {slots}, and the primary is {primary}"
            clients.redis(primary).set("chaos", "well")
            if (reached := clients.redis(primary).wait(2, 500)) != 2:
                return f"a write reached {reached} of 2 replicas"
            for node in sim.topology.memcached:
                with closing(clients.new_memcached(node.name)) as client:
                    client.set("chaos", b"well")
                    if client.get("chaos") != b"well":
                        return f"{node.name} does not keep what it is given"
    except errors() as error:
        return f"{error!r}"
    return None


def wait_until_well(sim: Simulator, limit: float = LATEST) -> float:
    """Wait until a topology is well by itself; gives the seconds that it took.

    Raises:
        AssertionError: it is not in time.
    """
    begun = time.monotonic()
    while (reason := problem(sim)) is not None:
        took = time.monotonic() - begun
        assert took < limit, f"not well after {took:.1f} s: {reason}\n{_tail(sim)}"
        time.sleep(_POLL)
    return time.monotonic() - begun


def assert_as_new(sim: Simulator) -> None:
    """That a topology which was reset is as new, seen by clients through the links.

    Raises:
        AssertionError: it is not; the message says in what.
    """
    assert sim.control_plane.primary == sim.topology.shards[0].first_primary
    assert sim.faults.active == []
    assert [h.name for h in sim.links.values() if not h.enabled or h.toxics] == []
    with closing(through_links(sim)) as clients:
        sizes = [clients.redis(node.name).dbsize() for node in sim.topology.redis]
        assert sizes == [0, 0, 0]
        for node in sim.topology.memcached:
            with closing(clients.new_memcached(node.name)) as client:
                assert client.get_many(["load:0", "load:1", "chaos"]) == {}
        assert problem(sim) is None, _tail(sim)
        with closing(sim.redis_cluster()) as client:
            client.set("chaos", "as new")
            assert client.get("chaos") == "as new"
        assert clients.redis(sim.topology.shards[0].first_primary).wait(2, 1000) == 2
        for node in sim.topology.redis:
            one = clients.redis(node.name)
            with one.client() as connection:
                connection.execute_command("READONLY")
                assert connection.get("chaos") == "as new"
        with closing(sim.memcached_client()) as cache:
            assert cache.set("chaos", b"as new", noreply=False)
            assert cache.get("chaos") == b"as new"


def through_links(sim: Simulator) -> NodeClients:
    """Clients of an application at each node, over the links."""
    env = sim.env()
    return NodeClients(
        lambda node: sim.nodes[node].endpoint,
        DEFAULT_USER,
        env["CACHESIM_REDIS_PASSWORD"],
        client_context(Path(env["CACHESIM_CA_FILE"]).read_bytes()),
    )


def _tail(sim: Simulator) -> str:
    events = "\n".join(map(str, list(sim.events)[-40:]))
    logs = "\n".join(f"{n.name}:\n{sim.nodes[n.name].logs(12)}" for n in sim.topology.redis)
    return f"{events}\n{logs}"


@dataclass(frozen=True)
class Held:
    """What this process and that of its topology have open, but for connections of calls.

    Those stay open for further calls: as many as there were calls at the same time.
    """

    files: int
    threads: int

    @classmethod
    def now(cls, sim: Simulator) -> "Held":
        """At present, after what nobody refers to is gone."""
        gc.collect()
        daemon = psutil.Process(find_run(sim.name).owner.pid)
        processes = [psutil.Process(), daemon]
        calls = sum(bool(it.laddr) for it in daemon.net_connections("unix"))
        return cls(
            sum(process.num_fds() for process in processes) - 2 * calls,
            sum(process.num_threads() for process in processes) - calls,
        )


def marathon(sim: Simulator, seed: str, count: int) -> Iterator[float]:
    """Random faults, up to three at a time, each time healed in any order; until all is well.

    Gives the seconds that it took to be well each time.

    Raises:
        AssertionError: it was not in time.
    """
    draw = Random(seed)
    done = 0
    while done < count:
        begun: list[Fault] = []
        for _ in range(draw.choice((1, 1, 2, 3))):
            with contextlib.suppress(CachesimError, ValueError):
                begun.append(drawn_fault(sim, draw))
                done += 1
                time.sleep(draw.choice((0.0, 0.0, 0.05, 0.3, 1.0)))
        draw.shuffle(begun)
        while begun:
            fault = begun.pop(0)
            try:
                fault.heal()
            except FaultError as error:  # what servers hold can't be changed while they are paused
                assert "paused" in str(error), error  # noqa: PT017
                begun.append(fault)
        yield wait_until_well(sim)


def main() -> None:
    """As the module's docstring says."""
    faulthandler.register(signal.SIGUSR1)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", choices=("storm", "marathon"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10, help="storms, with a reset after each")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each storm")
    parser.add_argument("--faults", type=int, default=300, help="of a marathon")
    parser.add_argument("--backend", default="embedded")
    parser.add_argument("--speed", type=float, default=100.0)
    it = parser.parse_args()
    with Simulator(backend=it.backend, speed=it.speed, seed=it.seed) as sim:
        run: dict[str, Callable[[Simulator, Any], int]] = {"storm": storms, "marathon": marathons}
        sys.exit(run[it.what](sim, it))


def storms(sim: Simulator, it: argparse.Namespace) -> int:
    """Storm after storm; gives how many resets failed, or left something."""
    failed = 0
    for number in range(it.runs):
        seed, mark = f"{it.seed} {number}", sim.events.mark()
        storm = Storm(sim, seed, resets=number % 2 == 0)
        with Load(sim):
            storm.run(it.seconds)
        begun = time.monotonic()
        try:
            sim.reset()
            took = time.monotonic() - begun
            assert_as_new(sim)
            assert not storm.findings, storm.findings[0]
            assert not (wrong := sim.events.of("error", mark)), str(wrong[0])
            verdict = "as new"
        except Exception:
            took = time.monotonic() - begun
            failed += 1
            verdict = f"FAILED\n{traceback.format_exc()}"
        replaced = len(sim.events.of("replaced", mark))
        print(
            f"storm {seed}: {storm.done} verbs, reset {took:.2f} s, {Held.now(sim)}, "
            f"replaced {replaced}: {verdict}",
            flush=True,
        )
    print(f"{failed} of {it.runs} failed")
    return failed


def marathons(sim: Simulator, it: argparse.Namespace) -> int:
    """One marathon; gives whether it came to a bad end."""
    took = []
    with Load(sim):
        try:
            for seconds in marathon(sim, str(it.seed), it.faults):
                took.append(seconds)
                if len(took) % 50 == 0:
                    print(
                        f"{len(took)} times, longest {max(took):.2f} s, {Held.now(sim)}", flush=True
                    )
        except Exception:
            traceback.print_exc()
            return 1
    print(
        f"well again {len(took)} times, after {sorted(took)[len(took) // 2]:.2f} s, at most "
        f"{max(took):.2f} s; replaced {len(sim.events.of('renewed'))}"
    )
    return 0


if __name__ == "__main__":
    main()
