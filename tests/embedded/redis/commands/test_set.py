"""Sets, compared with a real Redis."""

from tests.embedded.redis.differential import Pair


def test_integers_are_in_order(pair: Pair) -> None:
    """A small set of integers comes sorted, in each command. The fuzzer sorts all replies."""
    for request in (
        "SADD s{t} 10 9 -1 2", "SMEMBERS s{t}", "SSCAN s{t} 0", "SADD t{t} 2 30",
        "SUNION s{t} t{t}", "SDIFF s{t} t{t}", "SINTER s{t} s{t}", "SPOP s{t} 5",
    ):  # fmt: skip
        words = request.encode().split()
        assert pair.ours(*words) == pair.real(*words), request
