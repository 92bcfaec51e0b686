"""The base of emulated servers: event loop, scheduler, in-process pipes, TLS and HTTP."""
