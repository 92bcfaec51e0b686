"""The traffic of a run: pods of the architecture's service, or a user's own code or command."""
