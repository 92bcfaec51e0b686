"""Redis nodes in this process: see `node.RedisNode` and `config.RedisNodeConfig`."""
