"""Replication and persistence: the stream of changes, the append-only file, primary and replica."""
