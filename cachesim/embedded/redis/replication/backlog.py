"""The replication stream and its backlog: all changes of the data, as requests in their order.

A primary appends to the stream; a replica copies it byte by byte. Offsets count the stream's bytes,
as in Redis.
"""

import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from cachesim.protocols.resp import request

NO_ID = "0" * 40
_PIECE = 64 * 1024  # the fewest bytes of a piece of the backlog
_LARGE = 256 * 1024  # arguments with more bytes are not copied
_MOST = 2 << 20  # bytes that are joined to one piece for the sinks

Sink = Callable[[bytes], None]


def new_id() -> str:
    """Return a new id of a history, 40 hex digits."""
    return secrets.token_hex(20)


def first_id(nodes: Iterable[str]) -> str:
    """Return the id of the history that all nodes of a new cluster start with, given their ids."""
    return hashlib.sha1(" ".join(sorted(nodes)).encode(), usedforsecurity=False).hexdigest()


class Stream:
    """A history of changes. The last part is kept as the backlog, for partial resyncs.

    Attributes:
        id: the id of the history (`master_replid`).
        offset: the bytes since the history's beginning.
        former_id: the id of the history that this one continues (`master_replid2`).
        former_end: the first offset that the two do not share; -1: there is no former history.
        sinks: called with the appended data when it is flushed.
        is_active: whether a backlog is kept.
        wants_flush: called when there is data to flush.
    """

    def __init__(self, backlog_size: int) -> None:
        self.id = new_id()
        self.offset = 0
        self.former_id = NO_ID
        self.former_end = -1
        self.sinks: list[Sink] = []
        self.is_active = False
        self._backlog_size = backlog_size
        # Complete pieces, and the last piece, which grows.
        self._backlog: deque[bytes] = deque()
        self._tail = bytearray()
        self._kept = 0
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._is_selected = False
        self.wants_flush: Callable[[], None] | None = None

    # --- appending --------------------------------------------------------------------------

    def append_requests(self, requests: Iterable[Sequence[bytes]]) -> None:
        """Append changes of this node."""
        pending = self._pending
        if not pending and self.wants_flush is not None:
            self.wants_flush()
        if not self._is_selected:
            self._is_selected = True
            self._add(request([b"SELECT", b"0"]))
        for arguments in requests:
            if len(arguments[-1]) > _LARGE:
                start = request(arguments[:-1]).partition(b"\n")[2]
                last = arguments[-1]
                self._add(b"*%d\r\n%b$%d\r\n" % (len(arguments), start, len(last)))
                self._add(last)
                self._add(b"\r\n")
            else:
                self._add(request(arguments))

    def append(self, data: bytes) -> None:
        """Append data that the primary has sent."""
        if not self._pending and self.wants_flush is not None:
            self.wants_flush()
        self._add(data)

    def _add(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        self.offset += len(data)

    def flush(self) -> None:
        """Pass the appended data to the backlog and the sinks."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        size, self._pending_size = self._pending_size, 0
        for data in [b"".join(pending)] if size <= _MOST else _joined(pending):
            if self.is_active:
                self._keep(data)
            for sink in self.sinks:
                sink(data)

    def _keep(self, data: bytes) -> None:
        self._kept += len(data)
        if len(data) < _PIECE:
            self._tail += data
            if len(self._tail) < _PIECE:
                return
            data = b""
        self._backlog += filter(None, (bytes(self._tail), data))
        self._tail.clear()
        self._cut()

    def _cut(self) -> None:
        """Drop the oldest pieces that the backlog does not need."""
        backlog = self._backlog
        while backlog and self._kept - len(backlog[0]) >= self._backlog_size:
            self._kept -= len(backlog.popleft())

    def select_again(self) -> None:
        """Append a SELECT before the next change, as a replica begins here."""
        self._is_selected = False

    # --- partial resync -----------------------------------------------------------------------

    def activate(self) -> None:
        """Keep a backlog from now on."""
        if not self.is_active:
            self.flush()
            self.is_active = True

    def resize(self, backlog_size: int) -> None:
        """Set the size of the backlog, in bytes."""
        self._backlog_size = backlog_size
        self._cut()

    @property
    def first_offset(self) -> int:
        """The offset at which the backlog begins."""
        return self.offset - self._pending_size - self._kept

    @property
    def backlog_length(self) -> int:
        """The bytes in the backlog."""
        return self._kept

    def since(self, id_: str, offset: int) -> bytes | None:
        """Return the data after an offset; None if the backlog does not have it.

        Args:
            id_: the id of the replica's history.
            offset: the last offset that the replica has.
        """
        self.flush()
        known = id_ == self.id or (id_ == self.former_id and offset < self.former_end)
        if not known or not self.is_active or not self.first_offset <= offset <= self.offset:
            return None
        missing = self.offset - offset
        pieces = [bytes(self._tail)]
        missing -= len(self._tail)
        for piece in reversed(self._backlog):
            if missing <= 0:
                break
            pieces.append(piece)
            missing -= len(piece)
        pieces[-1] = pieces[-1][max(0, -missing) :]
        return b"".join(reversed(pieces))

    # --- histories ----------------------------------------------------------------------------

    def branch(self) -> None:
        """Begin a new history that continues the present one, as a new primary does."""
        self.flush()
        self.former_id, self.former_end = self.id, self.offset + 1
        self.id = new_id()
        self._is_selected = False

    def forget_former(self) -> None:
        """Forget the former history."""
        self.former_id, self.former_end = NO_ID, -1

    def adopt(self, id_: str) -> None:
        """Continue the present history as the primary's history."""
        if id_ != self.id:
            self.former_id, self.former_end = self.id, self.offset + 1
            self.id = id_

    def restart(self, id_: str, offset: int) -> None:
        """Switch to another history, at an offset, with an empty backlog."""
        self.flush()
        self.id, self.offset = id_, offset
        self.forget_former()
        self._backlog.clear()
        self._tail.clear()
        self._kept = 0
        self.is_active = True


def _joined(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield the same data in fewer, larger pieces."""
    begin = size = 0
    for at, piece in enumerate(pieces):
        size += len(piece)
        if size > _MOST:
            yield from filter(None, (b"".join(pieces[begin:at]), piece))
            begin, size = at + 1, 0
    if begin < len(pieces):
        yield b"".join(pieces[begin:])
