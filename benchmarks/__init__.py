"""Benchmarks: each figure beside that of a peer, measured in the same run, in turns.

Run them with `python -m benchmarks`; see README.md beside this file.
"""
