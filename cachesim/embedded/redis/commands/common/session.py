"""The connection behind a command."""

from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.connections.session import Session
from cachesim.protocols.resp import Error


def session_of(client: Client) -> Session:
    """Return a client's connection.

    Raises:
        Error: the client has no connection, as a script.
    """
    if not isinstance(client, Session):
        raise Error("ERR This Redis command is not allowed from script")
    return client
