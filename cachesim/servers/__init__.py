"""Common parts of real and emulated servers, and clients for them."""
