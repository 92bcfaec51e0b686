"""The replication stream: what has changed the data, as requests in the order of the changes.

A primary appends to it, a replica repeats it byte by byte. Offsets count its bytes, as in Redis.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence

from cachesim.protocols.resp import request

NO_ID = "0" * 40
_SLACK = 1 << 20  # bytes that the backlog may be too long before it is cut

Sink = Callable[[bytes], None]


def new_id() -> str:
    """An id for a history of changes."""
    return secrets.token_hex(20)


class Stream:
    """A history of changes, its end kept so that others can go on from where they were.

    Attributes:
        id: of the history.
        offset: bytes since its beginning.
        former_id: of the history that this one goes on from.
        former_end: the first offset that the two do not share; -1 if there is no former one.
        sinks: what is appended goes there too, when it is flushed.
    """

    def __init__(self, backlog_size: int) -> None:
        self.id = new_id()
        self.offset = 0
        self.former_id = NO_ID
        self.former_end = -1
        self.sinks: list[Sink] = []
        self.is_active = False
        self._backlog_size = backlog_size
        self._backlog = bytearray()
        self._pending: list[bytes] = []
        self._is_selected = False
        self.wants_flush: Callable[[], None] | None = None

    # --- appending --------------------------------------------------------------------------

    def append_requests(self, requests: Iterable[Sequence[bytes]]) -> None:
        """Append changes."""
        pending = self._pending
        if not pending and self.wants_flush is not None:
            self.wants_flush()
        if not self._is_selected:
            self._is_selected = True
            self._add(request([b"SELECT", b"0"]))
        for arguments in requests:
            self._add(request(arguments))

    def append(self, data: bytes) -> None:
        """Append what a primary has sent."""
        if not self._pending and self.wants_flush is not None:
            self.wants_flush()
        self._add(data)

    def _add(self, data: bytes) -> None:
        self._pending.append(data)
        self.offset += len(data)

    def flush(self) -> None:
        """Hand on what was appended."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        if self.is_active:
            backlog = self._backlog
            backlog += data
            if len(backlog) > self._backlog_size + _SLACK:
                del backlog[: len(backlog) - self._backlog_size]
        for sink in self.sinks:
            sink(data)

    def select_again(self) -> None:
        """Begin with a SELECT: somebody who knows nothing is going to follow."""
        self._is_selected = False

    # --- going on ---------------------------------------------------------------------------

    def activate(self) -> None:
        """Keep a backlog from now on."""
        if not self.is_active:
            self.flush()
            self.is_active = True

    def resize(self, backlog_size: int) -> None:
        """Keep another amount."""
        self._backlog_size = backlog_size
        del self._backlog[: max(0, len(self._backlog) - backlog_size)]

    @property
    def first_offset(self) -> int:
        """The offset after which everything is still there; `offset` with nothing there."""
        return self.offset - sum(map(len, self._pending)) - len(self._backlog)

    @property
    def backlog_length(self) -> int:
        """Bytes in the backlog."""
        return len(self._backlog)

    def since(self, id_: str, offset: int) -> bytes | None:
        """What follows an offset of a history; None if that is another one, or not known any more.

        Args:
            offset: the last one that is known already.
        """
        self.flush()
        known = id_ == self.id or (id_ == self.former_id and offset < self.former_end)
        if not known or not self.is_active or not self.first_offset <= offset <= self.offset:
            return None
        return bytes(self._backlog[offset - self.first_offset :])

    # --- new histories ----------------------------------------------------------------------

    def branch(self) -> None:
        """Begin a history of one's own that goes on from the present one."""
        self.flush()
        self.former_id, self.former_end = self.id, self.offset + 1
        self.id = new_id()
        self._is_selected = False

    def forget_former(self) -> None:
        """Go on from no other history."""
        self.former_id, self.former_end = NO_ID, -1

    def adopt(self, id_: str) -> None:
        """Go on in the history of another that was found to share one's own."""
        if id_ != self.id:
            self.former_id, self.former_end = self.id, self.offset + 1
            self.id = id_

    def restart(self, id_: str, offset: int) -> None:
        """Be at an offset of another history, of which nothing is known."""
        self.flush()
        self.id, self.offset = id_, offset
        self.forget_former()
        self._backlog.clear()
        self.is_active = True
