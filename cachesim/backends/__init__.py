"""The backends, which run a topology's servers: the interface, its implementations, the choice."""
