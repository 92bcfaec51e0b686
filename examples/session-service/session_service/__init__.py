"""A small service with sessions in Redis and cached API answers in Memcached."""
