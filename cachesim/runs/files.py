"""The files of a run: the CA, the AUTH token, and what other processes may know of it."""

import contextlib
import errno
import getpass
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachesim.errors import CachesimError, NameInUse, StartError
from cachesim.runs.owner import Owner
from cachesim.topology import Endpoint

_OWNER, _TOKEN, _ENV, _CA = "owner", "token", "env.json", "ca.pem"
ADDRESS = "address.json"
"""Where commands reach the process; the file is there from before there is a socket."""
_SOCKET_FOLDER = "cachesim-"  # how the name of one begins that is not in the run's folder
SECRETS = ("CACHESIM_REDIS_PASSWORD", "CACHESIM_REDIS_URL")
"""The variables that are not kept in a file of their own: the token's file is enough."""


class RunFiles:
    """A folder of one run, for this user alone.

    It is in the user's state folder, or in the temporary one where that can't be written to.

    Attributes:
        ca: the CA's certificate, PEM.
        token: the AUTH token.
        log: what a process without a terminal has to say.

    Raises:
        NameInUse: a living run of this user has this name.
        StartError: neither folder can be written to.
    """

    def __init__(self, name: str, ca: bytes, token: str) -> None:
        remove_dead_runs()
        failures = []
        for root in roots():
            try:
                self._create(root, name, ca, token)
                return
            except OSError as error:
                failures.append(f"{root}: {error.strerror or error}")
        raise not_writable("; ".join(failures))

    def _create(self, root: Path, name: str, ca: bytes, token: str) -> None:
        make_root(root)
        with _locked(root):
            # Of two that start at one moment, one sees the other.
            if any(run.name == name for run in living_runs()):
                raise NameInUse(
                    f"a topology named {name!r} is running already. Choose another name, or "
                    f"take it down first: `cachesim down --name {name}`."
                )
            self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
            self.ca, self.token = self.folder / _CA, self.folder / _TOKEN
            self.log = self.folder / "log"
            try:
                write_private(self.folder / _OWNER, str(Owner.current()).encode())
                write_private(self.ca, ca)
                write_private(self.token, token.encode())
                write_private(self.log, b"")
            except BaseException:
                self.remove()
                raise

    def save_env(self, variables: Mapping[str, str]) -> None:
        """Keep what `cachesim env` prints, but for the secrets: the topology is up.

        Raises:
            StartError: it can't be written.
        """
        public = {key: value for key, value in variables.items() if key not in SECRETS}
        unfinished = self.folder / f"{_ENV}.new"
        try:
            write_private(unfinished, json.dumps(public).encode())
            unfinished.replace(self.folder / _ENV)  # at once: nobody reads half of it
        except OSError as error:
            raise not_writable(f"{self.folder}: {error.strerror or error}") from error

    def remove(self) -> None:
        """Remove the folder."""
        _remove(self.folder)


@dataclass(frozen=True)
class Run:
    """A run that this user has started on this machine, and in this pid namespace.

    Attributes:
        name: the topology's name.
        folder: where its files are.
        owner: the process that carries it.
    """

    name: str
    folder: Path
    owner: Owner

    def env(self, *, secrets: bool = False) -> dict[str, str] | None:
        """The variables that a service reads; None if the topology is not up.

        Args:
            secrets: whether the password is among them, and the URL that holds it.
        """
        try:
            variables: dict[str, str] = json.loads((self.folder / _ENV).read_bytes())
            if secrets:
                token = (self.folder / _TOKEN).read_text()
                user = variables["CACHESIM_REDIS_USERNAME"]
                host, port = variables["CACHESIM_REDIS_HOST"], variables["CACHESIM_REDIS_PORT"]
                url = f"rediss://{user}:{token}@{Endpoint(host, int(port))}"
                variables |= zip(SECRETS, (token, url), strict=True)
        except FileNotFoundError:
            return None
        return variables


def living_runs() -> list[Run]:
    """The runs whose process lives, by name."""
    return [run for run in _runs() if not run.owner.is_gone]


def find_run(name: str | None) -> Run:
    """The run of a topology that is up.

    Args:
        name: the topology's name; None for the one that the settings name, or else the only one.

    Raises:
        CachesimError: none is up, not the named one, or several.
    """
    source = "argument"
    if name is None:
        from cachesim.settings import load_settings  # takes long, and mostly isn't needed

        loaded = load_settings()
        name, source = loaded.settings.name, loaded.sources["name"]
    living = {run.name: run for run in living_runs()}
    found = {run.name: run for run in living.values() if run.env() is not None}
    running = ", ".join(found)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[name]
    for run in [] if name is None and found else [*living.values(), *dead_runs()]:
        if name in (None, run.name):
            raise CachesimError(ended(run) if run.owner.is_gone else starting(run))
    if not found:
        raise CachesimError("no topology is up. Start one with `cachesim up`.")
    if name is None:
        raise CachesimError(f"several topologies are up: choose one with --name: {running}")
    raise CachesimError(
        f"no topology named {name!r} ({source}) is up, but these are: {running}. "
        f"Choose one with --name, or start another with `cachesim up --name {name}`."
    )


def ended(run: Run) -> str:
    """What to do about a run whose process has ended."""
    if (run.env() or {}).get("CACHESIM_BACKEND") == "compose":
        return (
            f"the process that was attached to topology {run.name!r} (pid {run.owner.pid}) has "
            "ended without healing it. `cachesim attach`, with the same folder, does so."
        )
    return (
        f"the process of topology {run.name!r} (pid {run.owner.pid}) has ended without taking it "
        "down. `cachesim gc` removes what it left; `cachesim up` starts another."
    )


def starting(run: Run) -> str:
    """What to do about a run that is not up yet."""
    return (
        f"topology {run.name!r} is not up: process {run.owner.pid} is still starting it, or taking "
        "it down. `cachesim status` tells when it is."
    )


def not_writable(why: str) -> StartError:
    """That a run's files can't be written, and what to do."""
    return StartError(
        f"the run's files can't be written: {why}. Make room, or set XDG_STATE_HOME or TMPDIR to a "
        "folder of yours that can be written to."
    )


def dead_runs() -> list[Run]:
    """The runs whose process has ended without taking them down, by name."""
    return [run for run in _runs() if run.owner.is_gone]


def remove_dead_runs() -> list[str]:
    """Remove the files of runs whose process has ended.

    Returns:
        Their names.
    """
    dead = dead_runs()
    for run in dead:
        _remove(run.folder)
    for root in filter(_is_ours, roots()):
        with contextlib.suppress(OSError), _locked(root) as is_locked:
            for folder in _folders(root) if is_locked else ():
                # Whoever makes one has the lock until there is an owner in it: this one was killed.
                if _owner(folder) is None:
                    _remove(folder)
    return [run.name for run in dead]


def remove_address(folder: Path) -> None:
    """Remove the file with a run's address, and the socket if its folder is not the run's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        beside = Path(json.loads((folder / ADDRESS).read_bytes())["address"]).parent
        if beside.name.startswith(_SOCKET_FOLDER) and _is_ours(beside):
            shutil.rmtree(beside)
    (folder / ADDRESS).unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file for this user alone. It has these permissions from the beginning."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def roots() -> tuple[Path, Path]:
    """Where runs may be: the user's state folder, and the temporary one for want of it."""
    import platformdirs

    # Not the user's name: a container may run as a user who has none.
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return (
        platformdirs.user_state_path("cachesim", appauthor=False) / "runs",
        Path(tempfile.gettempdir()) / f"cachesim-{user}",
    )


def make_root(root: Path) -> None:
    """Make one of `roots`, if it is not there.

    Raises:
        OSError: it can't be made, or others may write to it.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(root):
        raise PermissionError(errno.EPERM, "is not a folder of this user alone")


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[bool]:
    """One process at a time; a killed one has left.

    Gives whether it is so: not every file system has locks.
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


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        remove_address(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _runs() -> list[Run]:
    here = Owner.current().host
    runs = []
    for root in roots():
        for folder in _folders(root):
            owner = _owner(folder)
            if owner is not None and owner.host == here:
                runs.append(Run(folder.name.rpartition("-")[0], folder, owner))
    return sorted(runs, key=lambda run: run.name)


def _owner(folder: Path) -> Owner | None:
    """A run's owner; None if it is no run, or just removed."""
    try:
        return Owner.parse((folder / _OWNER).read_text())
    except (OSError, UnicodeDecodeError):
        return None


def _folders(root: Path) -> Iterator[Path]:
    """This user's own: anyone may put a folder into the temporary one."""
    with contextlib.suppress(OSError):
        if _is_ours(root):
            yield from filter(_is_ours, root.iterdir())


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_private = not status.st_mode & 0o022
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and is_private
