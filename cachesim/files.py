"""The files of a run: the CA, the AUTH token, and what other processes may know of it."""

import contextlib
import getpass
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachesim.errors import CachesimError, NameInUse, StartError
from cachesim.owner import Owner
from cachesim.topology import Endpoint

_OWNER, _TOKEN, _ENV, _CA = "owner", "token", "env.json", "ca.pem"
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
        if any(run.name == name for run in living_runs()):
            raise NameInUse(
                f"a topology named {name!r} is running already. Choose another name with --name, "
                f"or take it down first: `cachesim down --name {name}`."
            )
        remove_dead_runs()
        failures = []
        for root in roots():
            try:
                self._create(root, name, ca, token)
                return
            except OSError as error:
                failures.append(f"{root}: {error.strerror or error}")
        raise StartError(
            f"the run's files can't be written: {'; '.join(failures)}. Make room, or set "
            "XDG_STATE_HOME or TMPDIR to a folder of yours that can be written to."
        )

    def _create(self, root: Path, name: str, ca: bytes, token: str) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(root):
            raise PermissionError(1, "is not a folder of this user alone")
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
        self.ca, self.token = self.folder / _CA, self.folder / _TOKEN
        self.log = self.folder / "log"
        try:
            write_private(self.folder / _OWNER, str(Owner.current()).encode())
            write_private(self.ca, ca)
            write_private(self.token, token.encode())
        except BaseException:
            self.remove()
            raise

    def save_env(self, variables: Mapping[str, str]) -> None:
        """Keep what `cachesim env` prints, but for the secrets: the topology is up."""
        public = {key: value for key, value in variables.items() if key not in SECRETS}
        unfinished = self.folder / f"{_ENV}.new"
        write_private(unfinished, json.dumps(public).encode())
        unfinished.replace(self.folder / _ENV)  # at once: nobody reads half of it

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
        from cachesim.config import load_settings  # takes long, and mostly isn't needed

        loaded = load_settings()
        name, source = loaded.settings.name, loaded.sources["name"]
    found = {run.name: run for run in living_runs() if run.env() is not None}
    running = ", ".join(found)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[name]
    for run in dead_runs():
        if name in (None, run.name) and not found:
            raise CachesimError(
                f"the process of topology {run.name!r} (pid {run.owner.pid}) has ended without "
                "taking it down. `cachesim gc` removes what it left; `cachesim up` starts another."
            )
    if not found:
        raise CachesimError("no topology is up. Start one with `cachesim up`.")
    if name is None:
        raise CachesimError(f"several topologies are up: choose one with --name: {running}")
    raise CachesimError(
        f"no topology named {name!r} ({source}) is up, but these are: {running}. "
        f"Choose one with --name, or start another with `cachesim up --name {name}`."
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
        shutil.rmtree(run.folder, ignore_errors=True)
    return [run.name for run in dead]


def write_private(path: Path, content: bytes) -> None:
    """Write a new file for this user alone. It has these permissions from the beginning."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def roots() -> tuple[Path, Path]:
    """Where runs may be: the user's state folder, and the temporary one for want of it."""
    import platformdirs

    return (
        platformdirs.user_state_path("cachesim", appauthor=False) / "runs",
        Path(tempfile.gettempdir()) / f"cachesim-{getpass.getuser()}",
    )


def _runs() -> list[Run]:
    here = Owner.current().host
    runs = []
    for root in roots():
        for folder in _folders(root):
            with contextlib.suppress(OSError, UnicodeDecodeError):  # no run's, or just removed
                owner = Owner.parse((folder / _OWNER).read_text())
                if owner is not None and owner.host == here:
                    runs.append(Run(folder.name.rpartition("-")[0], folder, owner))
    return sorted(runs, key=lambda run: run.name)


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
