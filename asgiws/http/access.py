"""The access log: one line for each request, one for each session."""

from __future__ import annotations

import logging
from typing import Any

from ..log import MALFORMED_LINE, REQUEST_LINE, SESSION_LINE, access_log
from ..text import quoted
from .forwarded import Address
from .request import Request
from .scope import shown

TLS_HANDSHAKE = b"\x16\x03"  # the type of a record, and the first byte of its version
CLIENT_CLOSED_REQUEST = 499  # in the log only, as nginx has it


def log_request(client: Address | None, request: Request, status: int) -> None:
    """The line of a request that was answered ``status``."""
    if access_log.isEnabledFor(logging.INFO):
        access_log.info(
            REQUEST_LINE,
            shown(client),
            request.method.decode("ascii"),
            quoted(request.target),
            request.http_version,
            status,
        )


def log_malformed(client: Address | None, line: bytes, status: int) -> None:
    """The line of bytes in place of a request, which were answered ``status``."""
    if line.startswith(TLS_HANDSHAKE):
        line = b"TLS on a port without TLS"  # somebody typed https://
    if access_log.isEnabledFor(logging.INFO):
        access_log.info(MALFORMED_LINE, shown(client), "", quoted(line), "", status)


def log_session(
    client: Address | None,
    target: bytes,
    status: int,
    tail: str = "",
    fields: dict[str, Any] | None = None,
) -> None:
    """The line of a WebSocket; ``fields`` become attributes of the record."""
    if access_log.isEnabledFor(logging.INFO):
        access_log.info(
            SESSION_LINE + tail.replace("%", "%%"),
            shown(client),
            "WebSocket",
            quoted(target),
            "1.1",
            status,
            extra=fields,
        )
