"""What the emulated servers run on: event loop, timers, pipes, TLS."""
