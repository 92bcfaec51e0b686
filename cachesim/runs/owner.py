"""Identifies the process that owns a run, so that only what a dead one left is removed."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_TOLERANCE = 2.0  # seconds: elsewhere than on Linux, both times come from a clock that may be set


@dataclass(frozen=True)
class Owner:
    """A process, distinct from a later one with the same pid and from one on another host.

    Attributes:
        host: the host's name and, on Linux, its pid namespace: a container has pids of its own.
        pid: its pid in that namespace.
        started: when the process began, in seconds since the boot on Linux, where a clock that is
            set does not change it; elsewhere in seconds of the epoch.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> "Owner":
        """Return this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> "Owner":
        """Return a process of this host; if it has ended, one that is gone."""
        import psutil

        try:
            started = _started(pid)
        except psutil.NoSuchProcess:
            started = 0.0
        return cls(_host(), pid, started)

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """Read what `str()` wrote; return None for anything else."""
        try:
            host, pid, started = text.rsplit(" ", 2)
            return cls(host, int(pid), float(started))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.started:.2f}"

    @property
    def is_gone(self) -> bool:
        """Whether the process has certainly ended; False for a process of another host."""
        import psutil

        if self.host != _host():
            return False
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return abs(_started(self.pid) - self.started) > _TOLERANCE
        except psutil.NoSuchProcess:
            return True
        except (psutil.Error, OSError):  # such as too many open files in this process
            return False


def _started(pid: int) -> float:
    """Return when a process began; see `Owner.started`.

    Raises:
        psutil.NoSuchProcess: it has ended.
        psutil.Error, OSError: nothing is known of it.
    """
    import psutil

    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    try:
        # The 22nd field. The second one, a name in parentheses, may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _host() -> str:
    import platform

    try:
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return platform.node()
    return f"{platform.node()} {namespace}"
