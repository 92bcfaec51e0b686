"""The append-only file, the backlog, and both sides of replication."""
