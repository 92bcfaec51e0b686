"""The keys of a node, and fakeredis's commands on them.

fakeredis stores the values of all types but strings and hashes, and runs most commands on lists,
sets, sorted sets, streams, bitmaps and geo data. cachesim implements all the rest: connections,
transactions, blocking, expiry, pub/sub, scripts, replication. So fakeredis has no connections here,
only one socket object that is never connected, and its commands are called directly.

This module uses internals of fakeredis 2.40, so pyproject.toml allows a narrow range of versions.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from fakeredis import FakeServer
from fakeredis import _msgs as messages
from fakeredis._commands import SUPPORTED_COMMANDS, Signature
from fakeredis._core import Database
from fakeredis._helpers import NoResponse, SimpleError, SimpleString
from fakeredis._socket import FakeSocket
from fakeredis.model import ExpiringMembersSet, XStream, ZSet

from cachesim.embedded.redis.keyspace.field_expiry import FieldExpiry
from cachesim.embedded.redis.keyspace.values import WRONG_TYPE, Hash
from cachesim.protocols.resp import Error, Reply

_VERSION = (7, 0)


class Item:
    """A value with its expiry, read at one moment.

    Attributes:
        expireat: seconds since the epoch; None for never.
    """

    __slots__ = ("expireat", "value")

    def __init__(self, value: Any, expireat: float | None) -> None:
        self.value = value
        self.expireat = expireat


class _Place:
    """A key for fakeredis, which sets the key's value and expiry through it."""

    __slots__ = ("_database", "_key")

    def __init__(self, database: "_Database", key: bytes) -> None:
        self._database = database
        self._key = key

    def _put(self, value: Any) -> None:
        self._database._dict[self._key] = value

    def _set_expiry(self, expires: float | None) -> None:
        self._database.set_expiry(self._key, expires)

    value = property(fset=_put)
    expireat = property(fset=_set_expiry)


class _Database(Database):
    """fakeredis's database. It reports changed keys, and does not remove expired keys itself.

    Expired keys are hidden until `Keyspace` deletes them, which it does only on a primary.

    Values and expiries are in separate dicts, without an object for each key. Python's garbage
    collector does not track dicts of bytes; otherwise it would sometimes go through all keys
    (0.1 s for 100,000 keys).

    Args:
        note: called with each key that has changed.
    """

    def __init__(self, note: Callable[[bytes], None]) -> None:
        super().__init__(None)
        self._note = note
        self.expiries: dict[bytes, float] = {}

    def notify_watch(self, key: bytes) -> None:
        self._note(key)

    def get(self, key: bytes, default: Any = None) -> Any:
        value = self._dict.get(key)
        if value is None:
            return default
        expires = self.expiries.get(key)
        if expires is not None and expires < self.time:
            return default
        return Item(value, expires)

    def set_expiry(self, key: bytes, expires: float | None) -> None:
        if expires is None:
            self.expiries.pop(key, None)
        else:
            self.expiries[key] = expires

    def schedule_expiry(self, key: bytes, expireat: float | None) -> None:
        if expireat is None:
            return
        heap = self._expiry_heap
        if len(heap) > 2 * len(self._dict) + 64:  # most entries are stale
            heap[:] = [(at, key) for key, at in self.expiries.items()]
            heapq.heapify(heap)
        heapq.heappush(heap, (expireat, key))

    def setdefault(self, key: bytes, default: Any = None) -> Any:  # noqa: ARG002
        return _Place(self, key)

    def __getitem__(self, key: bytes) -> Any:
        item = self.get(key)
        if item is None:
            raise KeyError(key)
        return item

    def __delitem__(self, key: bytes) -> None:
        del self._dict[key]
        self.expiries.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return self.get(cast(bytes, key)) is not None

    def __iter__(self) -> Iterator[bytes]:
        now, expiry = self.time, self.expiries.get
        return (k for k in self._dict if (at := expiry(k)) is None or at >= now)

    def __len__(self) -> int:
        return len(self._dict)


class Keyspace:
    """Keys with their values and expiries.

    Attributes:
        now: the time that commands see, in seconds since the epoch. With 0 nothing expires.
        values: the values of all keys, including hidden ones. Strings are `bytes`.
        expiries: the times at which keys expire, in seconds since the epoch.
        dirty: the keys that have changed since `dirty` was last emptied, in order.
        scanned: all keys in the order of SCAN, as of the start of a scan; None if there is no scan.
        fields: the fields of hashes that expire.
        get: returns the `Item` of a key, or None if the key is missing or has expired.
    """

    def __init__(self) -> None:
        self.dirty: list[bytes] = []
        self._database = _Database(self.dirty.append)
        self._server = FakeServer(version=_VERSION, server_type="redis")
        self._server.dbs[0] = self._database
        self._socket = FakeSocket(self._server, 0, client_class=object)
        self._runs: dict[str, tuple[Signature, Callable[..., Any]]] = {}
        self.scanned: list[tuple[int, bytes]] | None = None
        self.fields = FieldExpiry()
        self.values: dict[bytes, Any] = self._database._dict
        self.expiries = self._database.expiries
        self.get: Callable[[bytes], Item | None] = self._database.get

    @property
    def now(self) -> float:
        """The time that commands see, in seconds since the epoch."""
        return self._database.time

    @now.setter
    def now(self, seconds: float) -> None:
        self._database.time = seconds

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._database)

    # --- keys ---------------------------------------------------------------------------------

    def value(self, key: bytes, kind: type) -> Any:
        """Return the value of a key, or None if it is missing.

        Raises:
            Error: the value has another type.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if self.expiries:
            expires = self.expiries.get(key)
            if expires is not None and expires < self._database.time:
                return None
        if type(value) is not kind:
            raise Error(WRONG_TYPE)
        return value

    def put(self, key: bytes, value: object, expires: float | None = None) -> None:
        """Set a key, or replace its value and expiry.

        Args:
            expires: seconds since the epoch; None for never.
        """
        self.values[key] = value
        if expires is not None:
            self.expiries[key] = expires
            self._database.schedule_expiry(key, expires)
        elif self.expiries:
            self.expiries.pop(key, None)
        self.dirty.append(key)

    def remove(self, key: bytes) -> bool:
        """Delete a key. Return whether it existed."""
        if self.values.pop(key, None) is None:
            return False
        self.dirty.append(key)
        expires = self._database.expiries.pop(key, None)
        return expires is None or expires >= self.now

    def set_expiry(self, key: bytes, expires: float | None) -> None:
        """Set the expiry of an existing key, in seconds since the epoch; None for never."""
        self._database.set_expiry(key, expires)
        self._database.schedule_expiry(key, expires)
        self.dirty.append(key)

    def clear(self) -> tuple[dict[bytes, Any], dict[bytes, float], list[Any]]:
        """Delete all keys. `dirty` is empty afterwards.

        Returns:
            The former data: the values, their expiries and the heap of expiries. Freeing it may
            take long; see `discard`.
        """
        database = self._database
        gone = self.values, self.expiries, database._expiry_heap
        self.values = database._dict = {}
        self.expiries = database.expiries = {}
        database._expiry_heap = []
        self.fields.clear()
        self.dirty.clear()
        return gone

    def delete_expired(self, most: int) -> list[bytes]:
        """Delete expired keys, looking at `most` expiries. Return the deleted keys."""
        database, now = self._database, self.now
        heap = database._expiry_heap
        gone: list[bytes] = []
        for _ in range(most):
            if not heap or heap[0][0] >= now:
                break
            at, key = heapq.heappop(heap)
            if database.expiries.get(key) == at:
                del database[key]
                gone.append(key)
        return gone

    @property
    def has_expired(self) -> bool:
        """Whether there may be expired keys."""
        database = self._database
        heap = database._expiry_heap
        return bool(heap) and heap[0][0] < database.time

    def delete_expired_among(self, keys: Iterable[bytes]) -> list[bytes]:
        """Delete those of the given keys that have expired. Return the deleted keys."""
        database, now = self._database, self.now
        gone = []
        for key in keys:
            expires = database.expiries.get(key)
            if expires is not None and expires < now:
                del database[key]
                gone.append(key)
        return gone

    def is_expired(self, key: bytes) -> bool:
        """Return whether a key has expired, but is still there."""
        expires = self.expiries.get(key)
        return expires is not None and expires < self.now

    @property
    def volatile(self) -> int:
        """The number of keys with an expiry."""
        return len(self.expiries)

    @staticmethod
    def type_name(value: object) -> str:
        """Return the type of a value, as `TYPE` returns it."""
        return _TYPE_NAMES.get(type(value), "none")

    # --- fakeredis's commands -----------------------------------------------------------------

    def run(self, name: str, arguments: list[bytes], resp: int) -> Reply:
        """Run one of fakeredis's commands.

        Args:
            name: the name in lower case, with both words of a subcommand.
            arguments: the arguments without the name.
            resp: the version of the protocol, as the form of some replies depends on it.

        Raises:
            Error: the error reply.
        """
        bound = self._runs.get(name)
        if bound is None:
            signature = SUPPORTED_COMMANDS[name]
            bound = self._runs[name] = signature, getattr(self._socket, signature.func_name)
        signature, function = bound
        self._socket._client_info["resp"] = resp
        dirty, values = self.dirty, self.values
        begun, count = len(dirty), len(values)
        items: list[Any] = []
        failure: SimpleError | None = None
        result: Any = None
        try:
            applied = signature.apply(arguments, self._database, _VERSION)
            if len(applied) == 1:
                result = applied[0]
            else:
                decoded, items = applied
                result = function(*decoded)
        except SimpleError as error:
            failure = error
        for item in items:
            item.writeback(remove_empty_val=messages.FLAG_LEAVE_EMPTY_VAL not in signature.flags)
        changed = dirty[begun:]
        if changed and len(values) == count and not any(key in values for key in changed):
            del dirty[begun:]  # a missing key was replaced by nothing
        if failure is not None:
            raise _error(failure.value)
        return _reply(result)

    def refusal(self, name: str, arguments: list[bytes], resp: int) -> Error | None:
        """Return the error that a command would raise on an empty keyspace, or None."""
        database = self._database
        values, expiries = database._dict, database.expiries
        database._dict, database.expiries = {}, {}
        try:
            self.run(name, arguments, resp)
        except Error as error:
            return error
        finally:
            database._dict, database.expiries = values, expiries
            self.dirty.clear()
        return None


def _error(text: str) -> Error:
    """Return an error with Redis's text."""
    if text.partition(" ")[0] not in _CODES:
        text = f"ERR {text}"
    return Error(text)


_CODES = {
    "ERR", "WRONGTYPE", "NOGROUP", "BUSYGROUP", "BUSYKEY", "NOSCRIPT", "NOTBUSY", "EXECABORT"
}  # fmt: skip


def _reply(value: Any) -> Reply:
    kind = type(value)
    if kind is bytes or kind is int or value is None or kind is float or kind is bool:
        return cast(Reply, value)
    if kind is list or kind is tuple:
        return [_reply(item) for item in value]
    if isinstance(value, SimpleString):
        return value.value.decode("utf-8", "surrogateescape")
    if isinstance(value, SimpleError):
        return _error(value.value)
    if isinstance(value, dict):
        return {_reply(key): _reply(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, set | frozenset):
        return [_reply(item) for item in value]
    if isinstance(value, NoResponse):
        return []
    raise Error(f"ERR internal error: {kind.__name__} is no reply")


_TYPE_NAMES: dict[type, str] = {
    bytes: "string",
    list: "list",
    Hash: "hash",
    ExpiringMembersSet: "set",
    ZSet: "zset",
    XStream: "stream",
}
