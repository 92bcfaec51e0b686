"""Settings whose values are several words: as `save` has."""

_CLASSES = {"normal": "normal", "slave": "slave", "replica": "slave", "pubsub": "pubsub"}
_UNITS = {
    "": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3
}  # fmt: skip


def memory(value: str) -> int | None:
    """Return the bytes of a text such as `100mb`, 0 without digits; None if it is malformed."""
    digits = value.rstrip("kmgbKMGB")
    unit = _UNITS.get(value[len(digits) :].lower())
    if unit is None or not (digits.isdigit() or not digits):
        return None
    return int(digits or 0) * unit


def save_points(value: str) -> str:
    """Return the value of `save`, as CONFIG GET shows it.

    Raises:
        ValueError: the value is wrong, with a reason.
    """
    words = value.split(" ") if value else []
    try:
        numbers = list(map(int, words))
    except ValueError:
        numbers = [-1]
    times, changes = numbers[::2], numbers[1::2]
    if len(times) != len(changes) or min(times, default=1) < 1 or min(changes, default=0) < 0:
        raise ValueError("Invalid save parameters")
    return " ".join(map(str, numbers))


def buffer_limits(value: str, present: str) -> str:
    """Return the value of `client-output-buffer-limit`, as CONFIG GET shows it.

    Args:
        present: the value so far, as a class may be left out.

    Raises:
        ValueError: the value is wrong, with a reason.
    """
    words = value.split(" ") if value else []
    if len(words) % 4:
        raise ValueError("Wrong number of arguments in buffer limit configuration.")
    shown = present.split(" ")
    limits = {shown[at]: shown[at + 1 : at + 4] for at in range(0, len(shown), 4)}
    for at in range(0, len(words), 4):
        kind = _CLASSES.get(words[at].lower())
        if kind is None:
            raise ValueError("Invalid client class specified in buffer limit configuration.")
        hard, soft = memory(words[at + 1]), memory(words[at + 2])
        if hard is None or soft is None or not words[at + 3].isdigit():
            raise ValueError(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration."
            )
        limits[kind] = [str(hard), str(soft), str(int(words[at + 3]))]
    return " ".join(word for kind, three in limits.items() for word in (kind, *three))


def limits_of_classes(value: str) -> dict[str, tuple[int, int, int]]:
    """Read the value of `client-output-buffer-limit`, as CONFIG GET shows it.

    Returns:
        For each class the bytes of the hard and of the soft limit, and the seconds of that.
    """
    words = value.split(" ")
    return {
        kind: (int(hard), int(soft), int(seconds))
        for kind, hard, soft, seconds in zip(*(words[n::4] for n in range(4)), strict=True)
    }


def oom_scores(value: str) -> str:
    """Return the value of `oom-score-adj-values`, as CONFIG GET shows it.

    Raises:
        ValueError: the value is wrong, with a reason.
    """
    words = value.split(" ")
    if len(words) != 3:
        raise ValueError("wrong number of arguments")
    try:
        scores = [int(word) if word else 0 for word in words]
    except ValueError:
        scores = [9999]
    if min(scores) < -2000 or max(scores) > 2000:
        raise ValueError("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
    return " ".join(map(str, scores))
