"""The process that owns a topology: it starts, operates and restores it, and answers calls."""
