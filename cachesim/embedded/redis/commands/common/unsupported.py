"""Commands that an embedded node does not run."""

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.protocols.resp import Error


def not_supported(client: Client, arguments: list[bytes]) -> Answer:
    """Refuse a command that needs a real process, such as SAVE or SHUTDOWN."""
    raise Error(f"ERR {arguments[0].upper().decode()} is not supported by an embedded node")
