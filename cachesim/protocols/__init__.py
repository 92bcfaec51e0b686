"""The protocols of Redis and Memcached, without I/O."""
