"""Emulated servers, which run inside this process: Redis, Memcached and Toxiproxy."""
