"""The folders of runs: their places, their permissions and the names of their files."""

import contextlib
import errno
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cachesim.errors import StartError

OWNER, TOKEN, ENV, CA, LOG = "owner", "token", "env.json", "ca.pem", "log"
"""The files of a run's folder."""
ADDRESS = "address.json"
"""The file with the address of the run's process. It is written before the socket exists."""
LEASE = "lease"
"""The file with the holder of the lease. It exists while a client has the lease."""
USER = "user"
"""The file with the process whose end is the topology's. It exists until that detaches it."""
_SOCKET_FOLDER = (
    "cachesim-"  # the prefix of a folder for the socket, if its path in the run's is too long
)


def roots() -> list[Path]:
    """Return the folders for runs: in the user's state folder, or else in the temporary one."""
    # Not the user's name: a container may run as a user who has none.
    if hasattr(os, "getuid"):
        user = str(os.getuid())
    else:
        import getpass

        user = getpass.getuser()
    state, temporary = _state_folder(), Path(tempfile.gettempdir()) / f"cachesim-{user}"
    return [temporary] if state is None else [state / "runs", temporary]


def _state_folder() -> Path | None:
    """Return the user's state folder; None: the user has no home, as may be in a container."""
    import platformdirs

    try:
        folder = platformdirs.user_state_path("cachesim", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older ones of platformdirs say "~/..."


def make_root(root: Path) -> None:
    """Make one of `roots`, if it is not there.

    Raises:
        OSError: it can't be made, or others may write to it.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(root):
        raise PermissionError(errno.EPERM, "not a folder that only this user can write to")


def folders() -> Iterator[Path]:
    """Yield the folders of this user's runs."""
    for root in roots():
        yield from folders_in(root)


def folders_in(root: Path) -> Iterator[Path]:
    """Yield this user's folders in a root. Anyone may put a folder into the temporary one."""
    with contextlib.suppress(OSError):
        if is_ours(root):
            yield from filter(is_ours, root.iterdir())


def is_ours(folder: Path) -> bool:
    """Return whether this is a folder that only this user can write to."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_private = not status.st_mode & 0o022
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and is_private


@contextlib.contextmanager
def locked(root: Path) -> Iterator[bool]:
    """Let one process at a time in. The lock of a killed process ends.

    Yields:
        Whether it is locked: not every file system has locks.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
            fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough if there was a fork
    finally:
        os.close(folder)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file for this user alone. It has these permissions from the beginning."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def not_writable(why: str) -> StartError:
    """Return the error for a run's files that can't be written."""
    return StartError(
        f"the run's files can't be written: {why}. Make room, or set XDG_STATE_HOME or TMPDIR to a "
        "folder of yours that can be written to."
    )


def remove(folder: Path) -> None:
    """Remove a run's folder, and its socket."""
    with contextlib.suppress(OSError):
        remove_address(folder)
    shutil.rmtree(folder, ignore_errors=True)


def remove_address(folder: Path) -> None:
    """Remove the file with a run's address, and the socket's folder if it is not the run's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        beside = Path(json.loads((folder / ADDRESS).read_bytes())["address"]).parent
        is_extra = beside != folder and beside.name.startswith(_SOCKET_FOLDER)
        if is_extra and is_ours(beside):
            shutil.rmtree(beside)
    (folder / ADDRESS).unlink(missing_ok=True)
