"""The process that carries a topology and answers calls for it."""
