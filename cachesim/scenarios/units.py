"""The quantities of a scenario file, from their text to numbers: `500ms`, `90%`, `200/s`, `50kb/s`.

Each function raises ValueError with what it should be.
"""

import re
from fractions import Fraction

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_LONGEST = 7 * 24 * 3600
"""Seconds. Longer is a mistake."""

TIME = r"^(\d+(\.\d+)?(ms|s|m|h))+$|^0$"
SHARE = r"^\d+(\.\d+)?%$"
RATE = r"^\d+(\.\d+)?/s$"
KILOBYTES = r"^\d+kb(/s)?$"
"""The patterns of the texts, as JSON Schema takes them."""


def seconds(value: object) -> float:
    """Return a time in seconds: `500ms`, `10s`, `2m`, `1h`, `1m30s`, or 0."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    text = str(value)
    parts = _PART.findall(text)
    if not isinstance(value, str) or "".join(map("".join, parts)) != text or not parts:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        hint = f". Did you mean {value}s?" if number else ""
        raise ValueError(f"should be a time such as 500ms, 10s, 2m or 1h, got {value!r}{hint}")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total > _LONGEST:
        raise ValueError(f"should be at most {_LONGEST // 3600}h, got {text}")
    return round(total, 6)


def seconds_above_zero(value: object) -> float:
    """Return a time above 0 in seconds."""
    found = seconds(value)
    if found == 0:
        raise ValueError("should be above 0")
    return found


def share(value: object) -> float:
    """Return a share from 0 to 1: `99.9%`."""
    if not isinstance(value, str) or not re.fullmatch(SHARE.strip("^$"), value):
        raise ValueError(f"should be a share such as 90%, got {value!r}")
    # As floats, 0.7 / 100 is less than 7 / 1000: a share that is just as large would be above it.
    found = Fraction(value[:-1]) / 100
    if found > 1:
        raise ValueError(f"should be at most 100%, got {value}")
    return float(found)


def rate(value: object) -> float:
    """Return a rate a second, above 0: `200/s` or 200."""
    number = value[:-2] if isinstance(value, str) and value.endswith("/s") else value
    if isinstance(number, str) and value is not number and re.fullmatch(RATE[1:-3], number):
        number = float(number)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1e6:
        raise ValueError(
            f"should be a rate such as 200/s, above 0 and up to 1000000, got {value!r}"
        )
    return float(number)


def milliseconds(value: object) -> object:
    """Return whole milliseconds, of a text with a unit. All else is returned as it is."""
    return round(seconds(value) * 1000) if isinstance(value, str) else value


def kilobytes(value: object) -> object:
    """Return kilobytes, of a text such as `50kb/s`. All else is returned as it is."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(KILOBYTES.strip("^$"), value):
        raise ValueError(f"should be kilobytes such as 50kb/s, got {value!r}")
    return int(value.partition("kb")[0])
