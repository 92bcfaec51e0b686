"""Toxiproxy's HTTP API: a client, and toxics as values."""
