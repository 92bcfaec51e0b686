"""The topology in containers that cachesim creates and removes."""
