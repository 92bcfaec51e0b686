"""Topologies under load, which must report injected faults and no others."""
