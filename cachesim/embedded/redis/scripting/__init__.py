"""Scripts and functions in Lua. Each node runs its own in a process of their own."""
