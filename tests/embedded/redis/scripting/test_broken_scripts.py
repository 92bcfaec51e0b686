"""Broken scripts and bytecode: the node survives them, and another node answers all the time."""

import asyncio
from pathlib import Path

from tests.embedded.mutations import HANG
from tests.embedded.redis.scripting.script_mutations import try_many

INPUTS, SEED = 150, 8
"""`python -m tests.embedded.redis.scripting.script_mutations` runs more."""


def test_nothing_is_left_of_them(tmp_path: Path) -> None:
    """Each script ends or is killed, changes nothing for later ones, and delays no other node."""
    outcome = asyncio.run(try_many(tmp_path, INPUTS, SEED))
    assert outcome.inputs == INPUTS
    assert outcome.killed
    assert outcome.computed < HANG
