"""The bitmap commands. fakeredis runs them, after a check of the offsets."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.by_fakeredis import plain
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import LONGEST_STRING, integer
from cachesim.protocols.resp import Error

_BIT_OFFSET = "ERR bit offset is not an integer or out of range"
_PLAIN = (
    "bitop",  # AND|OR|XOR|NOT target key...
    "bitpos",  # key bit [start [end [BYTE | BIT]]]
    "getbit",  # key offset
)
_bitcount = plain("bitcount", type_first="string")


def bitcount(client: Client, arguments: list[bytes]) -> Answer:
    """BITCOUNT key [start end [BYTE | BIT]]."""
    if client.store.get(arguments[1]) is None:
        return 0
    return _bitcount(client, arguments)


def setbit(client: Client, arguments: list[bytes]) -> Answer:
    """SETBIT key offset value."""
    if integer(arguments[2], _BIT_OFFSET) >= LONGEST_STRING * 8:
        raise Error(_BIT_OFFSET)
    return client.store.run("setbit", arguments[1:], client.resp)


def bitfield(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD key [GET | [OVERFLOW WRAP|SAT|FAIL] SET | INCRBY type offset [value]]..."""
    for at in range(2, len(arguments)):
        if arguments[at].lower() in (b"get", b"set", b"incrby") and at + 2 < len(arguments):
            offset = arguments[at + 2].removeprefix(b"#")
            scale = 64 if arguments[at + 2][:1] == b"#" else 1
            if offset.isdigit() and int(offset) * scale >= LONGEST_STRING * 8:
                raise Error(_BIT_OFFSET)
    return client.store.run("bitfield", arguments[1:], client.resp)


def bitfield_ro(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD_RO key [GET type offset]..."""
    if any(word.lower() in (b"set", b"incrby", b"overflow") for word in arguments[2:]):
        raise Error("ERR BITFIELD_RO only supports the GET subcommand")
    return bitfield(client, arguments)


HANDLERS: Mapping[str, Handler] = {
    **{name: plain(name) for name in _PLAIN},
    "bitcount": bitcount,
    "bitfield": bitfield,
    "bitfield_ro": bitfield_ro,
    "setbit": setbit,
}
