"""Faults: what can go wrong, and how it is applied to links and nodes."""
