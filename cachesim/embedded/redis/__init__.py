"""Redis nodes in this process."""
