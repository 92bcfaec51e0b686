"""A Toxiproxy in this process: proxies, toxic chains, and the HTTP API."""
