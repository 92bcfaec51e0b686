"""The node table, and what `nodes.conf` keeps of it."""

from cachesim.embedded.redis.cluster.nodes import Member, NodeTable, restore
from cachesim.embedded.redis.cluster.slots import ALL_SLOTS


def members() -> dict[str, Member]:
    """Return three nodes without roles."""
    return {name: Member(name * 40, name, "127.0.0.1", 7000, 17000) for name in "abc"}


def table() -> NodeTable:
    """Return the table of b: a is the primary, but b has taken over most slots."""
    nodes = members()
    a, b, c = nodes.values()
    a.slots, a.epoch = 0b101, 1
    b.slots, b.epoch = ALL_SLOTS & ~0b101, 2
    c.primary, c.failed_at = b.id, 5.0
    return NodeTable(b, (a, c))


def test_lines() -> None:
    """The lines are those of CLUSTER NODES."""
    b, a, c = table().lines(lambda moment: int(moment * 1000))
    where = "127.0.0.1:7000@17000"
    assert a == f"{'a' * 40} {where} master - 0 0 1 disconnected 0 2"
    assert b == f"{'b' * 40} {where} myself,master - 0 0 2 connected 1 3-16383"
    assert c == f"{'c' * 40} {where} slave,fail {'b' * 40} 0 0 2 disconnected"


def test_restore() -> None:
    """Roles, epochs and slots survive a restart; what is not in the file stays as it is."""
    before, after = table(), members()
    text = "\n".join([*before.lines(lambda _: 0), "vars currentEpoch 7 lastVoteEpoch 0\n"])
    after["d"] = Member("d" * 40, "d", "127.0.0.1", 7000, 17000)
    assert restore(after.values(), text) == 7
    for member in before.members.values():
        restored = after[member.name]
        assert (restored.primary, restored.slots) == (member.primary, member.slots)
        assert restored.epoch == before.primary_of(member).epoch
    assert after["d"].is_primary
    assert not after["d"].slots


def test_owner_and_replicas() -> None:
    """The table tells who serves a slot, and who replicates whom."""
    nodes = table()
    owners = [nodes.owner(slot) for slot in (0, 1)]
    assert [owner and owner.name for owner in owners] == ["a", "b"]
    assert [member.name for member in nodes.replicas_of(nodes.me)] == ["c"]
    assert [member.name for member in nodes.primaries] == ["b", "a"]
    assert nodes.assigned == ALL_SLOTS
