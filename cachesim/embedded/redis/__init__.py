"""Emulated Redis nodes: see `node.RedisNode` and `config.RedisNodeConfig`."""
