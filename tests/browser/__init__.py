"""The example, driven in a real browser."""
