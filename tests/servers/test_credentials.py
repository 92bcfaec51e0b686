"""The secrets of a run."""

import hashlib
import string

from cachesim.servers.credentials import Credentials, acl_hash


def test_not_shown() -> None:
    """No secret is in what is printed or logged of credentials."""
    credentials = Credentials()
    for text in (repr(credentials), str(credentials), f"{credentials}"):
        assert credentials.token not in text
        assert credentials.admin_password not in text


def test_token_as_elasticache_takes_it() -> None:
    """An AUTH token has 16 to 128 printable characters, and none that a URL would change."""
    for token in (Credentials().token for _ in range(20)):
        assert 16 <= len(token) <= 128
        assert set(token) <= set(string.ascii_letters + string.digits + "-_")


def test_drawn_anew() -> None:
    """Every run has secrets of its own, and each of its users too."""
    one, other = Credentials(), Credentials()
    assert len({one.token, one.admin_password, other.token, other.admin_password}) == 4


def test_acl_hash() -> None:
    """A password in ACL rules is its SHA-256 after a `#`."""
    assert acl_hash("secret") == "#" + hashlib.sha256(b"secret").hexdigest()
