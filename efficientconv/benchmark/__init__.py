"""Measured speed of layers and models against their arithmetic (scripts/benchmark.py)."""
