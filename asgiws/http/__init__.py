"""HTTP/1.1 (RFC 9110, RFC 9112) and the ASGI events of ``http``, up to the 101 of a WebSocket."""
