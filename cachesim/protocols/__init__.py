"""Protocols, without I/O: bytes in, commands or replies out."""
