"""CLIENT: what is known of connections, and what can be done to them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cachesim.embedded.redis.commands.connection import check_name, session_of
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, words
from cachesim.protocols.resp import Error, Verbatim

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session

_KINDS = ("normal", "master", "replica", "slave", "pubsub")


def id_(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT ID."""
    return client.id


def info(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT INFO."""
    return Verbatim(f"{client.describe()}\n".encode())


def getname(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT GETNAME."""
    return client.name or None


def setname(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT SETNAME name."""
    check_name(arguments[2])
    client.name = arguments[2]
    return "OK"


def _kind(session: "Session") -> str:
    if session.is_replica:
        return "replica"
    return "pubsub" if session.subscriptions or session.shard_channels else "normal"


def _known_kind(word: bytes) -> str:
    kind = word.lower().decode(errors="replace")
    if kind not in _KINDS:
        raise Error(f"ERR Unknown client type '{words(word)}'")
    return "replica" if kind == "slave" else kind


def list_(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT LIST [TYPE type | ID id...]."""
    sessions = list(client.server.sessions.values())
    rest = arguments[2:]
    if len(rest) == 2 and rest[0].lower() == b"type":
        kind = _known_kind(rest[1])
        sessions = [session for session in sessions if _kind(session) == kind]
    elif len(rest) > 1 and rest[0].lower() == b"id":
        ids = [integer(word, "ERR Invalid client ID") for word in rest[1:]]
        sessions = [s for i in ids if (s := client.server.sessions.get(i)) is not None]
    elif rest:
        raise Error(SYNTAX)
    return Verbatim("".join(f"{session.describe()}\n" for session in sessions).encode())


def _filter(client: Client, name: bytes, value: bytes) -> "Callable[[Session], bool]":
    """What tells whether CLIENT KILL means a connection."""
    if name == b"id":
        wanted = integer(value, "ERR client-id should be greater than 0")
        if wanted < 1:
            raise Error("ERR client-id should be greater than 0")
        return lambda session: session.id == wanted
    if name == b"type":
        kind = _known_kind(value)
        return lambda session: _kind(session) == kind
    if name in (b"addr", b"laddr"):
        text = value.decode(errors="replace")
        if name == b"addr":
            return lambda session: session.address == text
        return lambda session: session.local_address == text
    if name == b"user":
        user = client.server.acl.users.get(value)
        if user is None:
            raise Error(f"ERR No such user '{words(value)}'")
        return lambda session: session.user is user
    raise Error(SYNTAX)


def kill(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT KILL addr | [ID id] [TYPE type] [USER name] [ADDR a] [LADDR a] [SKIPME yes|no]."""
    everyone = list(client.server.sessions.values())
    if len(arguments) == 3:
        matches = _filter(client, b"addr", arguments[2])
        found = [session for session in everyone if matches(session)]
        if not found:
            raise Error("ERR No such client")
        _close(client, found)
        return "OK"
    if len(arguments) % 2:
        raise Error(SYNTAX)
    skip_me, filters = True, []
    for word, value in zip(arguments[2::2], arguments[3::2], strict=True):
        if word.lower() == b"skipme" and value.lower() in (b"yes", b"no"):
            skip_me = value.lower() == b"yes"
        else:
            filters.append(_filter(client, word.lower(), value))
    found = [
        session
        for session in everyone
        if all(passes(session) for passes in filters) and not (skip_me and session is client)
    ]
    _close(client, found)
    return len(found)


def _close(client: Client, sessions: "list[Session]") -> None:
    for session in sessions:
        if session is client:
            session.close()
        else:
            session.abort()


def reply(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT REPLY ON | OFF | SKIP."""
    session = session_of(client)
    mode = arguments[2].lower()
    if mode == b"on":
        session.mutes = 0
        return "OK"
    if mode == b"off":
        session.mutes = -1
    elif mode == b"skip":
        session.mutes_next = session.mutes >= 0
    else:
        raise Error(SYNTAX)
    return NO_REPLY


def unblock(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT UNBLOCK id [TIMEOUT | ERROR]."""
    reason = arguments[3].lower() if len(arguments) == 4 else b"timeout"
    if len(arguments) > 4 or reason not in (b"timeout", b"error"):
        raise Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    session = client.server.sessions.get(integer(arguments[2]))
    if session is None or session.blocked is None:
        return 0
    if reason == b"error":
        session.unblock(Error("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
    else:
        session.unblock(session.blocked.timed_out())
    return 1


def no_evict(client: Client, arguments: list[bytes]) -> Answer:
    """CLIENT NO-EVICT ON | OFF."""
    if arguments[2].lower() not in (b"on", b"off"):
        raise Error(SYNTAX)
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    "client|getname": getname,
    "client|id": id_,
    "client|info": info,
    "client|kill": kill,
    "client|list": list_,
    "client|no-evict": no_evict,
    "client|reply": reply,
    "client|setname": setname,
    "client|unblock": unblock,
}
