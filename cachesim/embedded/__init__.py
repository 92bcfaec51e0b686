"""Emulated servers, which run inside the process: Redis, Memcached and Toxiproxy."""
