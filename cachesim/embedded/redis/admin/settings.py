"""The settings of CONFIG: Redis 7.0's names, defaults and allowed values."""

from collections.abc import Callable, Mapping, Sequence

from cachesim.embedded.redis.admin.composed import buffer_limits, memory, oom_scores, save_points
from cachesim.embedded.redis.connections.notifications import classes_of, shown
from cachesim.embedded.redis.dispatch.command_table import data
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.embedded.redis.keyspace.values import HIGHEST
from cachesim.protocols.resp import Error

_MEMORY = {
    "maxmemory", "repl-backlog-size", "proto-max-bulk-len", "client-query-buffer-limit",
    "auto-aof-rewrite-min-size", "maxmemory-clients", "active-defrag-ignore-bytes",
    "cluster-link-sendbuf-limit", "hll-sparse-max-bytes", "stream-node-max-bytes",
    "hash-max-listpack-value", "hash-max-ziplist-value", "zset-max-listpack-value",
    "zset-max-ziplist-value",
}  # fmt: skip
_CHOICES = {
    "appendfsync": ("everysec", "always", "no"),
    "maxmemory-policy": (
        "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru",
        "allkeys-lfu", "allkeys-random", "noeviction",
    ),
    "loglevel": ("debug", "verbose", "notice", "warning"),
    "cluster-preferred-endpoint-type": ("ip", "hostname", "unknown-endpoint"),
    "acl-pubsub-default": ("allchannels", "resetchannels"),
    "oom-score-adj": ("no", "yes", "relative", "absolute"),
    "propagation-error-behavior": ("ignore", "panic", "panic-on-replicas"),
    "repl-diskless-load": ("disabled", "on-empty-db", "swapdb"),
    "sanitize-dump-payload": ("no", "yes", "clients"),
}  # fmt: skip
_IMMUTABLE = {
    "aclfile", "always-show-logo", "appenddirname", "appendfilename", "cluster-enabled",
    "cluster-config-file", "daemonize", "databases", "enable-debug-command",
    "enable-module-command", "enable-protected-configs", "io-threads", "io-threads-do-reads",
    "logfile", "pidfile", "rdbchecksum", "supervised", "syslog-enabled", "syslog-facility",
    "syslog-ident", "tcp-backlog", "unixsocket", "unixsocketperm", "disable-thp",
    "set-proc-title", "cluster-port", "socket-mark-id", "aof_rewrite_cpulist", "bgsave_cpulist",
    "bio_cpulist", "server_cpulist", "replicaof", "slaveof",
}  # fmt: skip
_ALIASES = {
    name: name.replace("replica", "slave").replace("listpack", "ziplist")
    for name in (
        "min-replicas-max-lag", "min-replicas-to-write", "repl-ping-replica-period",
        "replica-announce-ip", "replica-announce-port", "replica-ignore-maxmemory",
        "replica-lazy-flush", "replica-priority", "replica-read-only",
        "replica-serve-stale-data", "cluster-replica-no-failover",
        "cluster-replica-validity-factor", "hash-max-listpack-entries",
        "hash-max-listpack-value", "list-max-listpack-size", "zset-max-listpack-entries",
        "zset-max-listpack-value",
    )
}  # fmt: skip
_PROTECTED = {"dbfilename", "dir"}
_EVENTS = "notify-keyspace-events"
_TEXT = {"replicaof", "save", "client-output-buffer-limit", _EVENTS}
_COMPOSED: Mapping[str, Callable[[str, str], str]] = {
    "save": lambda value, _present: save_points(value),
    "client-output-buffer-limit": buffer_limits,
    "oom-score-adj-values": lambda value, _present: oom_scores(value),
}
"""How values of several words are read, given those so far."""
_LEAST = {"repl-backlog-size": 16384}
"""Sizes that smaller ones are raised to."""
_LIMITS = 0, 2**31 - 1
"""The limits of the numbers that `config_limits.json` leaves out."""


def _failed(name: str, reason: str) -> Error:
    return Error(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")


class Settings:
    """The settings of a node by name. Values are text, as in `CONFIG GET`.

    Args:
        given: values that replace defaults.
        changed: called with the names of settings that CONFIG SET has changed.
    """

    def __init__(
        self, given: Mapping[str, str], changed: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self._values: dict[str, str] = dict(data("config.json"))
        self._defaults = dict(self._values)
        limits = data("config_limits.json")
        self._limits = {name: (lowest, highest) for name, lowest, highest in limits}
        self._changed = changed or (lambda _names: None)
        for name, value in given.items():
            self._assign(name, value)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    @property
    def zone(self) -> str:
        """The zone that clients are told; empty: none, as Redis has no such setting."""
        return self._values.get("availability-zone", "")

    def number(self, name: str) -> int:
        """Return a setting that is a number."""
        return int(self._values[name])

    def get(self, patterns: Sequence[bytes]) -> dict[str, str]:
        """Return the settings whose names match one of the patterns."""
        matchers = [matcher(pattern.lower()) for pattern in patterns]
        return {
            name: shown(value) if name == _EVENTS else value
            for name, value in self._values.items()
            if any(matches(name.encode()) for matches in matchers)
        }

    def set(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Change all given settings; on an error, none of them.

        Raises:
            Error: a name or value is wrong.
        """
        given = [
            (
                raw_name.decode("utf-8", "surrogateescape"),
                raw_value.decode("utf-8", "surrogateescape"),
            )
            for raw_name, raw_value in pairs
        ]
        wanted: dict[str, str] = {}
        for written, value in given:
            name = written.lower()
            if name not in self._values:
                unknown = "ERR Unknown option or number of arguments for CONFIG SET"
                raise Error(f"{unknown} - '{written}'")
            if name in _IMMUTABLE:
                raise _failed(written, "can't set immutable config")
            if name in _PROTECTED:
                raise _failed(written, "can't set protected config")
            if name in wanted:
                raise _failed(written, "duplicate parameter")
            wanted[name] = value
        for written, value in given:
            reason = self._refusal(written.lower(), value)
            if reason is not None:
                raise _failed(written, reason)
        for name, value in wanted.items():
            self._assign(name, value)
        self._changed(list(wanted))

    def _assign(self, name: str, value: str) -> None:
        if name in _MEMORY and (size := memory(value)) is not None:
            value = str(max(size, _LEAST.get(name, 0)))
        elif name == _EVENTS:
            value = classes_of(value) or ""
        elif name in _COMPOSED:
            value = _COMPOSED[name](value, self._values[name])
        elif name in _CHOICES or self._defaults.get(name) in ("yes", "no"):
            value = value.lower()
        self._values[name] = value
        for one, other in _ALIASES.items():
            if name in (one, other):
                self._values[one] = self._values[other] = value

    def _refusal(self, name: str, value: str) -> str | None:
        default = self._defaults.get(name, "")
        if name in _MEMORY:
            size = memory(value)
            return "argument must be a memory value" if size is None else self._beyond(name, size)
        if name == _EVENTS and classes_of(value) is None:
            return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."
        if name in _COMPOSED:
            try:
                _COMPOSED[name](value, self._values[name])
            except ValueError as error:
                return str(error)
        if name in _CHOICES:
            if value.lower() in _CHOICES[name]:
                return None
            return f"argument(s) must be one of the following: {', '.join(_CHOICES[name])}"
        if default in ("yes", "no"):
            return None if value.lower() in ("yes", "no") else "argument must be 'yes' or 'no'"
        if default.lstrip("-").isdigit() and name not in _TEXT:
            if not value.lstrip("-").isdigit():
                return "argument couldn't be parsed into an integer"
            return self._beyond(name, int(value))
        return None

    def _beyond(self, name: str, number: int) -> str | None:
        lowest, highest = self._limits.get(name, _LIMITS)
        if name in _MEMORY and name not in self._limits:
            highest = HIGHEST
        if lowest <= number <= highest:
            return None
        return f"argument must be between {lowest} and {highest} inclusive"
