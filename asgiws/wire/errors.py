"""Close codes (RFC 6455 section 7.4) and the two errors a peer can cause on the wire.

This module is never compiled, so that its classes exist once.
"""

from __future__ import annotations

from typing import Final

NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS_RECEIVED: Final = 1005  # never on the wire: a close frame without a code
ABNORMAL_CLOSURE: Final = 1006  # never on the wire: no close frame at all
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013


def may_be_sent(code: int) -> bool:
    """True if ``code`` may stand in a close frame (RFC 6455 section 7.4 and the IANA registry)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


class ProtocolError(Exception):
    """The peer broke RFC 6455 or a limit: fail the connection with ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class HandshakeRefused(Exception):
    """An opening handshake is refused: answer ``status`` with ``headers`` and close.

    ``reason`` is a short sentence for the response's body and the log.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers
