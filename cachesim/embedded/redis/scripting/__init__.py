"""Lua: scripts and functions, each node's in a process of its own."""
