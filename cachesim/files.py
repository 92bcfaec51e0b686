"""The files of a run: the CA, and the AUTH token for programs that read it from a file."""

import os
import shutil
import tempfile
from pathlib import Path

from cachesim.owner import Owner

_PREFIX = "cachesim-"


class RunFiles:
    """A folder of one run in the system's temporary folder, for this user alone.

    Attributes:
        ca: the CA's certificate, PEM.
        token: the AUTH token.
    """

    def __init__(self, name: str, ca: bytes, token: str) -> None:
        remove_orphaned_files()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-"))
        self.ca = self.folder / "ca.pem"
        self.token = self.folder / "token"
        _write(self.folder / "owner", str(Owner.current()).encode())
        _write(self.ca, ca)
        _write(self.token, token.encode())

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_orphaned_files() -> None:
    """Remove the folders of runs whose process has ended."""
    for owner_file in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner"):
        try:
            owner = Owner.parse(owner_file.read_text())
        except OSError:
            continue  # another user's, or just removed
        if owner is not None and owner.is_gone:
            shutil.rmtree(owner_file.parent, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    # Created with these permissions, not given them afterwards.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
