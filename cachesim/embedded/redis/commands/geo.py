"""The geo commands. fakeredis runs them, but the arguments are checked before the key's type."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.by_fakeredis import plain
from cachesim.embedded.redis.dispatch.entry import Handler

_PLAIN = (
    "geoadd",  # key [NX | XX] [CH] longitude latitude member...
    "geodist",  # key member member [M | KM | FT | MI]
    "geohash",  # key member...
    "geopos",  # key member...
    "georadius",  # key longitude latitude radius M|KM|FT|MI [options] [STORE | STOREDIST key]
    "georadius_ro",  # key longitude latitude radius M|KM|FT|MI [options]
    "georadiusbymember",  # key member radius M|KM|FT|MI [options] [STORE | STOREDIST key]
    "georadiusbymember_ro",  # key member radius M|KM|FT|MI [options]
    "geosearch",  # key FROMMEMBER member|FROMLONLAT x y BYRADIUS r unit|BYBOX w h unit [options]
    "geosearchstore",  # destination source, then as GEOSEARCH, [STOREDIST]
)
"""Options: [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT n [ANY]] [ASC | DESC]."""

HANDLERS: Mapping[str, Handler] = {name: plain(name) for name in _PLAIN}
