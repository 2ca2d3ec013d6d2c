"""The files and words of a configuration that make a TLS context."""

from __future__ import annotations

import ssl

from ..errors import ConfigError
from .config import Config


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """The TLS context, or None for plain TCP; ``ConfigError`` if a file does not fit."""
    if config.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    password = config.ssl_keyfile_password or ""
    try:
        # A password function that always answers keeps OpenSSL from asking the terminal.
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, lambda: password)
    except (OSError, ValueError) as error:
        key = f", --ssl-keyfile {config.ssl_keyfile}" if config.ssl_keyfile else ""
        raise ConfigError(f"--ssl-certfile {config.ssl_certfile}{key}: {_why(error)}") from error
    context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    if config.ssl_ca_certs is not None:
        try:
            context.load_verify_locations(config.ssl_ca_certs)
        except OSError as error:
            raise ConfigError(
                f"--ssl-ca-certs {config.ssl_ca_certs}: no certificates in PEM ({error})"
            ) from error
    if config.ssl_ciphers is not None:
        try:
            context.set_ciphers(config.ssl_ciphers)
        except ssl.SSLError as error:
            raise ConfigError(f"--ssl-ciphers {config.ssl_ciphers}: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def _why(error: OSError | ValueError) -> str:
    """What is wrong with a certificate and its key, as far as OpenSSL tells."""
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return f"one of them cannot be read ({error.strerror})"
    return f"no certificate with its key in PEM, or a wrong --ssl-keyfile-password ({error})"
