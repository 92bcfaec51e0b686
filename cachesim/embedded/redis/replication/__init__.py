"""Replication and persistence: the stream, the append-only file, the primary and the replica."""
