"""What carries the topology."""
