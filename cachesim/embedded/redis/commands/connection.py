"""Commands on the connection itself: who, which protocol, whether a replica answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachesim.embedded.redis.admin.versions import version_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.acl import WRONG_PASSWORD
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, words
from cachesim.protocols.resp import Error, Pairs

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session


def session_of(client: Client) -> "Session":
    """The connection of a client.

    Raises:
        Error: it has none, such as a script.
    """
    from cachesim.embedded.redis.connections.session import Session

    if not isinstance(client, Session):
        raise Error("ERR This Redis command is not allowed from script")
    return client


def _log_in(client: Client, name: bytes, password: bytes) -> None:
    server = client.server
    user = server.acl.authenticate(name, password)
    if user is None:
        server.acl_log.add_for(client, "auth", "toplevel", b"AUTH", name)
        raise Error(WRONG_PASSWORD)
    client.be(user)


def auth(client: Client, arguments: list[bytes]) -> Answer:
    """AUTH [username] password."""
    if len(arguments) > 3:
        raise Error(SYNTAX)
    if len(arguments) == 2 and client.server.acl.users[b"default"].nopass:
        raise Error(
            "ERR AUTH <password> called without any password configured for the default "
            "user. Are you sure your configuration is correct?"
        )
    name = arguments[1] if len(arguments) == 3 else b"default"
    _log_in(client, name, arguments[-1])
    return "OK"


def check_name(name: bytes) -> None:
    """Refuse a name that CLIENT LIST could not show.

    Raises:
        Error: it is such a name.
    """
    if any(not 0x21 <= char <= 0x7E for char in name):
        raise Error("ERR Client names cannot contain spaces, newlines or special characters.")


def hello(client: Client, arguments: list[bytes]) -> Answer:
    """HELLO [protover [AUTH username password] [SETNAME name]]."""
    resp, name = client.resp, None
    login: tuple[bytes, bytes] | None = None
    if len(arguments) > 1:
        resp = integer(arguments[1], "ERR Protocol version is not an integer or out of range")
        if resp not in (2, 3):
            raise Error("NOPROTO unsupported protocol version")
    at = 2
    while at < len(arguments):
        word, left = arguments[at].lower(), len(arguments) - at - 1
        if word == b"auth" and left >= 2:
            login = arguments[at + 1], arguments[at + 2]
            at += 3
        elif word == b"setname" and left:
            name = arguments[at + 1]
            check_name(name)
            at += 2
        else:
            raise Error(f"ERR Syntax error in HELLO option '{words(arguments[at])}'")
    if login is not None:
        _log_in(client, *login)
    if client.user is None:
        raise Error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            "select the RESP protocol version at the same time"
        )
    if name is not None:
        client.name = name
    client.resp = resp
    server = client.server
    version = version_of(server.config.engine)
    return Pairs(
        [
            b"server", version.name.encode(),
            b"version", version.number.encode(),
            b"proto", resp,
            b"id", client.id,
            b"mode", b"cluster",
            b"role", b"replica" if server.is_replica else b"master",
            b"modules", [],
        ]
    )  # fmt: skip


def ping(client: Client, arguments: list[bytes]) -> Answer:
    """PING [message]."""
    if len(arguments) > 2:
        raise Error("ERR wrong number of arguments for 'ping' command")
    if client.resp == 2 and client.subscriptions:
        return [b"pong", arguments[1] if len(arguments) > 1 else b""]
    return arguments[1] if len(arguments) > 1 else "PONG"


def echo(client: Client, arguments: list[bytes]) -> Answer:
    """ECHO message."""
    return arguments[1]


def quit_(client: Client, arguments: list[bytes]) -> Answer:
    """QUIT."""
    session_of(client).close()
    return "OK"


def reset(client: Client, arguments: list[bytes]) -> Answer:
    """RESET: as new, but for the connection."""
    session = session_of(client)
    server = client.server
    server.discard(client)
    server.pubsub.leave(client)
    server.monitors.pop(session, None)
    server.tracking.stop(session)
    client.resp, client.name, client.follows, client.asks = 2, b"", False, False
    session.monitors = False
    session.mutes, session.mutes_next = 0, False
    client.be(server.acl.everyone)
    client.look()
    server.look()
    return "RESET"


def readonly(client: Client, arguments: list[bytes]) -> Answer:
    """READONLY: let a replica answer."""
    client.follows = True
    return "OK"


def readwrite(client: Client, arguments: list[bytes]) -> Answer:
    """READWRITE: let a replica redirect again."""
    client.follows = False
    return "OK"


def asking(client: Client, arguments: list[bytes]) -> Answer:
    """ASKING: nothing ever migrates here, so it changes nothing."""
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    "asking": asking,
    "auth": auth,
    "echo": echo,
    "hello": hello,
    "ping": ping,
    "quit": quit_,
    "readonly": readonly,
    "readwrite": readwrite,
    "reset": reset,
}
