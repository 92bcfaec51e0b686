"""Clients of a node: their connections and state."""
