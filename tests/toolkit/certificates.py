"""Certificates made for a test: a server's, and a client's, each from an authority of its own."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

# For httpx where no TLS is spoken: its own, with the system's authorities, takes longer to make
# than a request, and it makes one for each.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def for_two_threads(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let ``websockets.sync`` use a client's context: one thread reads while another writes.

    OpenSSL does not allow that. With TLS 1.3 the server's tickets arrive while the request is
    written, and about 1 of 200 clients then waits for its answer until its time is over, with
    every server. TLS 1.2 sends nothing at that moment.
    """
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class Certificates:
    """PEM files in ``directory`` for the ``--ssl-*`` options, and contexts for clients."""

    def __init__(self, directory: Path, password: str = "correct horse") -> None:
        self._authority = trustme.CA()
        self._clients = trustme.CA()
        self.password = password
        self.chain = str(directory / "chain.pem")
        self.key = str(directory / "key.pem")
        self.locked_key = str(directory / "locked.pem")
        self.clients = str(directory / "clients.pem")
        leaf = self.renew()
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        Path(self.locked_key).write_bytes(
            key.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
            )
        )
        self._clients.cert_pem.write_to_path(self.clients)

    def renew(self) -> trustme.LeafCert:
        """Put a new certificate with a new key in the place of the server's."""
        leaf = self._authority.issue_cert("localhost", "127.0.0.1", "chat.example.com")
        Path(self.chain).write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key)
        return leaf

    def authority_to(self, file: Path) -> None:
        """Write what a client must trust."""
        self._authority.cert_pem.write_to_path(str(file))

    @property
    def options(self) -> dict[str, str]:
        """What a server needs."""
        return {"ssl_certfile": self.chain, "ssl_keyfile": self.key}

    def client(self, certificate: str = "") -> ssl.SSLContext:
        """Trusts the server; with ``known`` or ``unknown`` shows a certificate of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        if certificate:
            authority = self._clients if certificate == "known" else trustme.CA()
            authority.issue_cert("client@example.org").configure_cert(context)
        return context
