"""`python -m cachesim`."""

from cachesim.cli import main

main(prog_name="cachesim")
