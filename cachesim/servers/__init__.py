"""What is true of real and emulated servers alike, and how to talk to them."""
