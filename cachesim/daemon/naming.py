"""Leads the configuration endpoints to the nodes that the control plane holds for healthy."""

import threading
from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from cachesim.control_plane.name_answers import NameAnswers
from cachesim.errors import ToxiproxyError
from cachesim.servers.discovery import cluster_reply
from cachesim.topology import Endpoint, Node, Service, endpoint_name

if TYPE_CHECKING:
    from cachesim.control_plane.plane import ControlPlane
    from cachesim.daemon.provisioning import Provision


class Naming:
    """Knows what each configuration endpoint leads to: see `cachesim.faults.appliers.Names`.

    Args:
        control_plane: returns the control plane, once it is there.
    """

    def __init__(self, provision: "Provision", control_plane: Callable[[], "ControlPlane"]) -> None:
        self._provision = provision
        self._control_plane = control_plane
        self._answers = {
            service: NameAnswers(
                partial(self._healthy, service),
                self._ttl,
                Random(f"{provision.seed} {endpoint_name(service)}"),
            )
            for service in (Service.REDIS, Service.MEMCACHED)
        }
        self._lock = threading.Lock()
        self._version = 0
        self._draws = Random(f"{provision.seed} names")
        first = provision.topology.shards[0].first_primary
        # With its address, as a node may move.
        self._zones_lead_to: tuple[str, Endpoint] | None = (
            first,
            provision.backend.endpoint(first),
        )
        self._changing: threading.Thread | None = None

    def begin(self) -> None:
        """Lead the endpoints from now on."""
        for service, answers in self._answers.items():
            self._provision.configuration.lead(service, answers.choose)
        self.changed()

    def changed(self) -> None:
        """Tell clients of Memcached that nodes were added, removed or replaced."""
        it = self._provision
        with self._lock:
            self._version += 1
            reply = cluster_reply(self._version, it.endpoints(it.memcached))
            it.configuration.tell_cluster(reply)
            it.backend.tell_cluster(reply)

    def close(self) -> None:
        """Wait until nothing is being changed."""
        if self._changing is not None:
            self._changing.join()

    def hold(self, holder: Hashable, endpoints: Collection[str]) -> None:
        """See `Names.hold`."""
        for service, answers in self._answers.items():
            if endpoint_name(service) in endpoints:
                answers.hold(holder)

    def release(self, holder: Hashable) -> None:
        """See `Names.release`."""
        for answers in self._answers.values():
            answers.release(holder)

    def forget(self) -> None:
        """See `Names.forget`."""
        for answers in self._answers.values():
            answers.forget()

    def follow(self) -> None:
        """Lead the Redis endpoints of the zones elsewhere, if they lead to no node of the answer.

        They have no name server either, and lead to one node at a time.
        """
        answer = self._answers[Service.REDIS].answer
        present = self._zones_lead_to
        if not answer or (present is not None and present in answer.items()):
            return
        if self._changing is None or not self._changing.is_alive():
            node, _ = self._zones_lead_to = next(iter(answer.items()))
            # In a thread of its own: a Toxiproxy may take seconds to answer.
            self._changing = threading.Thread(
                target=self._lead_zones, args=[node], name="cachesim-names"
            )
            self._changing.start()

    def _lead_zones(self, node: str) -> None:
        try:
            self._provision.backend.lead_zones_to(node)
        except ToxiproxyError:
            self._zones_lead_to = None  # again, with the next look

    def _healthy(self, service: Service) -> dict[str, Endpoint]:
        it, backend = self._provision, self._provision.backend
        plane = self._control_plane()
        nodes: Iterable[Node] = it.topology.redis if service is Service.REDIS else it.memcached
        return {n.name: backend.endpoint(n.name) for n in nodes if plane.is_healthy(n.name)}

    def _ttl(self) -> float:
        timing = self._control_plane().timing
        return timing.draw(self._draws, timing.dns_ttl)
