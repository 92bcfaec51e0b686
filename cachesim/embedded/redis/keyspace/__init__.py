"""Keys, their values and their memory; snapshots and dumps of them."""
