"""The history of a run: what it is made of, and the file that keeps it."""
