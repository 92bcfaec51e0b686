"""What a node knows of its cluster, and how it learns: Redis's gossip, without I/O.

Each node has a view of its own. It changes by messages from others, by time that passes without
any, and by commands. The rules are those of Redis 7.0's `cluster.c`, for the messages that a
cluster of one shard needs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

SLOTS = 16384
ALL_SLOTS = (1 << SLOTS) - 1
_WRITABLE_DELAY = 2.0  # seconds that a primary refuses everything after its start
_REJOIN_DELAY = (0.5, 5.0)  # seconds, the bounds of cluster-node-timeout in this place
_PING_INTERVAL = 1.0  # seconds

Message = dict[str, Any]


@dataclass
class Member:
    """A node of the cluster.

    Attributes:
        primary: the id of the node that it follows; None for a primary.
        slots: a bit for each slot that it serves.
        epoch: its configuration's; the higher one wins where two claim the same slots.
        ping_sent: when a ping was sent that is not answered yet; 0 if there is none.
        pong_received: when it last answered.
        heard: when anything came from it.
        suspected: not heard for `cluster-node-timeout`, by this node (`fail?`).
        failed_at: since when it is held to have failed, by a majority of the primaries.
        reports: when which primaries said that they don't hear it.
    """

    id: str
    name: str
    host: str
    port: int
    bus_port: int
    hostname: str | None = None
    primary: str | None = None
    slots: int = 0
    epoch: int = 0
    offset: int = 0
    ping_sent: float = 0.0
    pong_received: float = 0.0
    heard: float = 0.0
    linked: bool = False
    suspected: bool = False
    failed_at: float | None = None
    reports: dict[str, float] = field(default_factory=dict)

    @property
    def is_primary(self) -> bool:
        """Whether it is one, with slots or without."""
        return self.primary is None

    @property
    def is_reachable(self) -> bool:
        """Whether nobody says otherwise."""
        return not self.suspected and self.failed_at is None


class Actions(Protocol):
    """What a view asks of its node."""

    def send(self, node: str, message: Message) -> None:
        """Send a message to the node of that id, if there is a link."""
        ...

    def follow(self, primary: Member) -> None:
        """Become a replica of another node, or of another one than before."""
        ...

    def lead(self) -> None:
        """Become a primary."""
        ...

    def offset(self) -> int:
        """The offset in the replication stream."""
        ...

    def changed(self) -> None:
        """Something that is to be kept on disk has changed, or how requests are to be taken."""
        ...

    def log(self, text: str, level: str = "*") -> None:
        """Write to the log."""
        ...


class View:
    """One node's view of its cluster.

    Args:
        timeout: gives `cluster-node-timeout` in seconds.
        clock: monotonic seconds.
        formed: whether the cluster is known to be well already, so that nothing is waited for.
    """

    def __init__(
        self,
        me: Member,
        others: list[Member],
        actions: Actions,
        *,
        timeout: Callable[[], float],
        clock: Callable[[], float],
        current_epoch: int = 0,
        formed: bool = False,
    ) -> None:
        self.me = me
        self.members = {member.id: member for member in (me, *others)}
        self.current_epoch = current_epoch
        self.sent: dict[str, int] = {}
        self.received: dict[str, int] = {}
        self._actions = actions
        self._timeout = timeout
        self._clock = clock
        self._started = clock()
        self._minority_at = 0.0
        self._next_ping = 0.0
        self.is_ok = False
        if formed:
            self._started -= _WRITABLE_DELAY
            for member in others:
                member.pong_received = member.heard = clock()
            self.update_state()

    # --- looking ----------------------------------------------------------------------------

    @property
    def others(self) -> Iterator[Member]:
        """All members but this node."""
        return (member for member in self.members.values() if member is not self.me)

    @property
    def primaries(self) -> list[Member]:
        """Those that serve slots."""
        return [m for m in self.members.values() if m.is_primary and m.slots]

    def owner(self, slot: int) -> Member | None:
        """The node that serves a slot."""
        bit = 1 << slot
        return next((m for m in self.members.values() if m.slots & bit), None)

    def replicas_of(self, primary: Member) -> list[Member]:
        """The nodes that follow another."""
        return [m for m in self.members.values() if m.primary == primary.id]

    @property
    def assigned(self) -> int:
        """A bit for each slot that somebody serves."""
        slots = 0
        for member in self.members.values():
            slots |= member.slots
        return slots

    def failure_reports(self, member: Member) -> int:
        """How many primaries have lately said that they don't hear a node."""
        oldest = self._clock() - 2 * self._timeout()
        member.reports = {who: at for who, at in member.reports.items() if at >= oldest}
        return len(member.reports)

    # --- time -------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called ten times a second."""
        now, timeout = self._clock(), self._timeout()
        for member in self.others:
            if member.linked and not member.ping_sent:
                due = self._next_ping <= now or now - member.pong_received > timeout / 2
                if due:
                    self.ping(member)
            self._suspect(member, now, timeout)
        if self._next_ping <= now:
            self._next_ping = now + _PING_INTERVAL
        self.update_state()

    def ping(self, member: Member) -> None:
        """Ask a node whether it is there."""
        member.ping_sent = member.ping_sent or self._clock()
        self.send(member, self._heartbeat("ping"))

    def linked(self, member: Member) -> None:
        """The link to a node has come up."""
        member.linked = True
        self.ping(member)

    def unlinked(self, member: Member) -> None:
        """The link to a node is gone, or could not be made."""
        member.linked = False
        member.ping_sent = member.ping_sent or self._clock()

    def _suspect(self, member: Member, now: float, timeout: float) -> None:
        if not member.ping_sent or min(now - member.ping_sent, now - member.heard) <= timeout:
            return
        if member.is_reachable:
            self._actions.log(f"*** NODE {member.id} possibly failing", ".")
            member.suspected = True
        if member.suspected:
            self._condemn(member)

    def _condemn(self, member: Member) -> None:
        """Hold a node to have failed, if a majority of the primaries does not hear it."""
        if member.failed_at is not None:
            return
        count = self.failure_reports(member) + (self.me.is_primary and bool(self.me.slots))
        if count < len(self.primaries) // 2 + 1:
            return
        self._actions.log(f"Marking node {member.id} as failing (quorum reached).")
        self._fail(member)
        if self.me.is_primary:
            self.broadcast({"t": "fail", "node": member.id})

    def _fail(self, member: Member) -> None:
        member.suspected = False
        member.failed_at = self._clock()
        self._actions.changed()

    def update_state(self) -> None:
        """Work out whether the cluster can be used."""
        now = self._clock()
        if self.me.is_primary and not self.is_ok and now - self._started < _WRITABLE_DELAY:
            return
        failed = any(m.failed_at is not None for m in self.primaries)
        is_ok = self.assigned == ALL_SLOTS and not failed
        primaries = self.primaries
        reachable = sum(member.is_reachable for member in primaries)
        if reachable < len(primaries) // 2 + 1:
            is_ok = False
            self._minority_at = now
        if is_ok == self.is_ok:
            return
        low, high = _REJOIN_DELAY
        delay = min(max(self._timeout(), low), high)
        if is_ok and self.me.is_primary and now - self._minority_at < delay:
            return
        self.is_ok = is_ok
        self._actions.log(f"Cluster state changed: {'ok' if is_ok else 'fail'}", "#")
        self._actions.changed()

    # --- messages ---------------------------------------------------------------------------

    def send(self, member: Member, message: Message) -> None:
        """Send a message to a node, if there is a link to it."""
        kind = message["t"]
        self.sent[kind] = self.sent.get(kind, 0) + 1
        self._actions.send(member.id, message)

    def broadcast(self, message: Message) -> None:
        """Send a message to all others."""
        for member in self.others:
            self.send(member, message)

    def _heartbeat(self, kind: str) -> Message:
        me = self.me
        served = me if me.primary is None else self.members.get(me.primary, me)
        return {
            "t": kind,
            "from": me.id,
            "current": self.current_epoch,
            "epoch": served.epoch,
            "primary": me.primary,
            "slots": f"{served.slots:x}",
            "offset": self._actions.offset(),
            "gossip": [
                [m.id, "fail" if m.failed_at is not None else "fail?" if m.suspected else ""]
                for m in self.others
            ],
        }

    def pong(self) -> None:
        """Tell everybody at once what this node is now."""
        self.broadcast(self._heartbeat("pong"))

    def receive(self, message: Message) -> Message | None:
        """Take a message; gives the answer to it, to be sent back on the same link."""
        kind = message["t"]
        self.received[kind] = self.received.get(kind, 0) + 1
        sender = self.members.get(message.get("from", ""))
        if kind in ("ping", "pong"):
            if sender is None or sender is self.me:
                return None
            return self._hear(sender, message)
        if sender is not None:
            sender.heard = self._clock()
        if kind == "fail":
            member = self.members.get(message["node"])
            if member is not None and member is not self.me and member.failed_at is None:
                self._actions.log(
                    f"FAIL message received from {message.get('from')} about {member.id}"
                )
                self._fail(member)
        elif kind == "update":
            member = self.members.get(message["node"])
            if member is None or member is self.me or sender is None:
                return None
            if message["epoch"] > member.epoch:
                member.epoch = message["epoch"]
                member.primary = None
                self._claim(member, int(message["slots"], 16), message["epoch"])
        return None

    def _hear(self, sender: Member, message: Message) -> Message | None:
        now = self._clock()
        sender.heard = now
        sender.offset = message["offset"]
        if message["t"] == "pong":
            sender.pong_received = now
            sender.ping_sent = 0.0
            if sender.suspected:
                sender.suspected = False
            self._absolve(sender)
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
                self._claim(sender, slots, message["epoch"])
            self._resolve_collision(sender)
        elif sender.primary != message["primary"]:
            sender.primary = message["primary"]
            sender.slots = 0
            self._actions.changed()
        self._correct(sender, slots, message["epoch"])
        self._gossip(sender, message["gossip"])
        self.update_state()
        return self._heartbeat("pong") if message["t"] == "ping" else None

    def _absolve(self, member: Member) -> None:
        """Take back that a node has failed, now that it answers."""
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

    def _claim(self, sender: Member, slots: int, epoch: int) -> None:
        """Give a node the slots that it says it serves, where nobody has a newer claim."""
        taken = 0
        my_primary = self.me if self.me.primary is None else self.members.get(self.me.primary)
        had_slots = my_primary is not None and bool(my_primary.slots)
        for member in self.members.values():
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
            self.follow(sender)
            return
        # The primary may have become a replica when its last slot went, before the one that has
        # its slots now was heard of. Of two that follow each other, neither goes on.
        primary = self.members.get(self.me.primary or "")
        above = self.members.get((primary and primary.primary) or "")
        if primary is not None and above is not None and above is not self.me:
            self._actions.log(
                f"I'm a sub-replica! Reconfiguring myself from {primary.id} to {above.id}", "#"
            )
            self.follow(above)

    def _correct(self, sender: Member, slots: int, epoch: int) -> None:
        """Tell a node that claims slots by an old configuration who serves them now."""
        for member in self.members.values():
            if member is not sender and member.slots & slots and member.epoch > epoch:
                self.send(
                    sender,
                    {"t": "update", "from": self.me.id, "node": member.id,
                     "epoch": member.epoch, "slots": f"{member.slots:x}"},
                )  # fmt: skip
                return

    def _resolve_collision(self, sender: Member) -> None:
        me = self.me
        same = me.is_primary and sender.is_primary and sender.epoch == me.epoch
        if same and me.id < sender.id:
            self.current_epoch += 1
            me.epoch = self.current_epoch
            self._actions.changed()

    def _gossip(self, sender: Member, gossip: list[tuple[str, str]]) -> None:
        for node, said in gossip:
            member = self.members.get(node)
            if member is None or member is self.me or not sender.is_primary or not sender.slots:
                continue
            if said:
                member.reports[sender.id] = self._clock()
                if member.suspected:
                    self._condemn(member)
            else:
                member.reports.pop(sender.id, None)

    # --- changing roles ---------------------------------------------------------------------

    def follow(self, primary: Member) -> None:
        """Become a replica of another node."""
        self.me.primary = primary.id
        self.me.slots = 0
        self._actions.follow(primary)
        self._actions.changed()
        self.update_state()

    def take_over(self) -> None:
        """Become the primary in the place of one's own, without asking anyone."""
        old = self.members.get(self.me.primary or "")
        if old is None:
            return
        self.current_epoch = max([self.current_epoch, *(m.epoch for m in self.members.values())])
        self.current_epoch += 1
        self.me.epoch = self.current_epoch
        self._actions.log(f"New configEpoch set to {self.me.epoch}", "#")
        slots, old.slots = old.slots, 0
        self.me.primary = None
        self.me.slots = slots
        self._actions.lead()
        self._actions.changed()
        self.update_state()
        self.pong()

    # --- what is kept on disk ---------------------------------------------------------------

    def flags(self, member: Member) -> str:
        """As CLUSTER NODES has them."""
        words = [
            "myself" if member is self.me else "",
            "master" if member.is_primary else "slave",
            "fail?" if member.suspected else "",
            "fail" if member.failed_at is not None else "",
        ]
        return ",".join(filter(None, words))

    def lines(self, milliseconds: Callable[[float], int]) -> list[str]:
        """CLUSTER NODES.

        Args:
            milliseconds: since the epoch, of a moment of the clock.
        """
        lines = []
        for m in self.members.values():
            address = f"{m.host}:{m.port}@{m.bus_port}" + (f",{m.hostname}" if m.hostname else "")
            served = m if m.primary is None else self.members.get(m.primary, m)
            is_linked = m is self.me or m.linked
            times = [
                milliseconds(at) if at and m is not self.me else 0
                for at in (m.ping_sent, m.pong_received)
            ]
            words = [
                m.id, address, self.flags(m), m.primary or "-", *map(str, times),
                str(served.epoch), "connected" if is_linked else "disconnected",
                *(f"{a}-{b}" if a != b else str(a) for a, b in ranges(m.slots)),
            ]  # fmt: skip
            lines.append(" ".join(words))
        return lines


def ranges(slots: int) -> list[tuple[int, int]]:
    """The slots of a bit mask as ranges, both ends included."""
    if slots == ALL_SLOTS:
        return [(0, SLOTS - 1)]
    found: list[tuple[int, int]] = []
    at = 0
    while slots:
        zeros = (slots & -slots).bit_length() - 1
        slots >>= zeros
        at += zeros
        ones = ((~slots) & -(~slots)).bit_length() - 1
        found.append((at, at + ones - 1))
        slots >>= ones
        at += ones
    return found
