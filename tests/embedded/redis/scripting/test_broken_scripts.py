"""Broken scripts and bytecode: the process lives, and another node answers all the time."""

import asyncio
from pathlib import Path

from tests.embedded.mutations import HANG
from tests.embedded.redis.scripting.script_mutations import try_many

INPUTS, SEED = 150, 1
"""`python -m tests.embedded.redis.scripting.script_mutations` does more."""


def test_nothing_is_left_of_them(tmp_path: Path) -> None:
    """Each ends or is killed, no later one sees anything of it, and nobody else waits for it."""
    outcome = asyncio.run(try_many(tmp_path, INPUTS, SEED))
    assert outcome.inputs == INPUTS
    assert outcome.killed
    assert outcome.computed < HANG
