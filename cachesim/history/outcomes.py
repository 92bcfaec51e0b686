"""What an operation's outcome says of its service: whether it was good, and what was wrong."""


def is_good(outcome: str, due: float, end: float | None, deadline: float) -> bool:
    """Return whether an operation was answered within the deadline of its due time.

    All else is bad: what failed, what came late, what was shed or sent without waiting, and what
    never ended.

    Args:
        deadline: seconds.
    """
    return outcome == "ok" and end is not None and end <= due + deadline


def error_of(outcome: str, error: str | None) -> str:
    """Return the name under which a bad operation is counted."""
    if outcome in ("shed", "unacked"):
        return outcome
    name = "late" if outcome == "ok" else error or "no error"
    return f"info: {name}" if outcome == "info" else name
