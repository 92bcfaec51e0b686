"""From a request to its handler: the command table, ACLs, the executor."""
