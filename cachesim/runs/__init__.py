"""The folder of a run: its files, its owner, and how to call it."""
