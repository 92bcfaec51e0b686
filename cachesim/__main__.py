"""`python -m cachesim`."""

from cachesim.cli.app import main

main(prog_name="cachesim")
