"""The CA of a run and the certificates of its nodes."""

import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cachesim.servers.bad_certificates import EXPIRED, WRONG_HOST

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ELSEWHERE = "cache.elsewhere.example"
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for


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

    def issue(self, node: str, problem: str | None = None) -> Certificate:
        """Return a new certificate for a node.

        Args:
            problem: `EXPIRED` or `WRONG_HOST`; None: it is good.
        """
        now = datetime.now(UTC)
        hosts = (_ELSEWHERE,) if problem == WRONG_HOST else self._hosts
        leaf = self._ca.issue_cert(
            *hosts,
            common_name=node,
            not_before=now - timedelta(days=90) if problem == EXPIRED else None,
            not_after=now - timedelta(minutes=1) if problem == EXPIRED else None,
        )
        return Certificate(
            b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes()
        )


def client_context(ca: bytes) -> ssl.SSLContext:
    """Return a context for clients that trust only this CA (PEM), with TLS 1.2 and later."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def admin_context(ca: bytes) -> ssl.SSLContext:
    """Return a context for cachesim's own clients: a node's bad certificate does not stop them.

    A peer still needs a certificate of this CA, which certifies the nodes of one run alone.
    """
    context = client_context(ca)
    context.check_hostname = False
    context.verify_flags |= _NO_CHECK_TIME
    return context


def server_context(certificate: Certificate, directory: Path) -> ssl.SSLContext:
    """Return a context for a server, TLS 1.2 and later.

    Args:
        directory: holds the key for a moment, as Python reads keys from files only.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No client resumes a session here. One that only writes would leave tickets unread, and its
    # kernel reset the connection at the end, with which the last writes go.
    context.num_tickets = 0
    file = directory / "certificate.pem"
    file.touch(mode=0o600)
    try:
        file.write_bytes(certificate.key + certificate.chain)
        context.load_cert_chain(file)
    finally:
        file.unlink()
    return context


def name_and_problem(certificate: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the name of a node of this CA, and what is wrong with its certificate.

    Args:
        certificate: as `SSLSocket.getpeercert` returns it.
    """
    ((_, name),) = next(it for it in certificate["subject"] if it[0][0] == "commonName")
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < time.time():
        return name, EXPIRED
    is_here = ("DNS", LOOPBACK[0]) in certificate["subjectAltName"]
    return name, None if is_here else WRONG_HOST


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
