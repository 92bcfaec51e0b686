"""Running requests: the command table, ACLs, checks, and the executor."""
