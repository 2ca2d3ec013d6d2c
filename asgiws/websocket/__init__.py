"""One WebSocket as the application sees it, and what all WebSockets of an event loop share."""
