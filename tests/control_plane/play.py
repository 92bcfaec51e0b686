"""A control plane over fake nodes, with a manual clock."""

from cachesim.clock import ManualClock
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.states import State
from cachesim.control_plane.timing import INTERVAL, Timing
from cachesim.events import Event, EventLog
from cachesim.topology import Topology, production
from tests.fakes import FakeShard

GROUP = "sessions"
DETECTION, PROMOTION, REPLACEMENT = (10.0, 20.0), (5.0, 10.0), (30.0, 60.0)
MOMENT = 0.01  # seconds


class Play:
    """A control plane over a made-up shard, at a time that stands still."""

    def __init__(
        self,
        *,
        seed: str = "7",
        speed: float = 1.0,
        node_timeout: float = 15.0,
        topology: Topology | None = None,
    ) -> None:
        topology = topology or production()
        self.clock = ManualClock(100.0)
        self.events = EventLog(self.clock)
        self.shard = FakeShard(topology, self.clock)
        timing = Timing(DETECTION, PROMOTION, REPLACEMENT, node_timeout, speed)
        self.plane = ControlPlane(
            topology,
            self.shard,
            {shard.id: self.shard for shard in topology.shards},
            self.shard.replace,
            timing,
            self.events,
            seed=seed,
            group=GROUP,
            clock=self.clock,
        )
        self.tick()

    def tick(self, seconds: float = INTERVAL, *, look: bool = True) -> None:
        """Let time pass, probe all nodes (or not), and let the control plane decide."""
        self.clock.advance(seconds)
        if look:
            self.shard.look()
        self.plane.tick()

    def until(self, moment: float) -> None:
        """Tick at exactly that moment."""
        self.tick(moment - self.clock.now)

    def until_state(self, state: State, limit: float = 200.0) -> None:
        """Tick until the shard is in a state."""
        end = self.clock.now + limit
        while self.plane.shard().state is not state:
            assert self.clock.now < end, f"never {state}:\n{self.events}"
            self.tick()

    def until_failover(self, limit: float = 200.0) -> None:
        """Tick until one more failover is completed."""
        before, end = self.plane.shard().failovers, self.clock.now + limit
        while self.plane.shard().failovers == before:
            assert self.clock.now < end, f"no failover:\n{self.events}"
            self.tick()

    def run(self, seconds: float) -> None:
        """Tick for a while."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.tick()

    def down(self, *nodes: str) -> None:
        """Let nodes answer no more."""
        for node in nodes:
            self.shard.nodes[node].up = False
        self.tick()

    def up(self, *nodes: str) -> None:
        """Let nodes answer again, as what they were."""
        for node in nodes:
            self.shard.nodes[node].up = True
        self.tick()

    def cut_off(self, *listeners: str, speaker: str = "redis-a") -> None:
        """Let nodes hear nothing of another from now on."""
        for listener in listeners:
            self.shard.silent[listener, speaker] = self.clock.now

    def state(self) -> State:
        """Where the shard is now."""
        return self.plane.shard().state

    def detecting(self) -> Event:
        """The last event that tells of a lost primary."""
        return self.events.of("detecting")[-1]

    def fail_over(self) -> None:
        """Kill the primary and wait for the promotion of another."""
        self.down(self.plane.shard().primary)
        self.until_state(State.REPLACING)

    def kinds(self) -> list[str]:
        """The kinds of all events, in order."""
        return [event.kind for event in self.events]
