"""The lines of CLIENT LIST."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session


@dataclass
class Shown:
    """What a client has told about itself, which CLIENT LIST shows and which changes nothing else.

    Attributes:
        is_kept: whether CLIENT NO-EVICT is on.
        is_quiet: whether CLIENT NO-TOUCH is on.
        library: the name of the client's library (CLIENT SETINFO).
        library_version: its version.
        capabilities: those of CLIENT CAPA, a letter each.
    """

    is_kept: bool = False
    is_quiet: bool = False
    library: bytes = b""
    library_version: bytes = b""
    capabilities: str = ""


def address_text(address: object) -> str:
    """Return a socket's address; of what has none, that of nobody."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return "127.0.0.1:0"


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def line_of(session: "Session") -> str:
    """Return the line of a connection."""
    server, tracked = session.server, session.tracking
    releases = server.version.releases
    is_valkey = "valkey" in releases
    flags = "".join(
        sign
        for sign, is_set in (
            ("S", session.is_replica),
            ("O", session.is_monitor),
            ("P", bool(session.is_subscribed)),
            ("x", session.transaction is not None),
            ("b", session.blocked is not None or session.is_postponed),
            ("t", tracked is not None),
            ("R", tracked is not None and tracked.is_broken),
            ("B", tracked is not None and tracked.broadcasts),
            ("d", session.watch_failed),
            ("r", session.is_readonly),
            ("e", session.shown.is_kept),
            ("T", session.shown.is_quiet),
        )
        if is_set
    )
    user = session.user.name.decode(errors="replace") if session.user is not None else "default"
    fields: dict[str, object] = {
        "id": session.id,
        "addr": session.address,
        "laddr": session.local_address,
        "fd": 8 + session.id,
        "name": _text(session.name),
        "age": int(server.clock() - session.created),
        "idle": max(0, int(server.wall() - session.active)),
        "flags": flags or "N",
        **({"capa": session.shown.capabilities} if is_valkey else {}),
        "db": 0,
        "sub": len(session.channels),
        "psub": len(session.patterns),
        "ssub": len(session.shard_channels),
        "multi": -1 if session.transaction is None else len(session.transaction.queue),
        **({"watch": len(session.watched)} if releases & {"7.4", "valkey"} else {}),
        "qbuf": session.waiting_input,
        "qbuf-free": 20474,
        "argv-mem": 0,
        "multi-mem": 0,
        "rbs": 1024,
        "rbp": 0,
        "obl": 0,
        "oll": 0,
        "omem": 0,
        "tot-mem": 22400,
        "events": "r",
        "cmd": server.executor.entries.name_of(session.last_request),
        "user": user,
        "redir": -1 if tracked is None else tracked.redirect,
        "resp": session.resp,
    }
    if "7.2" in releases:
        fields |= {
            "lib-name": _text(session.shown.library),
            "lib-ver": _text(session.shown.library_version),
        }
    if "8.0" in releases:
        fields["io-thread"] = 0
    if is_valkey:
        fields |= {"tot-net-in": 0, "tot-net-out": 0, "tot-cmds": 0}
    return " ".join(f"{name}={value}" for name, value in fields.items())
