"""What owns a topology: its start and end, what operates it, and the calls it answers."""
