"""Requests that change what a connection gets: subscriptions, tracking, waits without an end.

`$A`, `$B` and `$C` stand for the ids of clients.
"""

from tests.embedded.redis.grammar.draws import (
    Grammar,
    either,
    key,
    many,
    maybe,
    number,
    one,
    options,
    seq,
    several_keys,
    value,
    word,
)
from tests.embedded.redis.grammar.streams import group, read_from

_channel = one(b"c", b"d", b"news.1", b"__redis__:invalidate", b"__keyspace@0__:other")
_sharded = one(b"{t}c", b"{t}d", b"c")
_pattern = one(b"c*", b"*", b"news.?", b"__key*")
_client = one(b"$A", b"$B", b"$C", b"0", b"x", b"-1")
_way = word("left", "right")
_kinds = word("normal", "master", "replica", "slave", "pubsub", "x")

_rising = one(b"1-1", b"2-1", b"3-3", b"5-*", b"7-7", b"8-*", b"9-1")
_clock = seq(one(b"{t}clock"), one(b"*"))  # nobody reads it, as its ids are times
_events = one(b"", b"KEA", b"KEAm", b"K$lshz", b"Exgt", b"KEAn", b"q")

COMMANDS: Grammar = {
    "subscribe": (many(_channel),), "psubscribe": (many(_pattern),),
    "ssubscribe": (many(_sharded),), "unsubscribe": (maybe(many(_channel)),),
    "punsubscribe": (maybe(many(_pattern)),),
    "sunsubscribe": (maybe(many(_sharded)),), "publish": (_channel, value),
    "spublish": (_sharded, value), "monitor": (), "quit": (), "reset": (),
    "hello": (maybe(word("2", "3", "3"), options(
        seq(word("auth"), one(b"default", b"u"), one(b"p")), seq(word("setname"), one(b"n")))),),
    "auth": (maybe(one(b"default", b"u")), one(b"p", b"x")),
    "client": (either(
        seq(word("reply"), word("on", "off", "skip", "x")),
        seq(word("tracking"), word("on", "on", "on", "off", "x"), options(
            word("bcast", "optin", "optout", "noloop", "x"), seq(word("redirect"), _client),
            seq(word("prefix"), one(b"{t}", b"o", b"")), most=3)),
        seq(word("caching"), word("yes", "no")), word("trackinginfo", "getredir", "unpause"),
        seq(word("unblock"), _client, maybe(word("timeout", "error", "x"))),
        seq(word("kill"), word("id"), one(b"$A", b"$B", b"$C", b"0", b"x"), options(
            seq(word("type"), _kinds), seq(word("user"), one(b"default", b"u", b"x")),
            seq(word("addr", "laddr"), one(b"127.0.0.1:1", b"x")),
            seq(word("skipme"), word("yes", "no", "x")))),
        seq(word("kill"), word("type"), word("pubsub", "x")),
        seq(word("kill"), either(seq(word("user"), one(b"u", b"x")), one(b"127.0.0.1:1"))),
        seq(word("pause"), one(b"100000"), word("write")),
    ),),
    "blpop": (many(key), one(b"0")), "brpop": (many(key), one(b"0")),
    "blmove": (key, key, _way, _way, one(b"0")), "brpoplpush": (key, key, one(b"0")),
    "blmpop": (one(b"0"), several_keys, _way, maybe(word("count"), number)),
    "bzpopmin": (many(key), one(b"0")), "bzpopmax": (many(key), one(b"0")),
    "bzmpop": (one(b"0"), several_keys, word("min", "max"), maybe(word("count"), number)),
    "xread": (word("block"), one(b"0"), word("streams"), read_from),
    "xreadgroup": (word("group"), group, group, word("block"), one(b"0"), maybe(word("noack")),
                   word("streams"), read_from),
    "wait": (one(b"0", b"5"), one(b"0")),
    # what wakes them
    "lpush": (key, many(value)), "zadd": (key, one(b"1"), value),
    "xadd": (either(seq(key, _rising), _clock), one(b"f"), value), "set": (key, value),
    "config": (word("set"), one(b"notify-keyspace-events"), _events),
    "get": (key,), "del": (key,), "multi": (), "exec": (),
}  # fmt: skip
