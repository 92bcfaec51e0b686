"""Figures as text: seconds, shares, counts, and intervals of them."""

INFINITE = float("inf")


def seconds(value: float) -> str:
    """Return a length of time with its unit: `250 ms`, `21.6 s`, `3 min 20 s`, `1 h 5 min`."""
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    if value < 119.95:
        return f"{float(f'{value:.3g}'):g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def share(value: float) -> str:
    """Return a share of 1 as percent."""
    return f"{value * 100:.3g} %"


def count(value: float) -> str:
    """Return a count, with commas between thousands."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    """Return a figure in a unit of a verdict."""
    if unit == "s":
        return seconds(value)
    if unit == "share":
        return share(value)
    return f"{count(value)} {unit}".strip()


def interval(low: float, high: float | None, unit: str) -> str:
    """Return an interval: `21.6 to 22 s`. With equal ends, one figure.

    Args:
        high: None or infinite: there is no upper limit.
    """
    least = amount(low, unit)
    if high is None or high == INFINITE:
        return f"{least} or more"
    most = amount(high, unit)
    if least == most:
        return most
    number, _, suffix = most.partition(" ")
    if number and suffix and least.endswith(f" {suffix}") and suffix.count(" ") == 0:
        return f"{least.removesuffix(f' {suffix}')} to {most}"
    return f"{least} to {most}"


def several(number: float, one: str, many: str | None = None) -> str:
    """Return a count of things: `1 write`, `2 writes`."""
    return f"{count(number)} {one if number == 1 else many or f'{one}s'}"
