"""Topologies under load with nothing injected, and with what was injected alone."""
