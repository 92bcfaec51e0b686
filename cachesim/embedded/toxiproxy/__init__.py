"""An emulated Toxiproxy: proxies, toxic chains, and the HTTP API."""
