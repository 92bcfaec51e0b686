"""The servers of a topology that another process owns, for the time of a lease."""

import contextlib
import os
from typing import Any

from cachesim.backends.base import NodeState, Progress
from cachesim.errors import CachesimError, StartError
from cachesim.runs.registry import Run
from cachesim.runs.rpc import Call, TakenDown, call
from cachesim.topology import Endpoint
from cachesim.toxiproxy.client import ToxiproxyClient


class RemoteBackend:
    """Leases a topology at its start and returns it at its end.

    The owner keeps the servers and executes all calls. It gets the topology back when this process
    dies, too. See `Backend` for the methods.

    Attributes:
        loan: the owner's description of the topology.
    """

    loan: dict[str, Any]

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lease: Call | None = None

    @property
    def name(self) -> str:
        """The name of the owner's backend."""
        return str(self.loan["backend"])

    def start(self, progress: Progress) -> None:  # noqa: ARG002  # it is one step
        """Take the lease. See `Backend.start`.

        Raises:
            CachesimError: another process has the lease.
        """
        lease = Call(self._run, "borrow", pid=os.getpid())
        try:
            self.loan = lease.part()
        except BaseException:
            lease.close()
            raise
        self._lease = lease

    def stop(self) -> None:
        """Return the topology, and wait until the owner operates it, unless the owner has ended."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        with contextlib.closing(lease), contextlib.suppress(TakenDown):
            try:
                lease.send("returned")
                lease.result()
            except CachesimError:
                if not self._run.owner.is_gone:
                    raise

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        return Endpoint.parse(self.loan["endpoints"][node])

    def admin(self, node: str) -> Endpoint:
        """See `Backend.admin`."""
        return Endpoint.parse(self.loan["admin"][node])

    def toxiproxy(self, zone: str) -> str:
        """See `Backend.toxiproxy`."""
        return str(self.loan["toxiproxy"][zone])

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """See `Backend.toxiproxy_client`."""
        return ToxiproxyClient(self.toxiproxy(zone))

    def renew_toxiproxy(self, zone: str) -> None:
        """See `Backend.renew_toxiproxy`."""
        self._call("renew_toxiproxy", zone)

    def state(self, node: str) -> NodeState:
        """See `Backend.state`."""
        return NodeState(self._call("state", node))

    def kill(self, *nodes: str) -> None:
        """See `Backend.kill`."""
        self._call("kill", *nodes)

    def shut_down(self, node: str) -> None:
        """See `Backend.shut_down`."""
        self._call("shut_down", node)

    def pause(self, *nodes: str) -> None:
        """See `Backend.pause`."""
        self._call("pause", *nodes)

    def resume(self, node: str) -> None:
        """See `Backend.resume`."""
        self._call("resume", node)

    def start_node(self, node: str) -> None:
        """See `Backend.start_node`."""
        self._call("start_node", node)

    def truncate_aof(self, node: str, size: int) -> None:
        """See `Backend.truncate_aof`."""
        self._call("truncate_aof", node, size)

    def renew_redis(self) -> None:
        """See `Backend.renew_redis`."""
        self._call("renew_redis")

    def logs(self, node: str, lines: int = 50) -> str:
        """See `Backend.logs`."""
        return str(self._call("logs", node, lines))

    def _call(self, verb: str, *arguments: object) -> Any:
        if self._lease is None:
            raise StartError(f"the lease of topology {self._run.name!r} has ended. Attach again.")
        lease = self.loan["lease"]
        return call(self._run, "backend", lease=lease, verb=verb, arguments=arguments)
