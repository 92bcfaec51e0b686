"""Clients of a node: connections, and what Redis keeps for each of them."""
