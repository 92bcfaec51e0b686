"""Rewriting the append-only file (BGREWRITEAOF), to make it as short as the data allows."""

from time import monotonic

from cachesim.embedded.redis.admin.log import Log
from cachesim.embedded.redis.admin.settings import Settings
from cachesim.embedded.redis.replication.aof import AppendOnlyFile, Draft
from cachesim.embedded.redis.replication.loading import Loader
from cachesim.embedded.redis.replication.snapshots import Snapshots
from cachesim.protocols.resp import request

_SOON_LOADED = 8 << 20
"""Bytes of a file that loads in a second. A file of 64 MB, the `auto-aof-rewrite-min-size`, would
take ten times as long; a real node loads it in half a second."""
_WORTHLESS = 1 << 20  # larger files are rewritten when all keys are deleted


class AofRewrite:
    """Rewrites the append-only file from a snapshot.

    Args:
        loader: while it loads data, no rewrite starts.

    Attributes:
        finished: how many rewrites have finished.
        seconds: how long the last one took; -1 if there was none.
    """

    def __init__(
        self,
        aof: AppendOnlyFile,
        snapshots: Snapshots,
        loader: Loader,
        settings: Settings,
        log: Log,
    ) -> None:
        self._aof = aof
        self._snapshots = snapshots
        self._loader = loader
        self._settings = settings
        self._log = log
        self._draft: Draft | None = None
        self.finished = 0
        self.seconds = -1

    @property
    def is_running(self) -> bool:
        """Whether the file is being rewritten."""
        return self._draft is not None

    def start(self) -> None:
        """Start a rewrite, unless one is running or data is being loaded."""
        if self._draft is not None or self._loader.is_loading or self._aof.is_full:
            return
        self._log("Background append only file rewriting started")
        draft = self._draft = self._aof.draft()
        draft.write(request([b"SELECT", b"0"]))
        began = monotonic()

        def done() -> None:
            if self._aof.is_full:  # for the new file, too
                self._log("Background AOF rewrite terminated with error", "#")
                self.cancel()
                return
            self._aof.replace(draft)
            self._draft = None
            self.finished += 1
            self.seconds = int(monotonic() - began)
            self._log("Background AOF rewrite finished successfully")

        self._snapshots.take(draft.write, done)

    def start_if_grown(self) -> None:
        """Rewrite the file if it has grown by `auto-aof-rewrite-percentage`.

        This starts at 8 MB, not at `auto-aof-rewrite-min-size`, so that a killed node is soon back.
        """
        percentage = self._settings.number("auto-aof-rewrite-percentage")
        smallest = min(_SOON_LOADED, self._settings.number("auto-aof-rewrite-min-size"))
        aof = self._aof
        if not percentage or aof.size < smallest:
            return
        if aof.size >= aof.base_size * (100 + percentage) / 100:
            self.start()

    def flushed(self) -> None:
        """Rewrite a large file, as all keys are deleted."""
        if self._aof.size > _WORTHLESS:
            self.start()

    def cancel(self) -> None:
        """Cancel the rewrite. The caller must also cancel the snapshots."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None
