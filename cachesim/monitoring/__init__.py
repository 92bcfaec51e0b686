"""What the servers say of themselves while they run."""
