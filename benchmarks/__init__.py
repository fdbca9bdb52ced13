"""Measurements, never tests: each prints a table and the command that made it.

`python -m benchmarks` measures what clients cost, this one and its peers; `benchmarks.cache` what a cached vector costs;
`benchmarks.faults` what clients make of a server that misbehaves.
"""
