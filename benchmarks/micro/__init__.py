"""The codec alone: ``python -m benchmarks.micro``, ns per frame, against other readers."""
