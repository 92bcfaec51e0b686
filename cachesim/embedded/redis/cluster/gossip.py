"""Gossip: a node's view of its cluster, as a state machine without I/O.

Messages from other nodes, timeouts and commands change the view. The rules are those of Redis 7.0's
`cluster.c`, as far as a cluster of one shard needs them.
"""

from collections.abc import Callable
from typing import Any, Protocol

from cachesim.embedded.redis.cluster.nodes import Member, NodeTable
from cachesim.embedded.redis.cluster.slots import ALL_SLOTS

_WRITABLE_DELAY = 2.0  # seconds for which a started primary refuses requests
_REJOIN_DELAY = (0.5, 5.0)  # seconds: the bounds of the delay of a rejoin
_PING_INTERVAL = 1.0  # seconds

Message = dict[str, Any]


class Actions(Protocol):
    """The actions that `Gossip` asks of its node."""

    def send(self, node: str, message: Message) -> None:
        """Send a message to a node, given by its id, if a link is up."""
        ...

    def become_replica(self, primary: Member) -> None:
        """Become a replica of another node."""
        ...

    def become_primary(self) -> None:
        """Become a primary."""
        ...

    def offset(self) -> int:
        """Return the node's offset in the replication stream."""
        ...

    def changed(self) -> None:
        """React to a change of the node table or of the cluster's state."""
        ...

    def log(self, text: str, level: str = "*") -> None:
        """Write to the node's log."""
        ...


class Gossip:
    """One node's view of its cluster, kept by the rules of Redis.

    Args:
        timeout: returns `cluster-node-timeout` in seconds.
        clock: returns monotonic seconds.
        is_formed: whether the cluster is healthy from the start, so the node does not wait for
            answers of others.
        decides_alone: whether a sole primary marks a node as failed that it alone suspects, as
            from 7.4 on and in Valkey. Before, it does so when a replica agrees.

    Attributes:
        nodes: the cluster's nodes.
        is_ok: whether the cluster can be used: `cluster_state`.
        is_loading: whether this node loads the data on its disk. As in Redis, its state stays fail
            until then.
        sent: the number of sent messages by type.
        received: the number of received messages by type.
    """

    def __init__(
        self,
        nodes: NodeTable,
        actions: Actions,
        *,
        timeout: Callable[[], float],
        clock: Callable[[], float],
        current_epoch: int = 0,
        is_formed: bool = False,
        decides_alone: bool = False,
    ) -> None:
        self.nodes = nodes
        self.current_epoch = current_epoch
        self.sent: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self._actions = actions
        self._timeout = timeout
        self._clock = clock
        self._decides_alone = decides_alone
        self._started = clock()
        self._minority_at = 0.0
        self._next_ping = 0.0
        self.is_ok = self.is_loading = False
        if is_formed:
            self._started -= _WRITABLE_DELAY
            for member in nodes.others:
                member.pong_received = member.heard = clock()
            self.update_state()

    # --- failure detection --------------------------------------------------------------------

    def tick(self) -> None:
        """Send the pings that are due and suspect the silent nodes. Called ten times a second."""
        now, timeout = self._clock(), self._timeout()
        for member in self.nodes.others:
            if not member.ping_sent:
                is_late = now - member.pong_received > timeout / 2
                if member.linked and (is_late or self._next_ping <= now):
                    self.ping(member)
                elif is_late:
                    # The link hangs while it is opened. Redis counts that as a ping, too; otherwise
                    # a node that was started on the far side of a cut would never suspect anyone.
                    member.ping_sent = now
            self._suspect(member, now, timeout)
        if self._next_ping <= now:
            self._next_ping = now + _PING_INTERVAL
        self.update_state()

    def ping(self, member: Member) -> None:
        """Send a ping to a node."""
        member.ping_sent = member.ping_sent or self._clock()
        self.send(member, self._heartbeat("ping"))

    def link_up(self, member: Member) -> None:
        """Note that the link to a node is up, and ping it."""
        member.linked = True
        self.ping(member)

    def link_down(self, member: Member) -> None:
        """Note that the link to a node was lost, or could not be opened."""
        member.linked = False
        member.ping_sent = member.ping_sent or self._clock()

    def failure_reports(self, member: Member) -> int:
        """Drop reports older than 2 x node timeout; return how many primaries report a node."""
        oldest = self._clock() - 2 * self._timeout()
        member.reports = {who: at for who, at in member.reports.items() if at >= oldest}
        return len(member.reports)

    def _suspect(self, member: Member, now: float, timeout: float) -> None:
        if not member.ping_sent or min(now - member.ping_sent, now - member.heard) <= timeout:
            return
        if member.is_reachable:
            self._actions.log(f"*** NODE {member.id} possibly failing", ".")
            member.suspected = True
            if self._decides_alone and self.nodes.me.is_primary and len(self.nodes.primaries) == 1:
                self._fail_by_quorum(member)

    def _fail_by_quorum(self, member: Member) -> None:
        """Mark a suspected node as failed if a majority of the primaries can't reach it."""
        if member.failed_at is not None:
            return
        me, primaries = self.nodes.me, self.nodes.primaries
        count = self.failure_reports(member) + (me.is_primary and bool(me.slots))
        if count < len(primaries) // 2 + 1:
            return
        self._actions.log(f"Marking node {member.id} as failing (quorum reached).")
        self._fail(member)
        self.broadcast({"t": "fail", "from": me.id, "node": member.id})

    def _fail(self, member: Member) -> None:
        member.suspected = False
        member.failed_at = self._clock()
        self._actions.changed()

    def _clear_failure(self, member: Member) -> None:
        """Clear the failed state of a node that answers again."""
        if member.failed_at is None:
            return
        if member.is_primary and member.slots:
            if self._clock() - member.failed_at <= 2 * self._timeout():
                return
            why = "is reachable again and nobody is serving its slots after some time"
        else:
            why = "replica is reachable again"
        self._actions.log(f"Clear FAIL state for node {member.id}: {why}.")
        member.failed_at = None
        self._actions.changed()

    def loaded(self) -> None:
        """Note that this node has loaded the data on its disk. Only now a primary's wait begins."""
        self.is_loading = False
        if not self.nodes.me.is_synced:
            self.broadcast(self._heartbeat("pong"))
        if not self.is_ok:
            self._started = self._clock()
            self.update_state()

    def update_state(self) -> None:
        """Decide whether the cluster can be used: `is_ok`."""
        if self.is_loading:
            return
        now, me, primaries = self._clock(), self.nodes.me, self.nodes.primaries
        if me.is_primary and not self.is_ok and now - self._started < _WRITABLE_DELAY:
            return
        failed = any(m.failed_at is not None for m in primaries)
        is_ok = self.nodes.assigned == ALL_SLOTS and not failed
        reachable = sum(member.is_reachable for member in primaries)
        if reachable < len(primaries) // 2 + 1:
            is_ok = False
            self._minority_at = now
        if is_ok == self.is_ok:
            return
        low, high = _REJOIN_DELAY
        delay = min(max(self._timeout(), low), high)
        if is_ok and me.is_primary and now - self._minority_at < delay:
            return
        self.is_ok = is_ok
        self._actions.log(f"Cluster state changed: {'ok' if is_ok else 'fail'}", "#")
        self._actions.changed()

    # --- messages -----------------------------------------------------------------------------

    def send(self, member: Member, message: Message) -> None:
        """Send a message to a node, if there is a link to it."""
        kind = message["t"]
        self.sent[kind] = self.sent.get(kind, 0) + 1
        self._actions.send(member.id, message)

    def broadcast(self, message: Message) -> None:
        """Send a message to all other nodes."""
        for member in self.nodes.others:
            self.send(member, message)

    def _heartbeat(self, kind: str) -> Message:
        me = self.nodes.me
        served = self.nodes.primary_of(me)
        return {
            "t": kind,
            "from": me.id,
            "port": me.port,
            "current": self.current_epoch,
            "epoch": served.epoch,
            "primary": me.primary,
            "slots": f"{served.slots:x}",
            "offset": self._actions.offset(),
            # While it loads, Redis is silent on the bus: the others believe what was before.
            "synced": me.is_synced or self.is_loading,
            "gossip": [
                [m.id, "fail" if m.failed_at is not None else "fail?" if m.suspected else ""]
                for m in self.nodes.others
            ],
        }

    def receive(self, message: Message) -> Message | None:
        """Handle a message; return the answer to send on the same link, or None."""
        kind = message["t"]
        self.received[kind] = self.received.get(kind, 0) + 1
        members, me = self.nodes.members, self.nodes.me
        sender = members.get(message.get("from", ""))
        if kind in ("ping", "pong"):
            if sender is None or sender is me:
                return None
            return self._receive_heartbeat(sender, message)
        if sender is not None:
            sender.heard = self._clock()
        if kind == "fail":
            member = members.get(message["node"])
            if member is not None and member is not me and member.failed_at is None:
                self._actions.log(
                    f"FAIL message received from {message.get('from')} about {member.id}"
                )
                self._fail(member)
        elif kind == "update":
            member = members.get(message["node"])
            if member is None or member is me or sender is None:
                return None
            if message["epoch"] > member.epoch:
                member.epoch = message["epoch"]
                member.primary = None
                self._claim_slots(member, int(message["slots"], 16), message["epoch"])
        return None

    def _receive_heartbeat(self, sender: Member, message: Message) -> Message | None:
        now = self._clock()
        sender.heard = now
        sender.offset = message["offset"]
        sender.is_synced = message["synced"]
        if message["port"] != sender.port:
            sender.port = message["port"]
            self._actions.changed()
        if message["t"] == "pong":
            sender.pong_received = now
            sender.ping_sent = 0.0
            sender.suspected = False
            self._clear_failure(sender)
        if message["current"] > self.current_epoch:
            self.current_epoch = message["current"]
            self._actions.changed()
        if message["epoch"] > sender.epoch:
            sender.epoch = message["epoch"]
            self._actions.changed()
        slots = int(message["slots"], 16)
        if message["primary"] is None:
            if not sender.is_primary:
                sender.primary = None
                self._actions.changed()
            if slots != sender.slots:
                self._claim_slots(sender, slots, message["epoch"])
            self._resolve_epoch_collision(sender)
        elif sender.primary != message["primary"]:
            sender.primary = message["primary"]
            sender.slots = 0
            self._actions.changed()
        self._send_update(sender, slots, message["epoch"])
        self._note_reports(sender, message["gossip"])
        self.update_state()
        return self._heartbeat("pong") if message["t"] == "ping" else None

    def _note_reports(self, sender: Member, gossip: list[tuple[str, str]]) -> None:
        """Note the nodes that a primary reports as failing."""
        for node, state in gossip:
            member = self.nodes.members.get(node)
            if member is None or member is self.nodes.me:
                continue
            if not sender.is_primary or not sender.slots:
                continue
            if state:
                member.reports[sender.id] = self._clock()
                if member.suspected:
                    self._fail_by_quorum(member)
            else:
                member.reports.pop(sender.id, None)

    # --- configuration: who serves which slots --------------------------------------------------

    def _claim_slots(self, sender: Member, slots: int, epoch: int) -> None:
        """Assign a node the slots that it claims, except those whose owner has a newer epoch."""
        nodes = self.nodes
        me = nodes.me
        taken = 0
        my_primary = me if me.primary is None else nodes.members.get(me.primary)
        had_slots = my_primary is not None and bool(my_primary.slots)
        for member in nodes.members.values():
            if member is sender:
                continue
            overlap = member.slots & slots
            if overlap and member.epoch < epoch:
                member.slots &= ~overlap
                taken |= overlap
            elif overlap:
                slots &= ~overlap
        sender.slots |= slots
        self._actions.changed()
        lost_all = my_primary is not None and had_slots and not my_primary.slots
        if taken and lost_all and my_primary is not sender:
            self._actions.log(
                "Configuration change detected. Reconfiguring myself as a replica of "
                f"{sender.id} ({sender.name})",
                "#",
            )
            self.replicate(sender)
            return
        # The primary may have lost its slots and become a replica before this node learned of the
        # new owner. Two nodes that replicate each other stay as they are.
        primary = nodes.members.get(me.primary or "")
        above = nodes.members.get((primary and primary.primary) or "")
        if primary is not None and above is not None and above is not me:
            self._actions.log(
                f"I'm a sub-replica! Reconfiguring myself from {primary.id} to {above.id}", "#"
            )
            self.replicate(above)

    def _send_update(self, sender: Member, slots: int, epoch: int) -> None:
        """Send the newer configuration to a node that claims slots with an old epoch."""
        for member in self.nodes.members.values():
            if member is not sender and member.slots & slots and member.epoch > epoch:
                self.send(
                    sender,
                    {"t": "update", "from": self.nodes.me.id, "node": member.id,
                     "epoch": member.epoch, "slots": f"{member.slots:x}"},
                )  # fmt: skip
                return

    def _resolve_epoch_collision(self, sender: Member) -> None:
        """Take a new epoch if another primary has the same epoch and a greater id."""
        me = self.nodes.me
        same = me.is_primary and sender.is_primary and sender.epoch == me.epoch
        if same and me.id < sender.id:
            self.current_epoch += 1
            me.epoch = self.current_epoch
            self._actions.changed()

    # --- role changes -------------------------------------------------------------------------

    def note_synced(self, *, is_synced: bool) -> None:
        """Note whether this node has its primary's data, and tell the others at once."""
        if self.nodes.me.is_synced is not is_synced:
            self.nodes.me.is_synced = is_synced
            self.broadcast(self._heartbeat("pong"))

    def replicate(self, primary: Member) -> None:
        """Make this node a replica of another node."""
        self.nodes.me.primary = primary.id
        self.nodes.me.slots = 0
        self._actions.become_replica(primary)
        self._actions.changed()
        self.update_state()

    def take_over(self) -> None:
        """Make this replica the primary of its shard, without a vote."""
        me, members = self.nodes.me, self.nodes.members
        old = members.get(me.primary or "")
        if old is None:
            return
        self.current_epoch = max([self.current_epoch, *(m.epoch for m in members.values())])
        self.current_epoch += 1
        me.epoch = self.current_epoch
        self._actions.log(f"New configEpoch set to {me.epoch}", "#")
        slots, old.slots = old.slots, 0
        me.primary = None
        me.slots = slots
        self._actions.become_primary()
        self._actions.changed()
        self.update_state()
        self.broadcast(self._heartbeat("pong"))
