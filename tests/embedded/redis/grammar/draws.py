"""What requests are made of: functions that draw arguments."""

import random
from collections.abc import Callable, Mapping, Sequence

Draw = Callable[[random.Random], Sequence[bytes]]
Grammar = Mapping[str, tuple[Draw, ...]]
"""Commands by name, with the draws of their arguments in order."""

KEYS = (b"{t}a", b"{t}b", b"{t}c", b"{t}d", b"other")
VALUES = (
    b"", b"a", b"abc", b"0", b"1", b"-1", b"10", b"007", b"3.5", b"1e3", b" 1", b"inf", b"nan",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"x" * 50,
    b"\x00\xff\r\n", b"-0", b"+1",
)  # fmt: skip
NUMBERS = (
    b"0", b"1", b"2", b"-1", b"-2", b"5", b"100", b"-100", b"x", b"", b"1.5",
    b"9223372036854775807", b"-9223372036854775808",
)  # fmt: skip
# None of them expires while requests are compared.
_TIMES = (b"0", b"-1", b"100000", b"500000", b"x", b"9223372036854775807", b"99999999999999")
_AHEAD = 4_000_000_000  # seconds since the epoch, far enough away


def one(*choices: bytes) -> Draw:
    """Draw one of some arguments."""
    return lambda r: [r.choice(choices)]


key, value, number = one(*KEYS), one(*VALUES), one(*NUMBERS)
field, seconds = one(b"f", b"g", b"h", b"1", b"", b"x" * 70), one(*_TIMES)
score = one(b"0", b"1", b"1.5", b"-inf", b"+inf", b"(1", b"x", b"3", b"nan", b"2")
timeout = one(b"0.001", b"0.001", b"-1", b"x", b"inf")


def word(*choices: str) -> Draw:
    """Draw one of some words, in lower or upper case."""

    def draw(r: random.Random) -> list[bytes]:
        chosen = r.choice(choices).encode()
        return [chosen if r.random() < 0.8 else chosen.upper()]

    return draw


def seq(*draws: Draw) -> Draw:
    """Draw several things, one after the other."""
    return lambda r: [w for draw in draws for w in draw(r)]


def either(*draws: Draw) -> Draw:
    """Draw one of several things."""
    return lambda r: r.choice(draws)(r)


def maybe(*draws: Draw, chance: float = 0.3) -> Draw:
    """Draw something, or nothing."""
    return lambda r: [w for draw in draws for w in draw(r)] if r.random() < chance else []


def many(*draws: Draw, most: int = 3) -> Draw:
    """Draw something several times."""
    return lambda r: [w for _ in range(r.randint(1, most)) for draw in draws for w in draw(r)]


def options(*draws: Draw, most: int = 2, chance: float = 0.5) -> Draw:
    """Draw some of several options, or none."""
    return maybe(many(either(*draws), most=most), chance=chance)


def moment(scale: int) -> Draw:
    """Draw a moment since the epoch, given how many units a second has."""
    return one(b"%d" % (_AHEAD * scale), b"1", b"-5", b"x", b"0")


def several_keys(r: random.Random) -> list[bytes]:
    """Draw a number of keys, mostly the right one, and keys."""
    keys = many(key)(r)
    return [b"%d" % len(keys) if r.random() < 0.9 else r.choice(NUMBERS), *keys]
