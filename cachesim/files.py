"""The files of a run: the CA, the AUTH token, and what other processes may know of it."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachesim.errors import NameInUse
from cachesim.owner import Owner
from cachesim.topology import Endpoint

_PREFIX = "cachesim-"
_OWNER, _TOKEN, _ENV = "owner", "token", "env.json"
SECRETS = ("CACHESIM_REDIS_PASSWORD", "CACHESIM_REDIS_URL")
"""The variables that are not kept in a file of their own: the token's file is enough."""


class RunFiles:
    """A folder of one run in the system's temporary folder, for this user alone.

    Attributes:
        ca: the CA's certificate, PEM.
        token: the AUTH token.

    Raises:
        NameInUse: a living run of this user has this name.
    """

    def __init__(self, name: str, ca: bytes, token: str) -> None:
        remove_orphaned_files()
        if any(run.name == name for run in living_runs()):
            raise NameInUse(
                f"a topology named {name!r} is running already. "
                "Choose another name, or take it down first."
            )
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-"))
        self.ca = self.folder / "ca.pem"
        self.token = self.folder / _TOKEN
        try:
            _write(self.folder / _OWNER, str(Owner.current()).encode())
            _write(self.ca, ca)
            _write(self.token, token.encode())
        except BaseException:
            self.remove()
            raise

    def save_env(self, variables: Mapping[str, str]) -> None:
        """Keep what `cachesim env` prints, but for the secrets: the topology is up."""
        public = {key: value for key, value in variables.items() if key not in SECRETS}
        unfinished = self.folder / f"{_ENV}.new"
        _write(unfinished, json.dumps(public).encode())
        unfinished.replace(self.folder / _ENV)  # at once: nobody reads half of it

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class LivingRun:
    """A run whose process lives.

    Attributes:
        name: the topology's name.
        folder: where its files are.
    """

    name: str
    folder: Path

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


def living_runs() -> list[LivingRun]:
    """This user's runs whose process lives, on this machine and in this pid namespace, by name."""
    here = Owner.current().host
    runs = [
        LivingRun(folder.name.removeprefix(_PREFIX).rpartition("-")[0], folder)
        for folder, owner in _owned_folders()
        if owner.host == here and not owner.is_gone
    ]
    return sorted(runs, key=lambda run: run.name)


def remove_orphaned_files() -> None:
    """Remove the folders of runs whose process has ended."""
    for folder, owner in _owned_folders():
        if owner.is_gone:
            shutil.rmtree(folder, ignore_errors=True)


def _owned_folders() -> Iterator[tuple[Path, Owner]]:
    """This user's runs: anyone may put a folder of such a name beside them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode):  # a symlink is none
                continue
            if hasattr(os, "getuid") and status.st_uid != os.getuid():
                continue
            owner = Owner.parse((folder / _OWNER).read_text())
        except (OSError, UnicodeDecodeError):
            continue  # no run's, or just removed
        if owner is not None:
            yield folder, owner


def _write(path: Path, content: bytes) -> None:
    # Created with these permissions, not given them afterwards.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
