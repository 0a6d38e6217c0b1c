"""Measurements against the programs that people know: ``python -m benchmarks --help``."""
