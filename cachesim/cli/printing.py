"""Prints what a command answers: text for people, or JSON."""

import json


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
