"""The compose backend: writes the compose folder, and attaches to its containers."""
