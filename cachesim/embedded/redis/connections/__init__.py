"""Clients: sessions, blocked clients, subscriptions, tracking."""
