"""Ranges, unions and their errors, compared with a real Redis."""

from collections.abc import Callable

import pytest

Agree = Callable[..., None]
_DATA = (
    "ZADD a{t} 1 x 2 y 3 z inf w",
    "ZADD b{t} 10 x 20 q -inf w",
    "SADD s{t} x q",
    "ZADD l{t} 0 a 0 b 0 c 0 d",
    "SET k{t} v",
)


@pytest.mark.parametrize(
    "request_",
    [
        "ZUNION 0 a{t}", "ZINTER -1 a{t}", "ZUNION x a{t}", "ZUNION 3 a{t} b{t}",
        "ZDIFF 1 a{t} WEIGHTS 1", "ZUNION 2 a{t} b{t} WITHSCORES", "ZDIFFSTORE d{t} 0 a{t}",
        "ZINTER 3 a{t} b{t} s{t} WEIGHTS 2 3 -1 AGGREGATE MAX WITHSCORES",
        "ZDIFF 2 a{t} s{t} WITHSCORES",
        "ZUNION 2 a{t} k{t}", "ZINTERCARD 0 a{t}", "ZINTERCARD 2 a{t} b{t} LIMIT -1",
        "ZINTERCARD 2 a{t} b{t} LIMIT x", "ZINTERCARD 2 a{t} b{t} LIMIT 1", "ZINTERCARD 5 a{t}",
        "ZUNIONSTORE d{t} 2 a{t} b{t} WEIGHTS 1 x", "ZUNIONSTORE a{t} 1 none{t}",
        "ZINTERSTORE d{t} 2 a{t} b{t} AGGREGATE foo", "ZUNIONSTORE d{t} 1 a{t} WITHSCORES",
        "ZRANGESTORE d{t} a{t} 0 1", "ZRANGESTORE d{t} a{t} (1 inf BYSCORE LIMIT 1 1",
        "ZRANGESTORE d{t} a{t} 0 1 WITHSCORES", "ZRANGESTORE d{t} none{t} 0 1",
        "ZRANGESTORE d{t} a{t} 0 x", "ZRANGE a{t} 0 1 LIMIT 0 1", "ZRANGE a{t} (inf +inf BYSCORE",
        "ZRANGE l{t} [b + BYLEX WITHSCORES", "ZRANGE l{t} (d [b BYLEX REV LIMIT 0 9",
        "ZRANGE a{t} 0 1 BYSCORE BYLEX", "ZREVRANGE a{t} 0 -2 WITHSCORES", "ZREVRANGE a{t} 0 1 REV",
        "ZRANGEBYSCORE a{t} ( 3 LIMIT -1 2", "ZREVRANGEBYSCORE a{t} 3 (1 LIMIT 0 -2 WITHSCORES",
        "ZRANGEBYLEX l{t} b c", "ZREVRANGEBYLEX l{t} + - LIMIT 1 2", "ZLEXCOUNT a{t} [w [x",
        "ZCOUNT a{t} x 1", "ZCOUNT k{t} 0 1", "ZREMRANGEBYLEX l{t} - (c",
        "ZREMRANGEBYRANK a{t} -2 -1", "ZREMRANGEBYSCORE a{t} -inf +inf",
        "ZRANDMEMBER a{t} 0", "ZRANDMEMBER a{t} x", "ZRANDMEMBER a{t} 1 foo", "ZRANDMEMBER k{t} 1",
        "ZRANDMEMBER none{t} 1", "ZRANDMEMBER a{t} -9223372036854775808",
        "ZMPOP 1 k{t} MIN", "ZMPOP 0 a{t} MIN", "ZMPOP 1 a{t} MIN COUNT 0", "ZMPOP 2 a{t} MIN",
        "ZMPOP 1 a{t} FOO", "ZMPOP 1 a{t} MAX COUNT 2", "ZMSCORE a{t} x none",
    ],
)  # fmt: skip
def test_replies(agree: Agree, request_: str) -> None:
    """Replies, errors and what is stored are Redis's."""
    agree(
        *_DATA, request_, "ZRANGE d{t} 0 -1 WITHSCORES", "ZRANGE a{t} 0 -1 WITHSCORES",
        "ZRANGE l{t} 0 -1", "DBSIZE",
    )  # fmt: skip
