"""What the tests of the compose backend share."""

from pathlib import Path

import pytest

from cachesim import Settings
from cachesim.backends.compose.folder import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the default topology."""
    folder = tmp_path / "compose"
    write_folder(folder, Settings())
    return folder
