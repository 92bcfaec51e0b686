"""Memcached nodes in this process: see `node.MemcachedNode` and `config.MemcachedNodeConfig`."""
