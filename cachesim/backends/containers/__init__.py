"""The topology in containers that cachesim makes and removes."""
