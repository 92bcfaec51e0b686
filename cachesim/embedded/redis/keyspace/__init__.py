"""Keys with their values, their memory, snapshots and dumps."""
