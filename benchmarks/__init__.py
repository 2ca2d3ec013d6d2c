"""Benchmarks of ASGI servers, side by side: ``python -m benchmarks`` (see README.md)."""
