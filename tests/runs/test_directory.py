"""The folders of runs: where they are, and believed only if they are this user's."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from cachesim.cli.doctor import Level, examine
from cachesim.errors import StartError
from cachesim.runs.directory import remove_address
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import living_runs, remove_dead_runs
from tests.runs.helpers import end


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


def fallback(alone: Path) -> Path:
    """The folder for want of the state folder."""
    (folder,) = alone.glob("cachesim-*")
    return folder


def test_state_folder_that_cannot_be_written(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a state folder, the temporary one is used, for this user alone."""
    (alone / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(alone / "file"))
    run = RunFiles("one", b"", "")
    assert run.folder.parent == fallback(alone)
    assert [it.name for it in living_runs()] == ["one"]
    if os.name == "posix":
        assert fallback(alone).stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_state_folder_of_others(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder in which others can write is not used."""
    (alone / "cachesim").mkdir()
    (alone / "cachesim" / "runs").mkdir()
    (alone / "cachesim" / "runs").chmod(0o777)
    assert RunFiles("one", b"", "").folder.parent == fallback(alone)
    monkeypatch.setattr(tempfile, "tempdir", str(alone / "nowhere"))
    (alone / "nowhere").touch()
    with pytest.raises(StartError, match=r"only this user can write to; .*nowhere"):
        RunFiles("two", b"", "")


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user that its system does not know."""
    if os.name != "posix":
        pytest.skip("users are POSIX's")
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert RunFiles("one", b"", "").folder.exists()


def test_user_without_a_home(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home, the temporary folder is used."""
    if os.name != "posix":
        pytest.skip("users are POSIX's")
    for variable in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert RunFiles("one", b"", "").folder.parent == fallback(alone)
    assert [it.name for it in living_runs()] == ["one"]
    (check,) = [it for it in examine() if it.subject == "state folder"]
    assert (check.level, check.finding) == (Level.OK, str(fallback(alone)))


@pytest.mark.parametrize(("name", "goes"), [("cachesim-0a1b2c3d", True), ("precious", False)])
def test_socket_elsewhere(up: RunFiles, alone: Path, name: str, goes: bool) -> None:
    """The folder of a socket that is not in the run's own goes with the run, and no other does."""
    beside = alone / name
    beside.mkdir(0o700)
    (up.folder / "address.json").write_text(json.dumps({"address": str(beside / "socket")}))
    end(up)
    remove_dead_runs()
    assert not up.folder.exists()
    assert beside.exists() != goes


def test_name_like_that_of_a_socket_folder(alone: Path) -> None:
    """A run whose name begins as such a folder keeps its files when its address is removed."""
    assert alone
    run = RunFiles("cachesim-mine", b"", "")
    (run.folder / "address.json").write_text(json.dumps({"address": str(run.folder / "socket")}))
    remove_address(run.folder)
    assert not (run.folder / "address.json").exists()
    assert run.token.exists()
