"""The methods of `sim.faults` that change addresses and what leads to them."""

from abc import abstractmethod
from typing import Generic

from cachesim.faults import catalogue
from cachesim.faults.catalogue import OnePart, names_of
from cachesim.faults.spec import FaultSpec
from cachesim.simulator.faults_of_servers import FaultT


class FaultsOfAddresses(Generic[FaultT]):
    """Base of `cachesim.simulator.faults.Faults`."""

    @abstractmethod
    def _one(self, fault: FaultSpec) -> FaultT:
        """Apply one fault."""

    @abstractmethod
    def _some(self, verb: str, nodes: tuple[OnePart, ...]) -> tuple[str, ...]:
        """Return nodes; raise InvalidFault if there are none."""

    def replace(
        self, *nodes: OnePart, new_address: bool = False, old: str = catalogue.REFUSE
    ) -> FaultT:
        """Replace nodes, one after the other. A Redis primary is succeeded by a replica first.

        Healing does not bring old addresses back; `Simulator.reset` does.

        Args:
            new_address: whether the new nodes have other addresses.
            old: what connections to the old addresses do: `refuse` or `hang`.

        Raises:
            FaultError: no replica can succeed a primary, or a node can't have a new address.
        """
        return self._one(catalogue.Replace(self._some("replace", nodes), new_address, old))

    def scale(self, memcached: int) -> FaultT:
        """Add or remove Memcached nodes, until the fault is healed.

        `sim.control_plane.scale` also makes handles for new nodes; here, `Simulator.refresh` does.

        Args:
            memcached: 3 to 6.

        Raises:
            FaultError: the servers are kept by `docker compose`.
        """
        return self._one(catalogue.Scale(memcached))

    def stale(self, *endpoints: OnePart) -> FaultT:
        """Lead new connections to configuration endpoints where they are led now.

        Args:
            endpoints: `endpoint-redis`, `endpoint-memcached`; none: both.
        """
        return self._one(catalogue.Stale(names_of(endpoints)) if endpoints else catalogue.Stale())
