"""Prints what a command answers: text for people, or JSON."""

import json
import math


def tell(data: object, text: str, as_json: bool) -> None:
    """Print an answer.

    Args:
        data: the answer as JSON.
        text: the answer for people.
    """
    if as_json:
        print_json(data)
    else:
        print(text)


def print_json(data: object) -> None:
    """Print JSON."""
    print(json.dumps(data, indent=2))


def time_left(seconds: float | None) -> str:
    """Return the time until a fault is healed, such as `1m30s`; empty if it has no end."""
    if seconds is None:
        return ""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
