"""The secrets of a run."""

import hashlib
import secrets
from dataclasses import dataclass, field

ADMIN_USER = "cachesim"
"""The ACL user of the control plane, and of replicas at their primary."""
DEFAULT_USER = "default"
"""The ACL user of clients."""


def _draw() -> str:
    # An AUTH token has 16 to 128 printable characters.
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Credentials:
    """The passwords of a run: drawn for each run, and not part of the repr.

    Attributes:
        token: the AUTH token, the password of clients.
        admin_password: the password of `ADMIN_USER`.
        next_token: the AUTH token after a rotation.
    """

    token: str = field(default_factory=_draw, repr=False)
    admin_password: str = field(default_factory=_draw, repr=False)
    next_token: str = field(default_factory=_draw, repr=False)


def acl_hash(password: str) -> str:
    """Return the hash of a password, which ACL rules take instead of the password."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()
