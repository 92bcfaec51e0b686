"""Requests about the server, its cluster, scripts, transactions and connections."""

import random

from cachesim.embedded.redis.keyspace.payloads import sealed, string_of
from tests.embedded.redis.grammar.draws import (
    Draw,
    Grammar,
    either,
    key,
    many,
    maybe,
    number,
    one,
    options,
    seq,
    value,
    word,
)

# --- scripts ---------------------------------------------------------------------------------

_SHEBANGS = (
    b"", b"", b"", b"", b"#!lua\n", b"#!lua flags=no-writes\n", b"#!lua flags=allow-oom\n",
    b"#!lua flags=allow-cross-slot-keys\n", b"#!lua flags=no-cluster\n", b"#!lua flags=foo\n",
)  # fmt: skip
_BODIES = (
    b"return redis.call('get',KEYS[1])", b"return {1,2.5,'x'}",
    b"return redis.call('incr',KEYS[1])", b"return redis.pcall('lpush',KEYS[1],1)",
    b"return redis.call('mget',KEYS[1],'z')",
    b"redis.pcall('del','z') return redis.pcall('get',KEYS[1])",
    b"redis.setresp(3) return redis.pcall('zscore',KEYS[1],'a')",
    b"return redis.pcall('zrange',KEYS[1],0,-1,'withscores')",
    b"return redis.error_reply('E x')", b"return redis.status_reply('x')", b"return nil",
)  # fmt: skip
LIBRARY = b"""#!lua name=lib
redis.register_function('w', function(keys) return redis.call('SET', keys[1], 'x') end)
redis.register_function{function_name='r', flags={'no-writes'}, callback=function(keys)
  local it = redis.call('GET', keys[1])
  return it
end}
"""
_OTHER = LIBRARY.replace(b"name=lib", b"name=other").replace(b"'w'", b"'v'").replace(b"'r'", b"'q'")
_PAYLOADS = (
    b"x", sealed(b""), sealed(b"\x00"), sealed(b"\xf5\x01x"),
    *(sealed(b"\xf5" + string_of(library)) for library in (LIBRARY, LIBRARY, _OTHER)),
    sealed(b"\xf5" + string_of(LIBRARY) + b"\xf5" + string_of(_OTHER)),
    sealed(b"\xf5" + string_of(LIBRARY) + b"\xf5" + string_of(LIBRARY)),
)  # fmt: skip


def _script(r: random.Random) -> list[bytes]:
    return [r.choice(_SHEBANGS) + r.choice(_BODIES)]


_digest = one(
    b"x", b"0" * 40,
    b"4e6d8fc8bb01276962cce5371fa795a7763657ae",  # of the first body
    b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB",
)  # fmt: skip
_of_keys = (word("1", "1", "0", "x", "-1", "2"), maybe(key, chance=0.9))
SCRIPT_COMMANDS: Grammar = {
    "eval": (_script, *_of_keys), "eval_ro": (_script, *_of_keys),
    "evalsha": (_digest, *_of_keys), "evalsha_ro": (_digest, *_of_keys),
    "fcall": (one(b"w", b"R", b"x", b"v"), *_of_keys),
    "fcall_ro": (one(b"W", b"r", b"x", b"q"), *_of_keys),
    "script": (either(
        seq(word("load"), _script), seq(word("exists"), many(_digest)),
        seq(word("flush"), maybe(word("sync", "async", "foo"))), word("kill", "help", "foo"),
        seq(word("debug"), word("no", "x")),
    ),),
    "function": (either(
        *[seq(word("load"), maybe(word("replace", "replace", "x"), chance=0.6),
              one(LIBRARY, LIBRARY, _OTHER, b"x", b"#!lua\n"))] * 3,
        seq(word("delete"), one(b"other", b"nosuch", b"LIB")),
        seq(word("list"), options(word("withcode", "x"), seq(word("libraryname"), one(b"o*")))),
        seq(word("flush"), word("sync", "async", "x", "y", "z")),
        word("kill", "help", "stats", "foo"),
        seq(word("restore"), one(*_PAYLOADS), maybe(word("flush", "append", "replace", "x"))),
        word("dump"),
    ),),
}  # fmt: skip

# --- the server ------------------------------------------------------------------------------

_SETTINGS = (
    b"maxmemory-policy", b"notify-keyspace-events", b"slowlog-max-len", b"tcp-keepalive", b"save",
    b"client-output-buffer-limit", b"repl-backlog-size", b"appendfsync", b"loglevel",
    b"databases", b"min-replicas-max-lag", b"lfu-log-factor", b"tracking-table-max-keys",
    b"maxmemory-samples", b"dir", b"nosuch", b"lua-time-limit",
    b"proto-max-bulk-len", b"lazyfree-lazy-user-del", b"oom-score-adj-values",
    b"stop-writes-on-bgsave-error", b"bind",
)  # fmt: skip
_READABLE = [name for name in _SETTINGS if name not in (b"bind", b"dir")]
_SETTABLE = [
    name
    for name in _SETTINGS
    if name not in (b"bind", b"notify-keyspace-events", b"proto-max-bulk-len")
]
_setting = one(
    b"yes", b"no", b"1", b"0", b"100", b"", b"x", b"allkeys-lru", b"NOEVICTION", b"always",
    b"everysec", b"1mb", b"60 10", b"900 1 300 10", b"normal 9mb 9mb 9", b"pubsub 32mb 8mb 60",
    b"slave 0 0 0 normal 0 0", b"1 2 3", b"0 200 800", b"-1", b"verbose", b"10GB", b"5k", b"60 x",
)  # fmt: skip
_user = one(b"u", b"v", b"default", b"nosuch", b"")
_rule = one(
    b"on", b"off", b"nopass", b"resetpass", b">p", b"<p", b"#" + b"a" * 64, b"!" + b"a" * 64,
    b"~*", b"~a:*", b"%R~b*", b"%W~c*", b"%RW~d*", b"allkeys", b"resetkeys", b"&*", b"&x",
    b"allchannels", b"resetchannels", b"+@all", b"-@all", b"allcommands", b"nocommands",
    b"+get", b"-get", b"+@read", b"-@write", b"+config|get", b"-client|kill", b"+select|0",
    b"reset", b"(+get ~x)", b"(-@all", b"clearselectors", b"x", b"+nosuch", b"+@nosuch", b"#1",
    b"sanitize-payload", b"skip-sanitize-payload", b"~", b"%Z~a",
)  # fmt: skip
_category = one(b"read", b"scripting", b"nosuch", b"FAST", b"dangerous")
_event = one(b"command", b"fork", b"x")

ACL: Draw = either(
    word("whoami", "list", "users", "save", "load", "help", "foo"),
    seq(word("cat"), maybe(_category)),
    seq(word("getuser"), _user),
    seq(word("setuser"), one(b"u", b"v", b"a b"), maybe(many(_rule), chance=0.9)),
    seq(word("deluser"), many(one(b"v", b"nosuch", b"default"))),
    seq(word("genpass"), maybe(one(b"8", b"5", b"0", b"-1", b"x", b"4096", b"5000"))),
    seq(word("dryrun"), _user, either(
        seq(word("get", "set", "foo", "config"), maybe(key)), seq(word("copy"), key, key),
    )),
    seq(word("log"), maybe(either(word("reset", "x"), number))),
)  # fmt: skip
_SECTIONS = (
    "server", "clients", "memory", "persistence", "stats", "replication", "cpu", "commandstats",
    "latencystats", "cluster", "keyspace", "errorstats", "modules", "foo",
)  # fmt: skip
SERVER_COMMANDS: Grammar = {
    "acl": (ACL,),
    "config": (either(
        seq(word("get"), many(one(*_READABLE, b"max*", b"no[p-q]*", b"*limit*"))),
        seq(word("set"), many(one(*_SETTABLE), _setting, most=2)),
        word("rewrite", "resetstat", "help", "foo"),
    ),),
    "info": (maybe(word(*_SECTIONS, "default", "all", "everything"), maybe(word(*_SECTIONS)),
                   chance=0.9),),
    "bgrewriteaof": (), "dbsize": (), "time": (), "lastsave": (), "role": (),
    "flushall": (maybe(word("sync", "async", "foo"), chance=0.5),),
    "flushdb": (maybe(word("sync", "async", "foo"), chance=0.5),),
    "swapdb": (number, number), "lolwut": (maybe(word("version"), number),),
    "failover": (options(seq(word("to"), one(b"h"), number, maybe(word("force"))), word("abort"),
                         seq(word("timeout"), number)),),
    "replicaof": (either(word("no"), one(b"h")), either(word("one"), number)),
    "slaveof": (either(word("no"), one(b"h")), either(word("one"), number)),
    "replconf": (maybe(word("listening-port", "ip-address", "foo"), number, chance=0.9),),
    "debug": (word("sleep", "object", "help", "foo"), maybe(key)),
    "module": (either(word("list", "help", "foo"), seq(word("load", "unload"), one(b"x")),
                      seq(word("loadex"), one(b"x"), options(
                          seq(word("config"), value, value), seq(word("args"), value)))),),
    "slowlog": (either(word("len", "reset", "help", "foo"), seq(word("get"), maybe(number))),),
    "latency": (either(
        word("latest", "doctor", "help", "foo"), seq(word("reset"), maybe(_event)),
        seq(word("history", "graph"), _event), seq(word("histogram"), many(one(b"get", b"x"))),
    ),),
    "memory": (either(
        word("doctor", "purge", "stats", "malloc-stats", "help", "foo"),
        seq(word("usage"), key, options(seq(word("samples", "x"), number))),
    ),),
}  # fmt: skip

_slot = one(b"0", b"1", b"16383", b"16384", b"-1", b"x", b"15891")
_node = one(b"0" * 40, b"x")
CLUSTER_COMMANDS: Grammar = {
    "cluster": (either(
        word("info", "myid", "nodes", "slots", "shards", "links", "saveconfig", "help", "foo"),
        seq(word("keyslot"), key), seq(word("countkeysinslot"), _slot),
        seq(word("getkeysinslot"), _slot, number),
        seq(word("replicas", "slaves", "count-failure-reports", "replicate"), _node),
        seq(word("failover"), maybe(word("force", "takeover", "foo"))),
    ),),
    "readonly": (), "readwrite": (), "asking": (),
}  # fmt: skip

# --- connections -----------------------------------------------------------------------------

TRANSACTION_COMMANDS: Grammar = {
    "multi": (), "exec": (), "discard": (), "watch": (many(key),), "unwatch": (),
}  # fmt: skip
_channel = one(b"c", b"{t}c", b"news.1")
_pattern = one(b"c*", b"*", b"news.?", b"[")
PUBSUB_COMMANDS: Grammar = {
    "publish": (_channel, value), "spublish": (_channel, value),
    "pubsub": (either(
        seq(word("channels", "shardchannels"), maybe(_pattern)), word("numpat", "help", "foo"),
        seq(word("numsub", "shardnumsub"), maybe(many(_channel))),
    ),),
}  # fmt: skip
CONNECTION_COMMANDS: Grammar = {
    "ping": (maybe(value),), "echo": (value,), "select": (number,), "foo": (maybe(value),),
    "hello": (one(b"4", b"x", b"1"), maybe(word("foo", "setname"))),
    "auth": (many(value),),
    "wait": (one(b"0", b"x"), one(b"0", b"-1", b"x")),
    "client": (either(
        word("getname", "id", "info", "trackinginfo", "getredir", "unpause", "help", "foo"),
        seq(word("setname"), one(b"me", b"", b"a b")),
        seq(word("list"), options(
            seq(word("type"), word("normal", "master", "replica", "pubsub", "slave", "x")),
            seq(word("id"), many(one(b"0", b"x", b"-1"))), chance=0.8)),
        seq(word("no-evict"), word("on", "off", "x")),
        seq(word("caching"), word("yes", "no", "x")),
        seq(word("unblock"), one(b"0", b"-1", b"x"), maybe(word("timeout", "error", "x"))),
        seq(word("pause"), one(b"0", b"-1", b"x"), maybe(word("write", "all", "x"))),
    ),),
}  # fmt: skip

COMMANDS: Grammar = {
    **SCRIPT_COMMANDS,
    **SERVER_COMMANDS,
    **CLUSTER_COMMANDS,
    **TRANSACTION_COMMANDS,
    **PUBSUB_COMMANDS,
    **CONNECTION_COMMANDS,
}
