"""The CA of a run and the certificates of its nodes."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Certificate:
    """A node's certificate chain and its private key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)


class CertificateAuthority:
    """The CA of a run.

    Args:
        hosts: names and addresses for all certificates, besides those of the loopback interface.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        import trustme

        self._ca = trustme.CA(organization_name="cachesim")
        self._hosts = tuple(dict.fromkeys([*LOOPBACK, *hosts]))

    @property
    def pem(self) -> bytes:
        """The CA's own certificate, PEM."""
        return self._ca.cert_pem.bytes()

    def issue(self, node: str) -> Certificate:
        """Return a new certificate for a node."""
        leaf = self._ca.issue_cert(*self._hosts, common_name=node)
        return Certificate(
            b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()
        )


def client_context(ca: bytes) -> ssl.SSLContext:
    """Return a context for clients that trust only this CA (PEM), with TLS 1.2 and later."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context(certificate: Certificate, directory: Path) -> ssl.SSLContext:
    """Return a context for a server, TLS 1.2 and later.

    Args:
        directory: holds the key for a moment, as Python reads keys from files only.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No client resumes a session here, and making tickets is a third of a handshake.
    context.num_tickets = 0
    file = directory / "certificate.pem"
    file.touch(mode=0o600)
    try:
        file.write_bytes(certificate.key + certificate.chain)
        context.load_cert_chain(file)
    finally:
        file.unlink()
    return context


def hosts_in(certificate: bytes) -> set[str]:
    """Return the names and addresses that a certificate is valid for.

    Args:
        certificate: PEM; of a chain, the first one is read.

    Raises:
        ValueError: it is not a certificate.
    """
    from cryptography import x509

    leaf = x509.load_pem_x509_certificate(certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *map(str, addresses)}
