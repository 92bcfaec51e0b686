"""SORT, COPY, RESTORE, SCAN and others, and their errors, compared with a real Redis."""

from collections.abc import Callable

import pytest

Agree = Callable[..., None]
_DATA = (
    "RPUSH l{t} 3 1 2 10", "SADD s{t} b a c", "ZADD z{t} 1 5 2 4 3 x", "SET k{t} v",
    "RPUSH w{t} b a 1", "SADD n{t} 1",
)  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [
        "SORT l{t}", "SORT l{t} DESC LIMIT 1 2", "SORT l{t} ALPHA", "SORT l{t} LIMIT -1 -1",
        "SORT l{t} BY nosort DESC LIMIT 0 2", "SORT l{t} BY w*", "SORT l{t} GET #",
        "SORT k{t}", "SORT k{t} FOO", "SORT k{t} LIMIT x 1", "SORT s{t}", "SORT s{t} ALPHA",
        "SORT s{t} BY nosort STORE d{t}", "SORT z{t} BY nosort DESC", "SORT w{t}",
        "SORT l{t} STORE d{t}", "SORT none{t} STORE l{t}", "SORT_RO l{t} STORE d{t}",
        "SORT_RO l{t} ASC", "COPY k{t} d{t} DB 16", "COPY k{t} d{t} DB -1", "COPY k{t} d{t} DB x",
        "COPY k{t} d{t} DB 1", "COPY k{t} d{t} DB 0", "COPY k{t} k{t} DB 0",
        "RESTORE d{t} 0 x IDLETIME -1", "RESTORE d{t} 0 x FREQ 256", "RESTORE d{t} x x FREQ 1",
        "RESTORE k{t} 0 x", "RESTORE d{t} 0 x IDLETIME 1 FREQ 1", "SSCAN k{t} x",
        "SSCAN none{t} 0 FOO", "HSCAN k{t} 0", "ZSCAN z{t} 0 COUNT 0", "SSCAN n{t} 0 MATCH",
        "SRANDMEMBER n{t} 2", "SRANDMEMBER n{t} -2", "SRANDMEMBER k{t} x", "SRANDMEMBER none{t}",
        "SRANDMEMBER n{t} -9223372036854775808", "HRANDFIELD none{t} -9223372036854775808",
        "HRANDFIELD k{t} 1 FOO", "ZRANDMEMBER none{t} -5", "ZRANDMEMBER none{t} -5000000 x",
        "ZRANDMEMBER z{t} 9223372036854775807 WITHSCORES", "WAIT 0 x", "MOVE k{t} 1",
        "SINTERCARD 1 s{t} LIMIT 1 LIMIT 2",
    ],
)  # fmt: skip
def test_replies(agree: Agree, request_: str) -> None:
    """Replies, errors and what is stored are Redis's."""
    agree(*_DATA, request_, "LRANGE d{t} 0 -1", "LRANGE l{t} 0 -1", "TYPE d{t}", "DBSIZE")
