"""The append-only file: the replication stream on disk.

Nothing is really fsynced, as nobody needs the data after the run, and an fsync would block the
loop. A killed node loses nothing that it has written, as the system keeps it. After a power loss
the file is truncated to an earlier size before the node starts; see `cachesim.faults.appliers`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from cachesim.aio.scheduler import Scheduler
from cachesim.protocols.resp_parser import Limits, RequestParser

_PIECE = 64 * 1024
_LARGE = 1 << 20  # the most bytes that are written at once
_DRAFT = ".draft"
_LIMITS = Limits(bulk=512 * 1024 * 1024, query=1 << 40)


class Draft:
    """A file that replaces another one when all of it is written.

    Attributes:
        path: its path until it replaces the other file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")

    def write(self, data: bytes) -> None:
        """Append data."""
        self._file.write(data)

    def end(self) -> None:
        """Close the complete file."""
        self._file.close()

    def discard(self) -> None:
        """Close and delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class AppendOnlyFile:
    """The append-only file of a node.

    Args:
        scheduler: used to write large pieces.

    Attributes:
        size: its size in bytes, including data that is not written yet.
        base_size: its size in bytes after the last rewrite.
        loaded: the bytes that `load` has read so far.
        is_full: whether the disk takes nothing more.
        has_failed: whether the last write failed. What was to be written then is kept, and lost
            with the process.
        on_change: called when `has_failed` has changed.
        on_panic: ends the process, as a replica does whose writes fail.
    """

    def __init__(self, path: Path, log: Callable[..., None], scheduler: Scheduler) -> None:
        self._path = path
        self._log = log
        self._scheduler = scheduler
        self._unwritten: deque[memoryview] = deque()
        self._drafts = 0
        for left in path.parent.glob(f"{path.stem}{_DRAFT}*"):  # left by a killed process
            left.unlink()
        self.size = path.stat().st_size if path.exists() else 0
        self.base_size = self.size
        self.loaded = 0
        self.is_full = self.has_failed = False
        self.on_change: Callable[[], None] = lambda: None
        self.on_panic: Callable[[], None] = lambda: None
        self._kept: list[bytes] = []
        self._file: int | None = None

    def load(self) -> Iterator[list[bytes]]:
        """Yield the requests of the file. Cut off an incomplete last request or transaction."""
        if not self._path.exists():
            return
        valid = at = 0
        transaction: list[list[bytes]] | None = None
        for arguments in requests_in(self._path):
            at += _length(arguments)
            self.loaded = at
            name = arguments[0].upper()
            if name == b"MULTI":
                transaction = []
            elif name == b"EXEC":
                yield from transaction or ()
                transaction = None
            elif transaction is not None:
                transaction.append(arguments)
            elif name != b"REPLCONF":  # a primary asked its replicas for their offsets
                yield arguments
            if transaction is None:
                valid = at
        if valid < self.size:
            self._log("!!! Warning: short read while loading the AOF file !!!", "#")
            self._log(f"!!! Truncating the AOF at offset {valid} !!!", "#")
            self._log("AOF loaded anyway because aof-load-truncated is enabled", "#")
            os.truncate(self._path, valid)
            self.size = valid
        self.base_size = self.size

    def append(self, data: bytes) -> None:
        """Append data of the stream."""
        if self.is_full or self.has_failed:
            self._fail(data)
            return
        self.size += len(data)
        if self._unwritten or len(data) > _LARGE:
            if not self._unwritten:
                self._scheduler.run(self._write_rest(), lambda: None)
            self._unwritten.append(memoryview(data))
        else:
            self._write(data)

    def _fail(self, data: bytes, why: str = "No space left on device") -> None:
        self._kept.append(data)
        if not self.has_failed:
            self.has_failed = True
            self._log(f"Error writing to the AOF file: {why}", "#")
            self.on_change()

    def fill_disk(self, *, is_full: bool) -> None:
        """Let the disk take nothing more, or all again, what was kept first."""
        self.is_full = is_full
        self.retry()

    def retry(self) -> None:
        """Write what was kept, if the disk takes it now."""
        if self.is_full or self._unwritten or not self.has_failed:
            return
        data, self._kept = b"".join(self._kept), []
        self.size += len(data)
        self._write(data)
        if not self._kept:
            self.has_failed = False
            self._log("AOF write error looks solved. The server can write again.", "#")
            self.on_change()

    def _write(self, data: bytes | memoryview) -> None:
        written = 0
        try:
            if self._file is None:
                # `os.open`, as even an unbuffered file object makes each write slower.
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
                self._file = os.open(self._path, flags, 0o600)
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:  # this machine's own disk is full, say
            left = b"".join([data[written:], *self._unwritten])
            self._unwritten.clear()
            self.size -= len(left)
            self._fail(left, error.strerror or str(error))

    def _write_rest(self) -> Iterator[None]:
        while self._unwritten:
            data = self._unwritten.popleft()
            if len(data) > _LARGE:
                self._unwritten.appendleft(data[_LARGE:])
            self._write(data[:_LARGE])
            yield

    def draft(self) -> Draft:
        """Create a draft that may replace the file later."""
        self._drafts += 1
        return Draft(self._path.with_suffix(f"{_DRAFT}{self._drafts}"))

    def replace(self, draft: Draft) -> None:
        """Replace the file with a complete draft."""
        self._unwritten.clear()
        self.close()
        draft.end()
        draft.path.replace(self._path)
        self.size = self._path.stat().st_size
        self.base_size = self.size

    def close(self) -> None:
        """Write the remaining data, and close the file."""
        for _ in self._write_rest():
            pass
        if self._file is not None:
            os.close(self._file)
            self._file = None


def requests_in(path: Path) -> Iterator[list[bytes]]:
    """Yield the complete requests of a file."""
    parser = RequestParser(_LIMITS)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            parser.feed(piece)
            yield from parser.take()


def truncate(path: Path, size: int) -> None:
    """Truncate a file to a size in bytes, if it is longer."""
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def _length(arguments: list[bytes]) -> int:
    """Return the size of a request in the stream, in bytes."""
    digits = len(str(len(arguments))) + 3
    return digits + sum(len(str(len(word))) + len(word) + 5 for word in arguments)
