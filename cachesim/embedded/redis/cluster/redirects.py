"""Redirections: the errors MOVED, CROSSSLOT and CLUSTERDOWN for keys that this node can't serve."""

from collections.abc import Iterable, Sequence

from cachesim.embedded.redis.admin.settings import Settings
from cachesim.embedded.redis.cluster.gossip import Gossip
from cachesim.embedded.redis.cluster.nodes import Member
from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.dispatch.command_table import Command, Flag
from cachesim.protocols.resp import Error

CROSS_SLOT = "CROSSSLOT Keys in request don't hash to the same slot"


class Redirects:
    """Checks whether this node may serve the keys of requests."""

    def __init__(self, gossip: Gossip, settings: Settings) -> None:
        self._gossip = gossip
        self._nodes = gossip.nodes
        self._settings = settings

    def check(
        self,
        requests: Iterable[tuple[Command, Sequence[bytes]]],
        bits: int,
        *,
        is_readonly: bool,
    ) -> None:
        """Raise an error unless this node serves all keys of the requests.

        Args:
            requests: commands with their arguments: one, or all of a transaction.
            bits: the flags of all these commands.
            is_readonly: whether the client has sent READONLY.

        Raises:
            Error: MOVED, CROSSSLOT, CLUSTERDOWN.
        """
        slots = [slot_of(key) for command, words in requests for key in _keys_of(command, words)]
        if not slots:
            return
        slot = slots[0]
        owner = self._nodes.owner(slot)
        if owner is None:
            raise Error("CLUSTERDOWN Hash slot not served")
        if any(other != slot for other in slots):
            raise Error(CROSS_SLOT)
        in_shard = bool(bits & Flag.PUBSUB)
        if not self._gossip.is_ok:
            self._check_down(bits, in_shard=in_shard)
        me = self._nodes.me
        if owner is me:
            return
        reads = (is_readonly or in_shard) and not bits & Flag.WRITE
        if reads and me.primary == owner.id:
            return
        raise Error(f"MOVED {slot} {self.endpoint(owner)}:{owner.port}")

    def _check_down(self, bits: int, *, in_shard: bool) -> None:
        settings = self._settings
        if in_shard:
            if settings["cluster-allow-pubsubshard-when-down"] == "no":
                raise Error("CLUSTERDOWN The cluster is down")
        elif settings["cluster-allow-reads-when-down"] == "no":
            raise Error("CLUSTERDOWN The cluster is down")
        elif bits & Flag.WRITE:
            raise Error("CLUSTERDOWN The cluster is down and only accepts read commands")

    def is_local(self, keys: Iterable[bytes]) -> bool:
        """Return whether this node, or its primary, serves all given keys."""
        mine = self._nodes.me.primary or self._nodes.me.id
        owners = (self._nodes.owner(slot_of(key)) for key in keys)
        return all(owner is not None and owner.id == mine for owner in owners)

    def endpoint(self, member: Member) -> str:
        """Return the host of a node for clients: its IP or its hostname, as the settings say."""
        if self._settings["cluster-preferred-endpoint-type"] == "hostname":
            return member.hostname or "?"
        return member.host


def _keys_of(command: Command, arguments: Sequence[bytes]) -> Sequence[bytes]:
    try:
        return command.keys(arguments)
    except Error:
        return ()  # the command itself reports the error
