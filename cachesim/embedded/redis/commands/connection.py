"""The connection commands, such as AUTH, HELLO and PING. CLIENT is in `client`."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands import client as client_commands
from cachesim.embedded.redis.commands.client import check_name
from cachesim.embedded.redis.commands.common.session import session_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.acl import WRONG_PASSWORD
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import (
    SYNTAX,
    integer,
    printed,
    small_integer,
)
from cachesim.protocols.resp import Error, Pairs


def _log_in(client: Client, command: bytes, name: bytes, password: bytes) -> None:
    server = client.server
    user = server.acl.authenticate(name, password)
    if user is None:
        server.acl_log.add("auth", "toplevel", command, name, client.describe())
        raise Error(WRONG_PASSWORD)
    client.authenticate_as(user)


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
    _log_in(client, arguments[0], name, arguments[-1])
    return "OK"


def hello(client: Client, arguments: list[bytes]) -> Answer:
    """HELLO [protover [AUTH username password] [SETNAME name]]."""
    resp, name = client.resp, None
    if len(arguments) > 1:
        resp = integer(arguments[1], "ERR Protocol version is not an integer or out of range")
        if resp not in (2, 3):
            raise Error("NOPROTO unsupported protocol version")
    at = 2
    while at < len(arguments):
        word, left = arguments[at].lower(), len(arguments) - at - 1
        if word == b"auth" and left >= 2:
            _log_in(client, arguments[0], arguments[at + 1], arguments[at + 2])
            at += 3
        elif word == b"setname" and left:
            name = arguments[at + 1]
            check_name(name)
            at += 2
        else:
            raise Error(f"ERR Syntax error in HELLO option '{printed(arguments[at])}'")
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
    version = server.version
    zone = server.settings.zone
    return Pairs(
        [
            b"server", version.name.encode(),
            b"version", version.number.encode(),
            b"proto", resp,
            b"id", client.id,
            b"mode", b"cluster",
            b"role", b"replica" if server.is_replica else b"master",
            b"modules", [],
            *([b"availability_zone", zone.encode()] if zone else []),
        ]
    )  # fmt: skip


def ping(client: Client, arguments: list[bytes]) -> Answer:
    """PING [message]."""
    if len(arguments) > 2:
        raise Error("ERR wrong number of arguments for 'ping' command")
    if client.resp == 2 and client.is_subscribed:
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
    """RESET: reset the client's state, but keep the connection."""
    session = session_of(client)
    server = client.server
    client.discard_transaction()
    server.pubsub.leave(client)
    server.monitors.remove(session.id)
    server.tracking.stop(session)
    client.resp, client.name, client.is_readonly = 2, b"", False
    session.is_monitor = False
    session.mutes = 0
    client.authenticate_as(server.acl.everyone)
    client.update_guards()
    server.update_guards()
    return "RESET"


def select(client: Client, arguments: list[bytes]) -> Answer:
    """SELECT index."""
    index = small_integer(arguments[1])
    if index:
        raise Error("ERR SELECT is not allowed in cluster mode")
    return "OK"


HANDLERS: Mapping[str, Handler] = {
    **client_commands.HANDLERS,
    "auth": auth,
    "echo": echo,
    "hello": hello,
    "ping": ping,
    "quit": quit_,
    "reset": reset,
    "select": select,
}
