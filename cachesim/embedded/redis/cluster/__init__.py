"""Cluster mode: slots, gossip and the cluster bus."""
