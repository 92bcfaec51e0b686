"""The append-only file: the replication stream on disk, and what of it a loss of power keeps.

Nothing is really fsynced: the data is worthless after the run, and an fsync would stop everything
else for as long as the disk takes. A killed node loses nothing that it has written, as the system
has it then. A loss of power is imitated by cutting the file back; see `AppendOnlyFile.synced`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cachesim.protocols.resp import Limits, RequestParser

_PIECE = 1 << 20
_EVERYSEC = 1.0  # seconds
_LIMITS = Limits(bulk=512 * 1024 * 1024, query=1 << 40)


class AppendOnlyFile:
    """A file that grows with the stream.

    Attributes:
        size: bytes, with what is not written yet.
        base_size: bytes after it was last written anew.
        synced: bytes that would survive a loss of power; `appendfsync everysec`.
    """

    def __init__(self, path: Path, log: Callable[..., None], clock: Callable[[], float]) -> None:
        self._path = path
        self._log = log
        self._clock = clock
        self.size = path.stat().st_size if path.exists() else 0
        self.base_size = self.synced = self.size
        self._synced_at = clock()
        self._file: int | None = None

    def load(self) -> Iterator[list[bytes]]:
        """The requests in the file. What a loss of power has torn is cut off."""
        if not self._path.exists():
            return
        parser = RequestParser(_LIMITS)
        valid = at = 0
        transaction: list[list[bytes]] | None = None
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE):
                parser.feed(piece)
                for arguments in parser.take():
                    at += _length(arguments)
                    name = arguments[0].upper()
                    if name == b"MULTI":
                        transaction = []
                    elif name == b"EXEC":
                        yield from transaction or ()
                        transaction = None
                    elif transaction is not None:
                        transaction.append(arguments)
                    else:
                        yield arguments
                    if transaction is None:
                        valid = at
        if valid < self.size:
            self._log("!!! Warning: short read while loading the AOF file !!!", "#")
            self._log(f"!!! Truncating the AOF at offset {valid} !!!", "#")
            self._log("AOF loaded anyway because aof-load-truncated is enabled", "#")
            os.truncate(self._path, valid)
            self.size = valid
        self.base_size = self.synced = self.size

    def append(self, data: bytes) -> None:
        """Write what was appended to the stream."""
        if self._file is None:
            # Not the path's own open: an unbuffered file object would add a layer to each write.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._file = os.open(self._path, flags, 0o600)
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])
        self.size += len(data)

    def tick(self) -> None:
        """To be called several times a second."""
        now = self._clock()
        if now - self._synced_at >= _EVERYSEC:
            self.sync()

    def sync(self) -> None:
        """Let all of it have reached the disk."""
        self._synced_at = self._clock()
        self.synced = self.size

    def rewrite(self, pieces: Iterable[bytes]) -> None:
        """Put something else in its place."""
        self.close()
        new = self._path.with_suffix(".rewrite")
        with new.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        new.replace(self._path)
        self.size = self._path.stat().st_size
        self.base_size = self.size
        self.sync()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def truncate(path: Path, size: int) -> None:
    """Cut a file back to a size, if it is longer."""
    if path.exists() and path.stat().st_size > size:
        os.truncate(path, size)


def _length(arguments: list[bytes]) -> int:
    """Bytes that a request takes in the stream."""
    digits = len(str(len(arguments))) + 3
    return digits + sum(len(str(len(word))) + len(word) + 5 for word in arguments)
