"""The files of a run: the CA, the AUTH token, and what other processes may know of it."""

import contextlib
import json
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cachesim.errors import NameInUse
from cachesim.runs import directory
from cachesim.runs.directory import not_writable, write_private
from cachesim.runs.env import SECRETS
from cachesim.runs.owner import Owner
from cachesim.runs.registry import living_runs, remove_dead_runs


class RunFiles:
    """The folder of one run, which this user alone can read.

    It is in the user's state folder, or in the temporary one if that is not writable.

    Attributes:
        ca: the CA's certificate, PEM.
        token: the AUTH token.
        log: the output of a process without a terminal.

    Raises:
        NameInUse: a living run of this user has this name.
        StartError: neither folder can be written to.
    """

    def __init__(self, name: str, ca: bytes, token: str) -> None:
        with contextlib.suppress(OSError):  # or else the next start does it
            remove_dead_runs()
        failures = []
        for root in directory.roots():
            try:
                self._create(root, name, ca, token)
                return
            except OSError as error:
                failures.append(f"{root}: {error.strerror or error}")
        raise not_writable("; ".join(failures))

    def _create(self, root: Path, name: str, ca: bytes, token: str) -> None:
        directory.make_root(root)
        with directory.locked(root):
            # Of two that start at the same moment, one sees the other.
            if any(run.name == name for run in living_runs()):
                raise NameInUse(
                    f"a topology named {name!r} is running already. Choose another name, or "
                    f"take it down first: `cachesim down --name {name}`."
                )
            self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
            self.ca, self.token = self.folder / directory.CA, self.folder / directory.TOKEN
            self.log = self.folder / directory.LOG
            try:
                write_private(self.folder / directory.OWNER, str(Owner.current()).encode())
                write_private(self.ca, ca)
                write_private(self.token, token.encode())
                write_private(self.log, b"")
            except BaseException:
                self.remove()
                raise

    def save_env(self, variables: Mapping[str, str]) -> None:
        """Write what `cachesim env` prints, without the secrets. From then on the topology is up.

        Raises:
            StartError: it can't be written.
        """
        public = {key: value for key, value in variables.items() if key not in SECRETS}
        try:
            self._replace(directory.ENV, json.dumps(public))
        except OSError as error:
            raise not_writable(f"{self.folder}: {error.strerror or error}") from error

    def save_token(self, token: str) -> None:
        """Write the AUTH token that clients shall use.

        Raises:
            OSError: it can't be written.
        """
        self._replace(directory.TOKEN, token)

    def _replace(self, name: str, text: str) -> None:
        # Its own name: two may write at once.
        unfinished = self.folder / f"{name}.{secrets.token_hex(4)}.new"
        try:
            write_private(unfinished, text.encode())
            unfinished.replace(self.folder / name)  # atomic: nobody reads half of it
        finally:
            unfinished.unlink(missing_ok=True)

    def save_holder(self, holder: str | None) -> None:
        """Write who has the lease, for commands that choose a topology; None: nobody has."""
        self._save(directory.LEASE, holder)

    def save_user(self, user: str | None) -> None:
        """Write whose end is the topology's, such as `process 7`; None: it is detached."""
        self._save(directory.USER, user)

    def _save(self, name: str, text: str | None) -> None:
        file = self.folder / name
        with contextlib.suppress(OSError):  # without it, a command may choose one that refuses it
            if text is None:
                file.unlink()
            else:
                write_private(file, text.encode())

    def remove(self) -> None:
        """Remove the folder."""
        directory.remove(self.folder)
