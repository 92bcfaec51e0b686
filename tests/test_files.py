"""The files of a run: private, and believed only if they are this user's."""

import os
from pathlib import Path

import pytest

from cachesim.errors import NameInUse
from cachesim.files import RunFiles, living_runs


@pytest.fixture(autouse=True)
def _alone(alone: Path) -> None:
    """No other topologies than a test's own."""


@pytest.fixture
def up() -> RunFiles:
    """The files of a topology that is up."""
    files = RunFiles("one", b"pem", "to ken")
    files.save_env(
        {"CACHESIM_REDIS_PASSWORD": "to ken", "CACHESIM_REDIS_URL": "//to ken@", "CACHESIM_X": "x"}
    )
    return files


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_files_are_private(up: RunFiles) -> None:
    """Nobody else can read a run's files."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in up.folder.iterdir()}
    assert modes == dict.fromkeys(["owner", "ca.pem", "token", "env.json"], 0o600)
    assert up.folder.stat().st_mode & 0o777 == 0o700


def test_env_file_has_no_secrets(up: RunFiles) -> None:
    """The token is in one file alone."""
    holders = [path.name for path in up.folder.iterdir() if "to ken" in path.read_text()]
    assert holders == ["token"]


def test_one_run_a_name(up: RunFiles) -> None:
    """A second run of the name is refused, and the first one's files are left alone."""
    before = sorted(up.folder.iterdir())
    with pytest.raises(NameInUse, match="'one' is running already"):
        RunFiles("one", b"", "")
    assert sorted(up.folder.iterdir()) == before


def test_starting_run_is_not_up() -> None:
    """A run that has no env file yet is known, but not as up."""
    RunFiles("early", b"", "")
    assert [(it.name, it.env()) for it in living_runs()] == [("early", None)]


def test_dead_run_is_not_up(up: RunFiles) -> None:
    """A run whose process has ended is none, and its files go with the next start."""
    host, pid, started = (up.folder / "owner").read_text().rsplit(" ", 2)
    (up.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")
    assert living_runs() == []
    RunFiles("next", b"", "")
    assert not up.folder.exists()


def test_run_of_another_host_is_not_up(up: RunFiles) -> None:
    """A run in a container that shares our temporary folder is not reached by its addresses."""
    owner = (up.folder / "owner").read_text()
    (up.folder / "owner").write_text(f"elsewhere {owner}")
    assert living_runs() == []
    RunFiles("next", b"", "")
    assert up.folder.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are POSIX's")
def test_folder_of_another_user(up: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's folder is neither believed nor removed."""
    monkeypatch.setattr(os, "getuid", lambda: up.folder.stat().st_uid + 1)
    assert living_runs() == []


def test_symlink_to_a_folder(up: RunFiles, tmp_path: Path) -> None:
    """A link that bears a run's name is not followed."""
    target = up.folder.rename(tmp_path / "elsewhere")
    try:
        up.folder.symlink_to(target)
    except OSError:
        pytest.skip("no symlinks here")
    assert living_runs() == []
