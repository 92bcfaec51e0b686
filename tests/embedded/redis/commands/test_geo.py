"""Positions and searches, compared with a real Redis."""

import random
from collections.abc import Callable

import pytest

from tests.embedded.redis.differential import Pair

Agree = Callable[..., None]
_SICILY = "GEOADD g 13.361389 38.115556 a 15.087269 37.502669 b 12.758489 38.788135 c"


@pytest.mark.parametrize(
    "request_",
    [
        "GEODIST g a b", "GEODIST g a b km", "GEODIST g a b FT", "GEODIST g a x", "GEODIST n a b",
        "GEODIST g a b foo", "GEODIST g a b m m", "GEOPOS g a x b", "GEOHASH g a x b",
        "GEOADD g NX XX 1 1 a", "GEOADD g CH 13 38 a", "GEOADD g 181 1 a", "GEOADD g 1 x a",
        "GEOADD g 1 1 a 2", "GEOADD g 0x10 1e1 a",
        "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST WITHHASH",
        "GEOSEARCH g FROMMEMBER a BYBOX 200 20 km", "GEOSEARCH g FROMMEMBER a BYBOX -1 20 km",
        "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC", "GEOSEARCH g FROMLONLAT 15 37",
        "GEOSEARCH g BYRADIUS 200 km", "GEOSEARCH g FROMMEMBER x BYRADIUS 1 m", "GEOSEARCH n ASC",
        "GEOSEARCH g FROMMEMBER a BYRADIUS 500 km COUNT 2 ANY",
        "GEOSEARCH g FROMMEMBER a BYRADIUS 500 km ANY", "GEOSEARCH g FROMMEMBER a BYRADIUS inf m",
        "GEOSEARCH g FROMMEMBER a BYRADIUS 500 km COUNT 0",
        "GEOSEARCHSTORE g g FROMMEMBER a BYRADIUS 150 km STOREDIST",
        "GEOSEARCHSTORE g g FROMMEMBER a BYRADIUS 150 km WITHDIST",
        "GEOSEARCHSTORE g g FROMMEMBER a BYBOX 1 1 ft",
        "GEOSEARCHSTORE g n FROMMEMBER a BYBOX 1 1 ft",
        "GEORADIUS g 15 37 200 km WITHDIST COUNT 1", "GEORADIUS g 15 37 200 km STORE g",
        "GEORADIUS g 15 37 200 km WITHDIST STORE g", "GEORADIUS_RO g 15 37 200 km STORE g",
        "GEORADIUSBYMEMBER g a 200 mi STOREDIST g", "GEORADIUSBYMEMBER n a x foo",
        "GEORADIUSBYMEMBER_RO g a 200 mi WITHHASH", "GEORADIUS g 15 37 -1 km",
    ],
)  # fmt: skip
def test_replies(agree: Agree, request_: str) -> None:
    """Digits, order and errors are Redis's; so is what is stored."""
    agree(_SICILY, request_, "ZRANGE g 0 -1 WITHSCORES", "EXISTS g")


def test_any_area(pair: Pair) -> None:
    """Searches find the same members in the same order, all over the map."""
    r = random.Random(14)

    def place() -> tuple[bytes, bytes]:
        return b"%.6f" % r.uniform(-180, 180), b"%.6f" % r.uniform(-85, 85)

    for number in range(300):
        assert pair.differ((b"GEOADD", b"g", *place(), b"%d" % number)) is None
    for _ in range(150):
        sizes = [b"%.2f" % 10 ** r.uniform(3, 7.3) for _ in range(2)]
        shape = r.choice(([b"BYRADIUS", sizes[0]], [b"BYBOX", *sizes]))
        words = (b"GEOSEARCH", b"g", b"FROMLONLAT", *place(), *shape, b"m", b"WITHDIST")
        assert pair.differ(words) is None, words
