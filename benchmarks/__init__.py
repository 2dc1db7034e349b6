"""Measurements of the program; see `python -m benchmarks --help` and docs/benchmarks.md."""
