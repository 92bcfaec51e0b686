"""Servers in memory, for tests without a Docker engine."""

import copy
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cachesim.backends.base import Progress
from cachesim.clock import Clock, Deadline
from cachesim.control_plane.actions import Branch
from cachesim.control_plane.evidence import MISSED, Probe, RedisProbe, Silence
from cachesim.control_plane.timing import INTERVAL, PROBE_TIMEOUT
from cachesim.embedded.answers import Rule
from cachesim.errors import (
    FaultError,
    NoPower,
    NotReady,
    StartError,
    ToxiproxyError,
    ToxiproxyTimeout,
)
from cachesim.servers.hot_keys import HotKey
from cachesim.topology import ENDPOINTS, Endpoint, Node, NodeState, Role, Service, Topology
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Stream, Toxic

Call = tuple[str, ...]
"""A verb and what it was called with."""


class FakeToxiproxy(ToxiproxyClient):
    """One Toxiproxy server, which keeps the toxics of each proxy in the order of its chain.

    What it logs and tells of toxics is by what they do: a latency of more than a day is a `stall`,
    and to set a toxic so that it lets everything through is to `lift` it.

    Attributes:
        calls: every call that changes something, in order; may be shared with other fakes.
        stuck: proxies whose toxics can't be changed: the calls time out, until they are deleted.
        is_lost: whether nothing can be deleted either.
        busy: how many more calls time out for no reason that lasts.
        broken: the status that every call about a proxy gets, by proxy.
    """

    def __init__(self, zone: str, proxies: Iterable[str], calls: list[Call]) -> None:
        super().__init__(f"http://toxiproxy-{zone}:8474")
        self.calls = calls
        self.stuck: set[str] = set()
        self.is_lost = False
        self.busy = 0
        self.broken: dict[str, int] = {}
        self._proxies: dict[str, dict[str, Any]] = {}
        for name in proxies:
            self.make({"name": name, "listen": f"0.0.0.0:{name}", "upstream": name})

    def make(self, spec: Mapping[str, object]) -> None:
        """Make a proxy, without a call."""
        self._proxies[str(spec["name"])] = {"enabled": True, **spec, "toxics": []}

    def forget(self, proxy: str) -> None:
        """Delete a proxy, without a call."""
        del self._proxies[proxy]

    def names(self, proxy: str) -> list[str]:
        """The names of a proxy's toxics, those that do nothing too."""
        return [toxic["name"] for toxic in self._proxies[proxy]["toxics"]]

    def does(self, proxy: str, stream: Stream) -> list[str]:
        """Return what the toxics of a stream do, in order, without those that do nothing."""
        toxics = [toxic for toxic in self._proxies[proxy]["toxics"] if toxic["stream"] == stream]
        return [effect for toxic in toxics if (effect := _effect(toxic))]

    def spec(self, proxy: str) -> dict[str, Any]:
        """A proxy without its toxics."""
        return {key: value for key, value in self._proxies[proxy].items() if key != "toxics"}

    def is_enabled(self, proxy: str) -> bool:
        """Whether a proxy listens."""
        return bool(self._proxies[proxy]["enabled"])

    def proxies(self) -> dict[str, dict[str, Any]]:
        """See `ToxiproxyClient.proxies`."""
        return copy.deepcopy(self._proxies)

    def proxy(self, name: str) -> dict[str, Any]:
        """See `ToxiproxyClient.proxy`."""
        return copy.deepcopy(self._find(name))

    def populate(self, proxies: Sequence[Mapping[str, object]]) -> None:
        """See `ToxiproxyClient.populate`."""
        for proxy in proxies:
            name = str(proxy["name"])
            self.calls.append(("populate", name))
            present = self._proxies.get(name, {})
            if any(present.get(key) != proxy[key] for key in ("listen", "upstream")):
                self.make(proxy)

    def set_listen(self, name: str, address: str) -> None:
        """See `ToxiproxyClient.set_listen`."""
        self._find(name)["listen"] = address
        self.calls.append(("listen", name, address))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """See `ToxiproxyClient.set_enabled`."""
        self._find(name)["enabled"] = enabled
        self.calls.append(("enable" if enabled else "disable", name))

    def delete(self, name: str) -> None:
        """See `ToxiproxyClient.delete`."""
        if self.is_lost:
            raise ToxiproxyTimeout("no answer")
        self._find(name)
        self.forget(name)
        self.stuck.discard(name)
        self.calls.append(("delete", name))

    def is_stuck(self, name: str) -> bool:
        """See `ToxiproxyClient.is_stuck`."""
        return name in self.stuck

    def renew(self) -> None:
        """Become a new server, with the same proxies."""
        self.stuck.clear()
        self.is_lost = False
        for proxy in self.proxies().values():
            self.make({key: proxy[key] for key in ("name", "listen", "upstream")})

    def add_toxic(
        self, proxy: str, name: str, toxic: Toxic, stream: Stream, toxicity: float = 1.0
    ) -> None:
        """See `ToxiproxyClient.add_toxic`."""
        toxics = self._find(proxy)["toxics"]
        if name in self.names(proxy):
            raise ToxiproxyError("toxic already exists", 409)
        self._wait(proxy)
        added = {
            "name": name,
            "type": toxic.type,
            "stream": stream,
            "toxicity": toxicity,
            "attributes": toxic.attributes,
        }
        toxics.append(added)
        self.calls.append(("add", proxy, _effect(added)))

    def update_toxic(self, proxy: str, name: str, toxic: Toxic) -> None:
        """See `ToxiproxyClient.update_toxic`."""
        present = self._find_toxic(proxy, name)
        self._wait(proxy)
        before = _effect(present)
        present["attributes"] = toxic.attributes
        after = _effect(present)
        self.calls.append(("set", proxy, after) if after else ("lift", proxy, before))

    def remove_toxic(self, proxy: str, name: str) -> None:
        """See `ToxiproxyClient.remove_toxic`."""
        present = self._find_toxic(proxy, name)
        self._wait(proxy)
        self._proxies[proxy]["toxics"].remove(present)
        self.calls.append(("remove", proxy, _effect(present)))

    def _find(self, proxy: str) -> dict[str, Any]:
        if proxy in self.broken:
            raise ToxiproxyError("told to fail", self.broken[proxy])
        if proxy not in self._proxies:
            raise ToxiproxyError("proxy not found", 404)
        return self._proxies[proxy]

    def _find_toxic(self, proxy: str, name: str) -> dict[str, Any]:
        toxics: list[dict[str, Any]] = self._find(proxy)["toxics"]
        for toxic in toxics:
            if toxic["name"] == name:
                return toxic
        raise ToxiproxyError("toxic not found", 404)

    def _wait(self, proxy: str) -> None:
        if self.busy or proxy in self.stuck:
            self.busy = max(0, self.busy - 1)
            raise ToxiproxyTimeout("no answer")


def _effect(toxic: Mapping[str, Any]) -> str:
    """Return what a toxic does; an empty text if it lets everything through."""
    match toxic:
        case {"type": "latency", "attributes": {"latency": latency}} if latency > 24 * 3600 * 1000:
            return "stall"
        case {"type": "latency", "attributes": {"latency": 0, "jitter": 0}}:
            return ""
        case {"type": "slow_close", "attributes": {"delay": 0}}:
            return ""
    return str(toxic["type"])


def toxiproxies(topology: Topology, calls: list[Call]) -> dict[str, FakeToxiproxy]:
    """A server for each zone and the endpoints, with the proxies of the links at home there."""
    homes = [*(zone.name for zone in topology.zones), ENDPOINTS]
    return {
        home: FakeToxiproxy(
            home, [link.name for link in topology.links if link.home == home], calls
        )
        for home in homes
    }


class FakeConfiguration:
    """The configuration endpoints, which listen nowhere.

    Attributes:
        ports: their ports, by name.
        leading: where each leads, by service.
        ways: where nodes are found from a zone.
        reply: the answer to `config get cluster`.
    """

    reply = b""

    def __init__(self, topology: Topology) -> None:
        self.ports = {"endpoint-redis": 1, "endpoint-memcached": 2}
        self.leading: dict[Service, Callable[[], Endpoint | None]] = {}
        self.ways: dict[str, Callable[[Endpoint], Endpoint]] = {}
        self._topology = topology

    def address(self, service: Service) -> Endpoint:
        """See `ConfigurationEndpoints.address`."""
        return Endpoint("127.0.0.1", self.ports[f"endpoint-{service}"])

    def lead(self, service: Service, choose: Callable[[], Endpoint | None]) -> None:
        """See `ConfigurationEndpoints.lead`."""
        self.leading[service] = choose

    def in_zone(self, zone: str, way: Callable[[Endpoint], Endpoint]) -> dict[str, Endpoint]:
        """See `ConfigurationEndpoints.in_zone`."""
        self.ways[zone] = way
        return {it: Endpoint(f"{it}-in-{zone}", port) for it, port in self.ports.items()}

    def tell_cluster(self, reply: bytes) -> None:
        """See `ConfigurationEndpoints.tell_cluster`."""
        self.reply = reply

    def toxiproxy_client(self) -> ToxiproxyClient:
        """See `ConfigurationEndpoints.toxiproxy_client`."""
        return toxiproxies(self._topology, [])[ENDPOINTS]


class FakeNames:
    """The `Names` of faults: which endpoints each holder holds."""

    def __init__(self) -> None:
        self.held: dict[Hashable, tuple[str, ...]] = {}

    def hold(self, holder: Hashable, endpoints: Collection[str]) -> None:
        """See `Names.hold`."""
        self.held[holder] = tuple(endpoints)

    def release(self, holder: Hashable) -> None:
        """See `Names.release`."""
        self.held.pop(holder, None)

    def changed(self) -> None:
        """See `Naming.changed`."""

    def forget(self) -> None:
        """See `Names.forget`."""
        self.held.clear()


class FakeReplacer:
    """The `Replacer` of faults.

    Attributes:
        replaced: the nodes, in order, each with what it was called with.
        succession: called before a node is replaced.
    """

    def __init__(self) -> None:
        self.replaced: list[tuple[str, bool, bool]] = []
        self.succession: Callable[[], object] = lambda: None

    def prepare(self, node: str) -> None:  # noqa: ARG002
        """See `Replacer.prepare`."""
        self.succession()

    def replace(self, node: str, *, new_address: bool = False, hangs: bool = False) -> None:
        """See `Replacer.replace`."""
        self.replaced.append((node, new_address, hangs))

    def roll(self, *, new_addresses: bool = False, hangs: bool = False) -> None:
        """See `Replacing.roll`."""
        self.replaced.append(("all", new_addresses, hangs))


class FakeScaler:
    """The `Scaler` of faults, and what a `Scaling` tells of nodes.

    Attributes:
        most: the most nodes that can be added; of more, the others remain.
    """

    def __init__(self, topology: Topology) -> None:
        self.count = 3
        self.most = 20
        self.coming: set[str] = set()
        self._lock = threading.RLock()
        self._topology = topology

    def each(self, what: Callable[[str], Any]) -> list[Any]:
        """See `Scaling.each`."""
        return [what(node.name) for node in self._topology.nodes if node.name not in self.coming]

    def scale(self, count: int) -> None:
        """See `Scaler.scale`."""
        self.count = min(count, self.most)
        if count > self.most:
            raise FaultError("a node was not added")

    def suspended(self) -> AbstractContextManager[object]:
        """See `Scaler.suspended`."""
        return self._lock


class FakeBackend:
    """A `Backend` whose nodes are states in a dict.

    Attributes:
        calls: every verb in order; may be shared with other fakes.
        states: what each node does.
        rules: the rules of each node's answers.
        failing: verbs that raise `error` before they do anything.
        error: the class of their errors.
    """

    name = "fake"

    def __init__(self, topology: Topology, calls: list[Call]) -> None:
        self.calls = calls
        self.states = {node.name: NodeState.RUNNING for node in topology.nodes}
        self.failing: set[str] = set()
        self.rules: dict[str, tuple[Rule, ...]] = {}
        self.error: type[Exception] = FaultError

    def answer_with(self, node: str, rules: Sequence[Rule]) -> None:
        """See `Backend.answer_with`."""
        self.rules.pop(node, None)
        if rules:
            self.rules[node] = tuple(rules)

    def fill_disk(self, node: str, *, is_full: bool, spare: int = 0) -> None:
        """See `Backend.fill_disk`."""
        self.calls.append(("fill_disk" if is_full else "empty_disk", node, str(spare)))

    def limit_connections(self, node: str, most: int | None, clients: int = 0) -> None:
        """See `Backend.limit_connections`."""
        self.calls.append(("limit_connections", node, str(most), str(clients)))

    def set_tokens(self, node: str, tokens: Sequence[str]) -> None:
        """See `Backend.set_tokens`."""
        self.calls.append(("set_tokens", node, *tokens))

    def set_certificate(self, node: str, problem: str | None) -> tuple[str, str]:  # noqa: ARG002
        """See `Backend.set_certificate`."""
        return problem or "", ""

    def limit_cpu(self, node: str, share: float) -> None:
        """See `Backend.limit_cpu`."""
        self.calls.append(("limit_cpu", node, str(share)))

    def start(self, progress: Progress) -> None:
        """See `Backend.start`."""
        progress("starting")

    def stop(self) -> None:
        """See `Backend.stop`."""

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        return Endpoint(node, 6379)

    def admin(self, node: str) -> Endpoint:
        """See `Backend.admin`."""
        return Endpoint(f"{node}-admin", 6379)

    def seen_from(self, zone: str, nodes: Sequence[Node]) -> dict[str, Endpoint]:
        """See `Backend.seen_from`."""
        if new := {node.name for node in nodes} - self.states.keys():
            raise KeyError(min(new))
        return {
            node.name: self.endpoint(node.name)
            if node.zone == zone
            else Endpoint(f"{node.name}-from-{zone}", 6379)
            for node in nodes
        }

    def link_bytes(self) -> dict[str, int]:
        """See `Backend.link_bytes`."""
        return {}

    def toxiproxy(self, zone: str) -> str:
        """See `Backend.toxiproxy`."""
        return f"http://toxiproxy-{zone}:8474"

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """See `Backend.toxiproxy_client`."""
        return FakeToxiproxy(zone, [], [])

    def add_node(self, node: Node) -> None:
        """See `Backend.add_node`."""
        self._set(NodeState.RUNNING, "add", node.name)

    def remove_node(self, node: Node) -> None:
        """See `Backend.remove_node`."""
        self.calls.append(("remove_node", node.name))

    def tell_cluster(self, reply: bytes) -> None:
        """See `Backend.tell_cluster`."""

    def move_node(
        self,
        node: str,
        *,
        back: bool = False,
        hangs: bool = False,  # noqa: ARG002
    ) -> dict[str, str]:
        """See `Backend.move_node`."""
        self.calls.append(("move_back" if back else "move", node))
        return {f"client-to-{node}": f"127.0.0.1:{node}" if back else f"127.0.0.1:new-{node}"}

    def lead_zones_to(self, node: str) -> None:
        """See `Backend.lead_zones_to`."""
        self.calls.append(("lead_zones_to", node))

    def renew_toxiproxy(self, zone: str) -> None:
        """See `Backend.renew_toxiproxy`."""
        self._set(NodeState.RUNNING, "renew", zone)

    def state(self, node: str) -> NodeState:
        """See `Backend.state`."""
        return self.states[node]

    def kill(self, *nodes: str) -> None:
        """See `Backend.kill`."""
        self._set(NodeState.STOPPED, "kill", *nodes)

    def shut_down(self, node: str) -> None:
        """See `Backend.shut_down`."""
        self._set(NodeState.STOPPED, "shut_down", node)

    def pause(self, *nodes: str) -> None:
        """See `Backend.pause`."""
        self._set(NodeState.PAUSED, "pause", *nodes)

    def resume(self, node: str) -> None:
        """See `Backend.resume`."""
        self._set(NodeState.RUNNING, "resume", node)

    def renew_redis(self) -> None:
        """See `Backend.renew_redis`."""
        self.calls.append(("renew_redis",))

    def start_node(self, node: str) -> None:
        """See `Backend.start_node`."""
        self._set(NodeState.RUNNING, "start_node", node)

    def truncate_aof(self, node: str, size: int) -> None:
        """See `Backend.truncate_aof`."""
        if self.states[node] is not NodeState.STOPPED:
            raise AssertionError(f"{node} runs")
        self.calls.append(("truncate_aof", node, str(size)))

    def logs(self, node: str, lines: int = 50) -> str:
        """See `Backend.logs`."""
        return f"the last {lines} lines of {node}"

    def _set(self, state: NodeState, verb: str, *nodes: str) -> None:
        if verb in self.failing:
            raise self.error(f"{verb} was told to fail")
        if nodes:
            self.calls.append((verb, *sorted(nodes)))
        self.states |= dict.fromkeys(nodes, state)


@dataclass
class FakeNode:
    """The state of a node of `FakeShard`.

    Attributes:
        up: whether it answers.
        knows: whether it hears that another was promoted, and then follows.
        is_loading: whether it loads its data.
    """

    up: bool = True
    role: Role = Role.REPLICA
    offset: int = 1000
    state_ok: bool = True
    knows: bool = True
    is_loading: bool = False


class FakeShard:
    """The nodes as the control plane sees them: its `Evidence` and its `ShardActions`.

    The evidence is as of the last `look`.

    Attributes:
        calls: what the control plane did.
        silent: since when a listener does not hear a speaker.
        hung: since when nodes owe the answer to a probe that they never answer.
        unpowered: zones without power.
        unstartable: nodes that can't be given a new process.
        unpromotable: nodes that can't be promoted.
        hesitant: nodes that take over, but do not accept writes in time.
        unfenceable: nodes that do not answer when they are to be fenced.
        unsynced: replicas that lag behind.
        unanswered: primaries that did not answer when they were asked whether a replica lags.
        asked: the offset from which a node asked to continue a history.
        history: the history that promoted nodes leave.
        branches: the points at which they left it.
    """

    def __init__(self, topology: Topology, clock: Clock) -> None:
        self.interval = INTERVAL
        self.timeout = PROBE_TIMEOUT
        self._clock = clock
        self._peers = {
            node.name: [peer.name for peer in shard.nodes]
            for shard in topology.shards
            for node in shard.nodes
        }
        self._zones = {node.name: node.zone for node in topology.nodes}
        self._probes: dict[str, Probe] = {}
        self._looked_at = clock.monotonic()
        self.nodes = {node.name: FakeNode() for node in topology.nodes}
        for shard in topology.shards:
            self.nodes[shard.first_primary].role = Role.PRIMARY
        self.calls: list[Call] = []
        self.silent: dict[tuple[str, str], float] = {}
        self.hung: dict[str, float] = {}
        self.unpowered: set[str] = set()
        self.unstartable: set[str] = set()
        self.unpromotable: set[str] = set()
        self.hesitant: set[str] = set()
        self.unfenceable: set[str] = set()
        self.unsynced: set[str] = set()
        self.unanswered: set[str] = set()
        self.asked: dict[tuple[str, str], int] = {}
        self.history = "shared"
        self.branches: dict[str, Branch] = {}

    def look(self) -> None:
        """Probe every node now."""
        self._looked_at = now = self._clock.monotonic()
        for name, node in self.nodes.items():
            before = self._probes.get(name)
            known = before is not None and before.answered is node.up
            since = before.since if before is not None and known else now
            if name not in self._peers:
                self._probes[name] = Probe(node.up, now, since)
            elif node.up:
                self._probes[name] = RedisProbe(
                    True,
                    now,
                    since,
                    node.role,
                    node.offset,
                    node.state_ok,
                    node.is_loading,
                )
            else:
                last = before or RedisProbe(False, now, since)
                self._probes[name] = replace(last, answered=False, at=now, since=since)

    def probe(self, node: str) -> Probe | None:
        """See `Evidence.probe`."""
        probe, asked = self._probes.get(node), self.hung.get(node)
        now = self._clock.monotonic()
        if probe is None or asked is None or now - asked <= self.timeout:
            return probe
        return replace(probe, answered=False, at=asked, since=asked, until=now)

    def postpone(self, node: str, seconds: float) -> None:
        """Make a node's silence begin later, as if so much time did not count."""
        probe = self._probes[node]
        self._probes[node] = replace(probe, since=probe.since + seconds)

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """See `Evidence.silence`."""
        since = self.silent.get((listener, speaker))
        if since is None or self._looked_at - since <= MISSED * self.interval:
            return None
        return Silence(since, self._looked_at)

    def pause_writes(self, node: str, seconds: float) -> None:  # noqa: ARG002
        """See `ShardActions.pause_writes`."""
        if node in self.unfenceable:
            raise FaultError(f"{node} does not answer")
        self.calls.append(("pause_writes", node))

    def resume_writes(self, node: str) -> None:
        """See `ShardActions.resume_writes`."""
        self.calls.append(("resume_writes", node))

    def fence(self, node: str) -> int | None:
        """See `ShardActions.fence`."""
        self.calls.append(("fence", node))
        fenced = self.nodes[node]
        answers = fenced.up and node not in self.unfenceable
        return fenced.offset if answers and fenced.role is Role.PRIMARY else None

    def unfence(self, node: str) -> None:
        """See `ShardActions.unfence`."""
        self.calls.append(("unfence", node))
        if not self.nodes[node].up:
            raise FaultError(f"{node} does not answer")

    def promote(self, node: str) -> Branch:
        """See `ShardActions.promote`."""
        self.calls.append(("promote", node))
        promoted = self.nodes[node]
        if node in self.unpromotable or not promoted.up:
            raise FaultError(f"{node} did not become the primary")
        for name in self._peers[node]:
            if self.nodes[name].up and self.nodes[name].knows:
                self.nodes[name].role = Role.REPLICA
        promoted.role = Role.PRIMARY
        if node in self.hesitant:
            raise FaultError(f"{node}: cluster_state is fail")
        self.branches[node] = Branch(self.history, promoted.offset, f"of {node}")
        return self.branches[node]

    def branch(self, primary: str) -> Branch:
        """See `ShardActions.branch`."""
        if primary not in self.branches:
            raise FaultError(f"{primary} does not answer")
        return self.branches[primary]

    def psync_offset(self, node: str, history: str) -> int | None:
        """See `ShardActions.psync_offset`."""
        return self.asked.get((node, history))

    def in_sync(self, node: str, primary: str) -> bool:
        """See `ShardActions.in_sync`."""
        follower, followed = self.nodes[node], self.nodes[primary]
        if not followed.up:
            self.unanswered.add(primary)
        roles = follower.role, followed.role
        return roles == (Role.REPLICA, Role.PRIMARY) and node not in self.unsynced

    def replace(self, node: str) -> None:
        """See `ControlPlane`."""
        self.calls.append(("replace", node))
        if self._zones[node] in self.unpowered:
            raise NoPower(f"{node} can't be started: az-{self._zones[node]} has no power")
        if node in self.unstartable:
            raise StartError(f"{node} can't be started")
        self.nodes[node].up = True
        self.hung.pop(node, None)
        others = [self.nodes[name] for name in self._peers.get(node, ()) if name != node]
        if any(other.up and other.role is Role.PRIMARY for other in others):
            self.nodes[node].role = Role.REPLICA


class FakeSizes:
    """The sizes of append-only files, the same at any time.

    Attributes:
        asked: how long ago, in seconds, in order.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.asked: list[float] = []

    def aof_size(self, node: str, ago: float) -> tuple[float, int] | None:
        """See `cachesim.faults.appliers.AofSizes`."""
        self.asked.append(ago)
        return (100 - ago, self.sizes[node]) if node in self.sizes else None


class FakeCluster:
    """The Redis nodes as a cluster that gets well after some failures.

    Attributes:
        failures: what `converge` raises, one after the other.
        endless: nodes whose script does not end.
        is_hurried: see `Cluster`.
    """

    is_hurried = False

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls
        self.failures: list[NotReady] = []
        self.endless: set[str] = set()

    @property
    def health(self) -> Self:
        """See `Cluster.health`."""
        return self

    def problem(self, _node: str, _primary: str) -> str | None:
        """Healthy as long as there is no failure to come."""
        return "unhealthy" if self.failures or self.endless else None

    def first_problem(self, primary: str) -> NotReady | None:
        """See `RedisHealth.first_problem`."""
        problem = self.problem(primary, primary)
        return None if problem is None else NotReady(f"{primary}: is {problem}", primary)

    def end_script(self, node: str) -> bool:
        """See `Cluster.end_script`. Who is told that it does not end replaces the node."""
        is_endless = node in self.endless
        self.endless.discard(node)
        return not is_endless

    def converge(self, primary: str, _node_timeout_ms: int, _deadline: Deadline) -> None:
        """See `Cluster.converge`."""
        self._calls.append(("converge", primary))
        if self.failures:
            raise self.failures.pop(0)

    def form(self, primary: str, node_timeout_ms: int, _deadline: Deadline) -> None:
        """See `Cluster.form`."""
        self._calls.append(("form", primary, str(node_timeout_ms)))

    def flush(self, primary: str) -> NotReady | None:
        """See `Cluster.flush`."""
        if (error := self.first_problem(primary)) is None:
            self._calls.append(("flush", primary))
        return error

    def resume_writes(self, node: str) -> None:
        """See `Cluster.resume_writes`."""
        self._calls.append(("resume_writes", node))

    def find_primary(self) -> str:
        """See `Cluster.find_primary`."""
        return "redis-b"


class FakeMemcached:
    """A client of a Memcached node that answers."""

    def __init__(self, node: str, calls: list[Call]) -> None:
        self._node = node
        self._calls = calls
        self.settings = b""

    def version(self) -> bytes:
        """Answer."""
        return b"1.6"

    def raw_command(self, command: str, end_tokens: str) -> bytes:  # noqa: ARG002  # all at once
        """Tell its settings, and empty it before if it should."""
        if command.startswith("flush_all"):
            self._calls.append(("flush", self._node))
        return self.settings

    def close(self) -> None:
        """Close it."""


class FakeServers:
    """Servers whose limits are in a dict.

    Attributes:
        limits: what is limited of which node, and to what; without those that are as configured.
        failing: nodes that do not answer.
        asked_once: nodes that were flushed, or whose keys expired, in order.
    """

    def __init__(self) -> None:
        self.limits: dict[tuple[str, str], float | str] = {}
        self.failing: set[str] = set()
        self.asked_once: list[str] = []

    def fill_memory(self, node: str, share: float) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "memory", share)

    def restore_memory(self, node: str) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "memory", None)

    def clients_of(self, node: str) -> int:  # noqa: ARG002
        """See `cachesim.faults.limits.Servers`."""
        return 3

    def limit_connections(self, node: str, most: int) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "connections", most)

    def restore_connections(self, node: str) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "connections", None)

    def tokens(self, strategy: str | None) -> list[str]:
        """See `cachesim.faults.limits.Servers`."""
        return [strategy or "old"]

    def set_tokens(self, node: str, tokens: Iterable[str]) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "token", next((it for it in tokens if it != "old"), None))

    def publish_token(self, *, is_new: bool) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set("all", "token file", "new" if is_new else None)

    def load_certificate(self, node: str, paths: tuple[str, str]) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "certificate", paths[0] or None)

    def spare_of_disk(self, node: str) -> int:  # noqa: ARG002
        """See `cachesim.faults.limits.Servers`."""
        return 7

    def overflow_disk(self, node: str) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "disk", 0)

    def recover_disk(self, node: str) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "disk", None)

    def read_hot_keys(self, node: str, keys: Sequence[HotKey]) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self._set(node, "hot keys", ", ".join(f"{it.key} {it.rate}" for it in keys) or None)

    def expire(self, node: str, pattern: str, keep: Callable[[], bool]) -> int:
        """See `cachesim.faults.limits.Servers`."""
        self.asked_once.append(node)
        return int(node not in self.failing and pattern != "none" and not keep())

    def flush(self, node: str) -> None:
        """See `cachesim.faults.limits.Servers`."""
        self.asked_once.append(node)
        if node in self.failing:
            raise ConnectionRefusedError(node)

    def _set(self, node: str, what: str, limit: float | str | None) -> None:
        if node in self.failing:
            raise ConnectionRefusedError(node)
        self.limits.pop((node, what), None)
        if limit is not None:
            self.limits[node, what] = limit


@dataclass(eq=False)
class FakeCaller:
    """One connection of a client, as the process of a topology has it.

    Attributes:
        sent: the answers before the last one, in order.
    """

    client: str = "a client"
    pid: int = 7
    has_hung_up: bool = False
    sent: list[object] = field(default_factory=list)

    def send(self, value: object) -> None:
        """See `Caller.send`."""
        self.sent.append(value)


class FakeFiles:
    """The files of a run, without files.

    Attributes:
        holders: what was saved of the lease, in order.
        users: what was saved of the owner, in order.
    """

    folder = Path("/run")
    ca = folder / "ca.pem"
    token = folder / "token"

    def __init__(self) -> None:
        self.holders: list[str | None] = []
        self.users: list[str | None] = []

    def save_token(self, token: str) -> None:
        """See `RunFiles.save_token`."""

    def save_env(self, variables: Mapping[str, str]) -> None:
        """See `RunFiles.save_env`."""

    def save_holder(self, holder: str | None) -> None:
        """See `RunFiles.save_holder`."""
        self.holders.append(holder)

    def save_user(self, user: str | None) -> None:
        """See `RunFiles.save_user`."""
        self.users.append(user)


class FakeLife:
    """The end of the process of a topology, which does not come.

    Attributes:
        requests: how often it was asked to end.
        problem: what goes wrong in the end.
    """

    def __init__(self) -> None:
        self.owner: str | None = "process 7"
        self.requested = False
        self.requests = 0
        self.problem: Exception | None = None

    def detach(self) -> None:
        """See `Life.detach`."""
        self.owner = None

    def request(self) -> None:
        """See `Life.request`."""
        self.requests += 1

    def wait_taken_down(self) -> None:
        """See `Life.wait_taken_down`."""
        if self.problem is not None:
            raise self.problem
