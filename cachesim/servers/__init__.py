"""What real and emulated servers have in common, and clients for them."""
