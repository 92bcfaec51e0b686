"""Certificates, proved by TLS handshakes."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cachesim.servers.certificates import CertificateAuthority, client_context, server_context


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    """A CA for one more host than the loopback interface's."""
    return CertificateAuthority(["cache.example", "10.1.2.3"])


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> str | None:
    """Connect to a server under a name, and exchange a byte.

    Returns:
        The version of TLS.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def serve() -> None:
        with theirs, server.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(b"!")

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        with ours, client.wrap_socket(ours, server_hostname=host) as connection:
            assert connection.recv(1) == b"!"
            version = connection.version()
        served.result()
    return version


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "cache.example", "10.1.2.3"])
def test_host(authority: CertificateAuthority, tmp_path: Path, host: str) -> None:
    """A node is trusted under every loopback name and address, and under those that were added."""
    server = server_context(authority.issue("redis-a"), tmp_path)
    assert shake_hands(client_context(authority.pem), server, host)


@pytest.mark.parametrize("host", ["other.example", "redis-a", "127.0.0.2"])
def test_other_host(authority: CertificateAuthority, tmp_path: Path, host: str) -> None:
    """Under any other name or address it is not."""
    server = server_context(authority.issue("redis-a"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(client_context(authority.pem), server, host)


def test_other_ca(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Another run's certificate is not trusted."""
    server = server_context(CertificateAuthority().issue("redis-a"), tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(client_context(authority.pem), server, "localhost")


def test_old_tls(authority: CertificateAuthority) -> None:
    """Clients speak TLS 1.2 and later, and check names and certificates."""
    context = client_context(authority.pem)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_trusts_nobody_else(authority: CertificateAuthority) -> None:
    """Clients trust the run's own CA alone, none of the machine's."""
    assert len(client_context(authority.pem).get_ca_certs()) == 1


def test_key_is_not_shown(authority: CertificateAuthority) -> None:
    """A key is not in what is printed or logged of a certificate."""
    certificate = authority.issue("redis-a")
    assert b"PRIVATE KEY" in certificate.key
    for text in (repr(certificate), str(certificate)):
        assert "PRIVATE KEY" not in text
        assert certificate.key.decode().splitlines()[1] not in text


def test_every_node_has_a_key_of_its_own(authority: CertificateAuthority) -> None:
    """Two nodes do not share a key, and the CA's own is not handed out."""
    one, other = authority.issue("redis-a"), authority.issue("redis-b")
    assert one.key != other.key
    assert b"PRIVATE KEY" not in authority.pem + one.chain
