"""The topology in containers that `docker compose` owns: its folder, and attaching to it."""
