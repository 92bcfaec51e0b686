"""All data of a node, written as the requests that recreate it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cachesim.embedded.redis.keyspace.recreate import recreate
from cachesim.protocols.resp import request

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Keyspace

_PIECE = 64 * 1024  # bytes
_FEW = 100  # changed keys that `finish` writes at once
_ROUNDS = 12


class Snapshot:
    """The data as of the call of `finish`. Most of it is written before, little by little.

    Keys that change after being written are written again, in ever shorter rounds.

    Args:
        function_requests: returns the encoded requests that load the functions.
        write: called repeatedly with encoded requests.
    """

    def __init__(
        self,
        store: "Keyspace",
        function_requests: Callable[[], Iterable[bytes]],
        write: Callable[[bytes], object],
    ) -> None:
        self._store = store
        self._function_requests = function_requests
        self._write = write
        self._changed: dict[bytes, None] = {}
        self._is_flushed = False
        self._pieces: list[bytes] = []
        self._size = 0

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note that keys have changed."""
        self._changed.update(dict.fromkeys(keys))

    def flushed(self) -> None:
        """Note that all keys were deleted."""
        self._changed.clear()
        self._is_flushed = True

    def steps(self) -> Iterator[None]:
        """Write the data little by little, until few changed keys are left."""
        keys = list(self._store.values)
        for _ in range(_ROUNDS):
            for key in keys:
                yield from self._write_key(key)
                if self._is_flushed:
                    break
            self._forget_if_flushed()
            keys = list(self._changed)
            if len(keys) <= _FEW:
                return

    def finish(self) -> None:
        """Write the rest at once."""
        self._forget_if_flushed()
        for key in list(self._changed):
            for _ in self._write_key(key):
                pass
        for piece in self._function_requests():
            self._put(piece)
        self._flush()

    def _forget_if_flushed(self) -> None:
        if self._is_flushed:
            self._is_flushed = False
            self._put(request([b"FLUSHALL"]))

    def _write_key(self, key: bytes) -> Iterator[None]:
        again = key in self._changed
        self._changed.pop(key, None)
        value, moment = self._store.values.get(key), self._store.expiries.get(key)
        if value is None or (again and type(value) is not bytes):
            self._put(request([b"DEL", key]))
        if value is None:
            return
        expires = None if moment is None else b"%d" % milliseconds(moment)
        if type(value) is bytes:
            words: Sequence[bytes] = [b"SET", key, value]
            self._put(request([*words, b"PXAT", expires] if expires is not None else words))
            yield
            return
        try:
            for words in recreate(key, value, self._store.type_name(value)):
                self._put(request(words))
                yield
        except RuntimeError:  # the value has changed meanwhile, so it will be written again
            return
        if expires is not None:
            self._put(request([b"PEXPIREAT", key, expires]))

    def _put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces.clear()
            self._size = 0


def milliseconds(moment: float) -> int:
    """Convert a moment in seconds to whole milliseconds."""
    return round(moment * 1000)
