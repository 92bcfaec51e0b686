"""Replication and persistence: the replication stream, the append-only file, primary and replica."""
