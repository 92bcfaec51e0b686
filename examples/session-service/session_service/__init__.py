"""A small service: who is logged in is in Redis, what APIs answered is in Memcached."""
