"""HyperLogLogs, compared with a real Redis."""

import random
from collections.abc import Callable

from tests.embedded.redis.differential import Pair

Agree = Callable[..., None]


def test_replies(agree: Agree) -> None:
    """Counts, merges and errors are Redis's."""
    agree(
        "PFADD h", "PFADD h", "TYPE h", "PFCOUNT h", "GET h", "PFADD d{t} 1 2", "PFADD b{t} 3",
        "PFMERGE d{t} b{t}", "PFCOUNT d{t}", "PFCOUNT d{t} b{t} none{t}", "PFMERGE new{t}",
        "GET new{t}", "STRLEN d{t}", "SET s{t} abc", "PFADD s{t} a", "PFCOUNT d{t} s{t}",
        "PFMERGE d{t} s{t}", "PFMERGE s{t} d{t}", "RPUSH l{t} a", "PFADD l{t} a", "PFCOUNT l{t}",
        "PFCOUNT none{t}", "SETRANGE d{t} 16 x", "PFCOUNT d{t}", "PFCOUNT d{t} b{t}",
    )  # fmt: skip


def test_the_string_is_that_of_redis(pair: Pair) -> None:
    """The bytes are the same after any elements, sparse and dense, and so are the estimates."""
    r = random.Random(14)
    keys = (b"{t}a", b"{t}b", b"{t}c")
    for _ in range(250):
        key = r.choice(keys)
        requests: list[tuple[bytes, ...]] = [
            (b"PFADD", key, *(r.randbytes(r.randint(0, 20)) for _ in range(r.randint(1, 40))))
        ]
        if r.random() < 0.2:
            requests.append((b"PFCOUNT", key))
        if r.random() < 0.1:
            requests.append((b"PFMERGE", *r.sample(keys, 2)))
        requests += [(b"GET", key), (b"PFCOUNT", *r.sample(keys, 2))]
        for words in requests:
            assert pair.differ(words) is None, words[:2]
    assert pair.ours(b"STRLEN", b"{t}a") == 12304


def test_the_sparse_form_has_a_limit(agree: Agree) -> None:
    """`hll-sparse-max-bytes` tells when registers take the dense form."""
    agree(
        "CONFIG SET hll-sparse-max-bytes 30", "PFADD h a b c d e", "GET h", "PFADD h f g h i j k",
        "STRLEN h", "GET h", "CONFIG SET hll-sparse-max-bytes 3000",
    )  # fmt: skip
