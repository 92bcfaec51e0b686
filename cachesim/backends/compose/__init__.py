"""The topology in containers that docker compose owns."""
