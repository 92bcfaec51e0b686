"""Benchmarks: each figure is compared with a peer's, measured in the same run, in turns.

Run them with `python -m benchmarks`; see README.md beside this file.
"""
