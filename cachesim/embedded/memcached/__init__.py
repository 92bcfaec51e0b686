"""Emulated Memcached nodes: see `node.MemcachedNode` and `config.MemcachedNodeConfig`."""
