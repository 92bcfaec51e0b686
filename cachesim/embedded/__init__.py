"""The servers that run inside this process, and what they run on."""
