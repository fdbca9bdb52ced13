"""Measurements, never tests: each prints a table and the command that made it.

`python -m benchmarks` measures what clients cost, this one and its peers; `python -m benchmarks.cache` what a cached
vector costs; `python -m benchmarks.faults` what clients make of a server that misbehaves.
"""
