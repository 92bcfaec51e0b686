"""Writes the history of a run: one SQLite file. Its tables are in `cachesim.history.rows`."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachesim.clock import Deadline
from cachesim.history.rows import INDEXES, SCHEMA, TABLES, Row

_BUSY_LIMIT = 30.0
"""Seconds to wait for another recorder of the same file."""
_POLL = 0.01  # seconds


class Recorder:
    """Writes the history of a run.

    Rows are kept for a moment and written by a thread, so that a worker never waits for the disk.
    After a kill, the file can be read up to the last `interval`. Thread-safe; several recorders, of
    several processes too, may write to one file. A fork must make its own.

    Args:
        path: the file, made if it is missing.
        interval: the longest time that a row is kept, in seconds.

    Raises:
        sqlite3.Error: the file can't be written. It is raised by the call after the failure.
    """

    def __init__(self, path: Path, interval: float = 0.25) -> None:
        self._rows: list[Row] = []
        self._changed = threading.Lock()  # held to add and take rows
        self._writing = threading.Lock()  # held to use the connection
        self._failure: Exception | None = None
        self._database = sqlite3.connect(path, timeout=_BUSY_LIMIT, check_same_thread=False)
        try:
            self._write_ahead()
            # A kill loses nothing, a power cut may.
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.executescript(SCHEMA)
        except BaseException:
            self._database.close()
            raise
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesim-recorder", daemon=True)
        self._thread.start()

    def _write_ahead(self) -> None:
        """Let others read and write meanwhile."""
        limit = Deadline(_BUSY_LIMIT)
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                # Another recorder does the same at this moment, and SQLite does not wait for that.
                if limit.expired:
                    raise
                time.sleep(_POLL)

    def add(self, *rows: Row) -> None:
        """Record rows."""
        self._check()
        with self._changed:
            self._rows += rows

    def set(self, key: str, value: Any) -> None:
        """Record a fact of the run, at once. See this module for the keys.

        Args:
            value: anything that JSON has.
        """
        self._check()
        with self._writing, self._database:
            row = (key, json.dumps(value))
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)

    def flush(self) -> None:
        """Write all rows that were added."""
        self._write()
        self._check()

    def close(self, *, seal: bool = False) -> None:
        """Write all rows, and close the file. Idempotent.

        Args:
            seal: nobody writes to the file any more. It becomes a single file, quick to read.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self._write()
        try:
            if seal and self._failure is None:
                self._database.executescript(INDEXES)
                self._database.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._database.close()
        self._check()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._write()

    def _write(self) -> None:
        with self._writing:
            with self._changed:
                rows, self._rows = self._rows, []
            groups: dict[type[Row], list[tuple[Any, ...]]] = {}
            try:
                for row in rows:
                    groups.setdefault(type(row), []).append(_values(row))
                with self._database:
                    for kind, values in groups.items():
                        self._database.executemany(_insert(kind), values)
            except Exception as error:  # a row with what SQLite does not take, say
                self._failure = error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _insert(kind: type[Row]) -> str:
    names = kind._fields
    return (
        f"INSERT OR REPLACE INTO {TABLES[kind]} ({', '.join(names)}) "  # noqa: S608 - our own names
        f"VALUES ({', '.join('?' * len(names))})"
    )


def _values(row: Row) -> tuple[Any, ...]:
    return tuple(json.dumps(value) if isinstance(value, dict) else value for value in row)
