"""Command: what the user's own command says of the run, by its exit code.

Rule: a command that ended by itself with another exit code than 0 has failed. One that was ended
with the run, as a load is, says nothing.

Unknown: it ended with 0, but at a speed above 1, where its timeouts may outlast what production's
would not, and it reported no operations by which its profile could be tried.
"""

from cachesim.history.reader import History
from cachesim.scenarios.verdict import Result, Verdict, unknown

NAME = "command"


def applies(history: History) -> bool:
    """Return whether there was a command that ended by itself."""
    return history.meta.get("command_code") is not None


def is_silent(history: History) -> bool:
    """Return whether it reported no operation."""
    return not any(history.rows("SELECT 1 FROM operations LIMIT 1"))


def check(history: History) -> Verdict:
    """Return the verdict on the command."""
    code = history.meta.get("command_code")
    if code != 0:
        return Verdict(NAME, Result.FAIL, reason=f"the command ended with exit code {code}")
    if history.speed != 1 and is_silent(history):
        return unknown(NAME, "it passed and reported no operations; --speed 1 settles it")
    return Verdict(NAME, Result.PASS, reason="the command ended with exit code 0")
