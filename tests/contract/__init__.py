"""The contract suite, which runs on every backend."""
