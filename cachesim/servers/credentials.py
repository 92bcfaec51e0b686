"""The secrets of a run."""

import hashlib
import secrets
from dataclasses import dataclass, field

ADMIN_USER = "cachesim"
"""The control plane's own ACL user, which nodes also replicate as. Clients are `default`."""


def _draw() -> str:
    # An AUTH token has 16 to 128 printable characters.
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Credentials:
    """Drawn anew for each run; never shown in a repr.

    Attributes:
        token: the AUTH token, the password of clients.
        admin_password: the password of `ADMIN_USER`.
    """

    token: str = field(default_factory=_draw, repr=False)
    admin_password: str = field(default_factory=_draw, repr=False)


def acl_hash(password: str) -> str:
    """A password as ACL rules take it instead of the password itself."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()
