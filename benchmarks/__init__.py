"""Measurements, never tests: each prints a table and the command that made it."""
