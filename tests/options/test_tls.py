"""The TLS context that the options ask for."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from asgiws.errors import ConfigError
from asgiws.options.config import Config
from asgiws.options.tls import ssl_context


class TestTLS:
    def test_no_certificate_no_tls(self) -> None:
        assert ssl_context(Config("main:app")) is None

    def test_the_context_has_what_the_options_say(self) -> None:
        ca = trustme.CA()
        cert = ca.issue_cert("localhost")
        cert.private_key_and_cert_chain_pem.write_to_path("both.pem")
        ca.cert_pem.write_to_path("ca.pem")
        context = ssl_context(
            Config(
                "main:app",
                ssl_certfile="both.pem",
                ssl_ca_certs="ca.pem",
                ssl_cert_reqs=ssl.CERT_REQUIRED,
                ssl_ciphers="ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384",
            )
        )
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.cert_store_stats()["x509_ca"] == 1
        tls12 = {c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"}
        assert tls12 == {"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"}

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ({"ssl_certfile": "a.file"}, "--ssl-certfile a.file"),
            ({"ssl_ca_certs": "a.file"}, "--ssl-ca-certs a.file"),
            ({"ssl_ciphers": "NONSENSE"}, "--ssl-ciphers NONSENSE"),
            ({"ssl_keyfile": "other.pem"}, "--ssl-keyfile other.pem"),
            ({"ssl_keyfile": "locked.pem"}, "--ssl-keyfile locked.pem"),
        ],
    )
    def test_a_file_that_does_not_fit_is_told_with_its_option(
        self, options: dict[str, Any], wanted: str
    ) -> None:
        ca = trustme.CA()
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("both.pem")
        other = ca.issue_cert("localhost").private_key_pem
        other.write_to_path("other.pem")
        lock("other.pem", "locked.pem", b"open sesame")
        config = Config("main:app", **{"ssl_certfile": "both.pem", **options})
        with pytest.raises(ConfigError, match=wanted):
            ssl_context(config)

    def test_a_file_that_cannot_be_read_and_a_key_of_another_are_told_as_such(self) -> None:
        ca = trustme.CA()
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path("both.pem")
        ca.issue_cert("localhost").private_key_pem.write_to_path("other.pem")
        config = Config("main:app", ssl_certfile="both.pem", ssl_keyfile="other.pem")
        with pytest.raises(ConfigError, match=r"the key belongs to another certificate$"):
            ssl_context(config)
        os.unlink("other.pem")
        missing = r"one of them cannot be read \(No such file or directory\)$"
        with pytest.raises(ConfigError, match=missing):
            ssl_context(config)

    def test_a_locked_key_opens_with_its_password(self) -> None:
        cert = trustme.CA().issue_cert("localhost")
        cert.cert_chain_pems[0].write_to_path("cert.pem")
        cert.private_key_pem.write_to_path("key.pem")
        lock("key.pem", "locked.pem", b"open sesame")
        files = {"ssl_certfile": "cert.pem", "ssl_keyfile": "locked.pem"}
        assert ssl_context(Config("main:app", **files, ssl_keyfile_password="open sesame"))
        with pytest.raises(ConfigError, match=r"locked\.pem"):
            ssl_context(Config("main:app", **files, ssl_keyfile_password="wrong"))


def lock(source: str, target: str, password: bytes) -> None:
    """Write a private key encrypted."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(source).read_bytes(), None)
    Path(target).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
    )
