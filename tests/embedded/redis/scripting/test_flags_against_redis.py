"""The flags of scripts and functions, compared with a real Redis 7.0: at full memory too."""

from collections.abc import Iterator

import pytest

from tests.embedded.redis.differential import Pair

FLAGS = (
    "", "allow-oom", "no-writes", "allow-stale", "no-cluster", "allow-cross-slot-keys",
    "no-writes,allow-oom", "allow-cross-slot-keys,allow-oom",
)  # fmt: skip
LINES = (
    "", "#!lua\n", *(f"#!lua flags={flags}\n" for flags in FLAGS), "#!lua name=x\n", "#!lua",
    "#!lua flags=foo\n", "#!lua flags\n", "#!lua flags=allow-oom,\n", "#!LUA\n", "#!foo\n",
    "#!lua flags=allow-oom flags=no-writes\n", "#!lua\tflags=allow-oom\r\n",
)  # fmt: skip
BODIES = (
    "return redis.call('SET', KEYS[1], 'x')",
    "return redis.pcall('SET', KEYS[1], 'x')",
    "return redis.call('GET', KEYS[1])",
    "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'y')",
    "redis.pcall('LPUSH', KEYS[1], 1) return redis.pcall('SET', KEYS[1], 'y')",
    "redis.pcall('HDEL', KEYS[1], 1) return redis.pcall('SET', KEYS[1], 'y')",
    "redis.call('SET', 'a', '1') return redis.call('SET', 'b', '1')",
    "redis.call('GET', 'a') return redis.call('GET', KEYS[1])",
    "return redis.call('MGET', 'a', 'b')",
    "return redis.call('PUBLISH', 'a', 'b')",
    "return 1",
)
CALLS = (("SET", "{t}k", "x"), ("GET", "{t}k"), ("MGET", "a", "b"), ("PUBLISH", "a", "b"))
STATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "normal": (),
    "full": (("CONFIG", "SET", "maxmemory", "1"),),
    "replicas": (("CONFIG", "SET", "min-replicas-to-write", "3"),),
}
RESET = ("CONFIG", "SET", "maxmemory", "0", "min-replicas-to-write", "0")


def library() -> str:
    """Return the code of a library with a function `f0`, `f1`... for each of `FLAGS`."""
    functions = (
        f"redis.register_function{{function_name='f{number}', "
        f"flags={{{', '.join(map(repr, filter(None, flags.split(','))))}}}, "
        "callback=function(keys, args) return redis.call(unpack(args)) end}\n"
        for number, flags in enumerate(FLAGS)
    )
    return "#!lua name=flags\n" + "".join(functions)


def cases() -> Iterator[tuple[str, ...]]:
    """Yield the requests."""
    for line in LINES:
        for body in BODIES:
            yield "EVAL", line + body, "1", "{t}k"
        yield "EVAL", line + BODIES[-1], "0"
        for body in (BODIES[0], BODIES[2], BODIES[-2], BODIES[-1]):
            yield "EVAL_RO", line + body, "1", "{t}k"
        yield "SCRIPT", "LOAD", line + "return 9"
        for body in (BODIES[0], BODIES[2]):
            yield from (("MULTI",), ("EVAL", line + body, "1", "{t}k"), ("EXEC",), ("DISCARD",))
    for name in (*(f"f{number}" for number in range(len(FLAGS))), "F1"):
        for call in CALLS:
            yield "FCALL", name, "1", "{t}k", *call
            yield "FCALL", name, "0", *call
            yield "FCALL_RO", name, "1", "{t}k", *call
        yield "FCALL", name, "x"
        yield from (("MULTI",), ("FCALL", name, "1", "{t}k", *CALLS[0]), ("EXEC",), ("DISCARD",))


@pytest.mark.parametrize("state", STATES)
def test_against_redis(real: int, state: str) -> None:
    """Every reply is the same, errors included: what may run, what may write, and which keys."""
    with Pair(real, 2) as pair:
        for server in (pair.real, pair.ours):
            server(b"FUNCTION", b"LOAD", b"REPLACE", library().encode())
            for setting in STATES[state]:
                server(*(word.encode() for word in setting))
        try:
            for case in cases():
                words = tuple(word.encode() for word in case)
                assert pair.differ(words) is None, words
        finally:
            pair.real(*(word.encode() for word in RESET))
            pair.real(b"FUNCTION", b"FLUSH")
