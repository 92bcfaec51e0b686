"""Cluster mode: who serves which keys, and what a node tells clients about it."""

import binascii
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.embedded.redis.cluster.gossip import ALL_SLOTS, SLOTS, Member, Message, View
from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.dispatch.command_table import Command, Flag
from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.executor import Entry
    from cachesim.embedded.redis.server import Server

_NODES_NAME = "nodes.conf"
CROSS_SLOT = "CROSSSLOT Keys in request don't hash to the same slot"


def slot_of(key: bytes) -> int:
    """The slot of a key, or of what is in its first braces."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) & (SLOTS - 1)


class Cluster:
    """A node's place in the cluster. It is what its view acts through."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        config = server.config
        kept = _Kept.read(config.directory / _NODES_NAME)
        members = {
            name: Member(a.id, name, a.host, a.port, a.bus_port, a.hostname)
            for name, a in config.nodes.items()
        }
        if kept is None:
            primary = members[config.primary]
            for member in members.values():
                member.epoch = 0
                member.primary = None if member is primary else primary.id
            primary.slots, primary.epoch = ALL_SLOTS, 1
            epoch = 1
        else:
            kept.restore(members.values())
            epoch = kept.epoch
        me = members.pop(config.name)
        self.view = View(
            me,
            list(members.values()),
            self,
            timeout=lambda: server.node_timeout,
            clock=server.clock,
            current_epoch=epoch,
            formed=kept is None,
        )
        self._is_ready = True

    # --- what the view asks for ---------------------------------------------------------------

    def send(self, node: str, message: Message) -> None:
        """See `Actions.send`."""
        self._server.bus.send(node, message)

    def follow(self, primary: Member) -> None:
        """See `Actions.follow`."""
        self._server.follow(primary)

    def lead(self) -> None:
        """See `Actions.lead`."""
        self._server.lead()

    def offset(self) -> int:
        """See `Actions.offset`."""
        return self._server.stream.offset

    def changed(self) -> None:
        """See `Actions.changed`."""
        if getattr(self, "_is_ready", False):
            self._server.look()
            self.save()

    def log(self, text: str, level: str = "*") -> None:
        """See `Actions.log`."""
        self._server.log(text, level)

    def save(self) -> None:
        """Keep the view on disk."""
        text = "\n".join(
            [
                *self.view.lines(self.milliseconds),
                f"vars currentEpoch {self.view.current_epoch} lastVoteEpoch 0\n",
            ]
        )
        with contextlib.suppress(FileNotFoundError):  # the run is being removed
            (self._server.config.directory / _NODES_NAME).write_text(text)

    def milliseconds(self, moment: float) -> int:
        """A moment of the clock in milliseconds since the epoch."""
        return int((self._server.wall() - self._server.clock() + moment) * 1000)

    # --- requests -----------------------------------------------------------------------------

    def check(
        self, client: Client, command: Command, arguments: Sequence[bytes], bits: int
    ) -> None:
        """Refuse what another node is to be asked for.

        Raises:
            Error: MOVED, CROSSSLOT, CLUSTERDOWN.
        """
        keys = _keys_of(command, arguments)
        if not keys:
            return
        self.check_slots([slot_of(key) for key in keys], client, bits)

    def check_all(
        self, client: Client, queue: "Sequence[tuple[Entry, list[bytes]]]", bits: int
    ) -> None:
        """As `check`, for all requests of a transaction together."""
        slots = [slot_of(k) for entry, words in queue for k in _keys_of(entry.command, words)]
        if slots:
            self.check_slots(slots, client, bits)

    def check_slots(self, slots: Sequence[int], client: Client, bits: int) -> None:
        """As `check`, for the slots of all keys of a request."""
        view = self.view
        slot = slots[0]
        owner = view.owner(slot)
        if owner is None:
            raise Error("CLUSTERDOWN Hash slot not served")
        if any(other != slot for other in slots):
            raise Error(CROSS_SLOT)
        in_shard = bool(bits & Flag.PUBSUB)
        settings = self._server.settings
        if not view.is_ok:
            if in_shard:
                if settings["cluster-allow-pubsubshard-when-down"] == "no":
                    raise Error("CLUSTERDOWN The cluster is down")
            elif settings["cluster-allow-reads-when-down"] == "no":
                raise Error("CLUSTERDOWN The cluster is down")
            elif bits & Flag.WRITE:
                raise Error("CLUSTERDOWN The cluster is down and only accepts read commands")
        me = view.me
        if owner is me:
            return
        reads = (client.follows or in_shard) and not bits & Flag.WRITE
        if reads and me.primary == owner.id:
            return
        raise Error(f"MOVED {slot} {self.endpoint(owner)}:{owner.port}")

    def is_local(self, keys: Sequence[bytes]) -> bool:
        """Whether this node, or the one that it follows, serves some keys."""
        mine = self.view.me.primary or self.view.me.id
        owners = (self.view.owner(slot_of(key)) for key in keys)
        return all(owner is not None and owner.id == mine for owner in owners)

    def endpoint(self, member: Member) -> str:
        """Where clients are told that a node is."""
        if self._server.settings["cluster-preferred-endpoint-type"] == "hostname":
            return member.hostname or "?"
        return member.host


def _keys_of(command: Command, arguments: Sequence[bytes]) -> Sequence[bytes]:
    try:
        return command.keys(arguments)
    except Error:
        return ()  # the command itself says what is wrong


class _Kept:
    """What `nodes.conf` says."""

    def __init__(self, rows: list[list[str]], epoch: int) -> None:
        self._rows = rows
        self.epoch = epoch

    @classmethod
    def read(cls, path: Path) -> "_Kept | None":
        """Read the file, if it is there."""
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            return None
        rows = [line.split() for line in lines if line and not line.startswith("vars ")]
        words = next((line.split() for line in lines if line.startswith("vars ")), [])
        return cls(rows, int(words[2]) if len(words) > 2 else 0)

    def restore(self, members: Iterable[Member]) -> None:
        """Give nodes the roles and slots that they had."""
        by_id = {row[0]: row for row in self._rows}
        for member in members:
            if (row := by_id.get(member.id)) is None:
                continue
            member.primary = None if row[3] == "-" else row[3]
            member.epoch = int(row[6])
            for word in row[8:]:
                first, _, last = word.partition("-")
                count = int(last or first) + 1 - int(first)
                member.slots |= ((1 << count) - 1) << int(first)
