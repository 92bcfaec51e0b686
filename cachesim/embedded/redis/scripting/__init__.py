"""Scripts and functions in Lua. Each node runs them in a separate process."""
