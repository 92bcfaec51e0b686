"""The parts that watch and break a running topology, set up and closed together."""

import contextlib
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.prober import Prober
from cachesim.control_plane.redis_shard import RedisShard
from cachesim.control_plane.timing import Timing
from cachesim.daemon.monitoring import monitor_of
from cachesim.daemon.naming import Naming
from cachesim.daemon.replacing import Replacing
from cachesim.daemon.scaling import Scaling
from cachesim.events import EventLog
from cachesim.faults.injector import Faults
from cachesim.faults.limits import Limits
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.monitoring.readings import Readings
from cachesim.servers.admin import NodeClients
from cachesim.servers.credentials import ADMIN_USER, DEFAULT_USER
from cachesim.servers.hot_keys import HotKeys
from cachesim.servers.limits import Servers
from cachesim.servers.redis_cluster import Cluster
from cachesim.settings import Settings
from cachesim.topology import ENDPOINTS, Service
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from pymemcache.client.base import Client

    from cachesim.daemon.provisioning import Provision


class Operations:
    """Operates the servers of a provision, from its creation to `close`.

    Attributes:
        links: every link, with the toxics of its faults.
        nodes: every node's process.
        admin: clients at the admin addresses.
        clusters: the nodes of each Redis shard as a cluster, by the shard's id.
        memcached: a client for each Memcached node at its admin address, by the node's name.
        asking_memcached: the lock of whoever uses one of these clients, which are not thread-safe.
        readings: reads all servers at once.
        prober: keeps the evidence on the nodes.
        faults: applies and heals faults.
        naming: leads the configuration endpoints to nodes.
        scaling: adds and removes Memcached nodes.
        replacing: replaces nodes, as an upgrade of the engine does.
        control_plane: fails over and replaces nodes, as ElastiCache does.
        monitor: takes metrics and watches alarms, once it is started.
        events: the log in which all of them record what happens.
        settings: the topology's, with those that a lease has changed.
        seed: the seed of all random draws, the topology's or that of a lease.
    """

    def __init__(self, provision: "Provision", events: EventLog) -> None:
        self.provision = provision
        self.topology = topology = provision.topology
        self.backend = backend = provision.backend
        self.events = events
        self.settings, self.seed = provision.settings, provision.seed
        # When the process was started that each node was given instead of a replacement.
        self._spared: dict[str, float] = {}
        with contextlib.ExitStack() as life:
            servers = {z.name: backend.toxiproxy_client(z.name) for z in topology.zones}
            servers[ENDPOINTS] = provision.configuration.toxiproxy_client()
            self.links = Links(
                topology,
                servers,
                events,
                lambda node: self.nodes.is_frozen(node),
                backend.renew_toxiproxy,
            )
            life.callback(self.links.close)
            self.nodes = Nodes(topology, backend, self.links, events)
            self.admin = NodeClients(
                backend.admin, ADMIN_USER, provision.credentials.admin_password, provision.tls
            )
            life.callback(self.admin.close)
            self.clusters = {it.id: Cluster(it, self.admin) for it in topology.shards}
            self.memcached: dict[str, Client] = {
                node.name: self.admin.new_memcached(node.name) for node in topology.memcached
            }
            self.asking_memcached = threading.RLock()
            life.callback(self._close_memcached)
            self.readings = Readings(topology, self.admin)
            life.callback(self.readings.close)
            prober = self._start_prober(life)
            self.prober = prober
            hot_keys = HotKeys(topology, self._users())
            life.callback(hot_keys.close)
            controlled = Servers(
                topology, self.admin, provision.credentials, provision.files.save_token, hot_keys
            )
            limits = Limits(controlled, self.nodes, backend)
            self.replacing = Replacing(
                topology,
                self.nodes,
                self.clusters,
                self.admin,
                events,
                lambda: self.control_plane,
                self._replaced,
            )
            self.naming = Naming(provision, lambda: self.control_plane)
            self.scaling = Scaling(
                provision,
                events,
                self.links,
                self.nodes,
                limits,
                self.admin,
                self.memcached,
                self.readings,
                prober,
                self.naming,
                lambda: self.control_plane,
            )
            self.faults = Faults(
                topology,
                self.links,
                self.nodes,
                limits,
                prober,
                events,
                str(provision.seed),
                names=self.naming,
                replacer=self.replacing,
                scaler=self.scaling,
            )
            life.callback(self.naming.close)  # after the control plane, which changes names
            self.control_plane = self._start_control_plane(prober, life)
            self.naming.begin()
            self.monitor = monitor_of(
                provision.name,
                topology,
                provision.settings,
                self.admin,
                prober,
                self.control_plane,
                events,
                life,
                link_bytes=backend.link_bytes,
                is_emulated=backend.name == "embedded",
            )
            self._life = life.pop_all()

    def adopt(self, settings: Settings, seed: int, primaries: Iterable[str] | None = None) -> None:
        """Go on with other settings and another seed; what is in progress is forgotten.

        Args:
            settings: they differ in settings that a running topology can change.
            primaries: each shard's present primary; None: as the control plane has them.
        """
        self.settings, self.seed = settings, seed
        self.faults.reseed(str(seed))
        self.control_plane.timing = Timing.of(settings)
        known = (shard.primary for shard in self.control_plane.shards.values())
        self.control_plane.restart(primaries or known, str(seed))

    def _close_memcached(self) -> None:
        for client in self.memcached.values():
            client.close()

    def _replace_dead(self, node: str) -> None:
        with self.nodes.suspended():
            probe = self.prober.evidence.probe(node)
            # Others may have started it since it died, as the heal of its fault does. That process
            # is given its time, once.
            started = self.nodes.started_at(node)
            is_new = started != self._spared.get(node) and probe is not None
            if probe is not None and (probe.answered or (is_new and started >= probe.since)):
                self._spared[node] = started
                return
            self.nodes.replace(node)
            self._spared[node] = self.nodes.started_at(node)
        self._replaced(node)

    def _replaced(self, node: str) -> None:
        """Tell clients of a new node."""
        self.provision.renew_env(self.events)
        if self.topology.node(node).service is Service.MEMCACHED:
            self.naming.changed()

    def close(self) -> None:
        """Stop watching, and close all clients. Repeating it is harmless."""
        self._life.close()

    def _users(self) -> list[NodeClients]:
        """Return clients of the application's user, with the AUTH token and the next one."""
        it = self.provision.credentials
        return [
            NodeClients(self.backend.endpoint, DEFAULT_USER, token, self.provision.tls)
            for token in (it.token, it.next_token)
        ]

    def _start_prober(self, life: contextlib.ExitStack) -> Prober:
        # Over the network, to emulated servers too: a witness must take the same way as a node.
        zones = [zone.name for zone in self.topology.zones]
        witnesses = [ToxiproxyClient(self.backend.toxiproxy(zone)) for zone in zones]
        for witness in witnesses:
            life.callback(witness.close)
        prober = Prober(
            self.topology,
            self.admin,
            [witness.version for witness in witnesses],
            self.events,
            self.provision.name,
        )
        prober.start()
        life.callback(prober.stop)
        return prober

    def _start_control_plane(self, prober: Prober, life: contextlib.ExitStack) -> ControlPlane:
        seed = str(self.provision.seed)
        control_plane = ControlPlane(
            self.topology,
            prober.evidence,
            {
                id_: RedisShard(self.admin, cluster, self.backend.logs)
                for id_, cluster in self.clusters.items()
            },
            self._replace_dead,
            Timing.of(self.provision.settings),
            self.events,
            seed=seed,
            group=self.provision.name,
            after_tick=self.naming.follow,
        )
        control_plane.restart([it.find_primary() for it in self.clusters.values()], seed)
        control_plane.start()
        life.callback(control_plane.stop)
        return control_plane
