"""The files of a run: private, and believed only if they are this user's."""

import errno
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from cachesim.errors import CachesimError, NameInUse, StartError
from cachesim.runs import files
from cachesim.runs.files import RunFiles
from cachesim.runs.owner import Owner
from cachesim.runs.registry import dead_runs, find_run, living_runs, remove_dead_runs
from tests.processes import python


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
    assert modes == dict.fromkeys(["owner", "ca.pem", "token", "env.json", "log"], 0o600)
    assert up.folder.stat().st_mode & 0o777 == 0o700
    assert up.folder.parent.stat().st_mode & 0o777 == 0o700


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


def end(run: RunFiles) -> None:
    """Let it seem that the process of a run has ended."""
    host, pid, started = (run.folder / "owner").read_text().rsplit(" ", 2)
    (run.folder / "owner").write_text(f"{host} {pid} {float(started) - 1000}")


def test_dead_run_is_not_up(up: RunFiles) -> None:
    """A run whose process has ended is none, and its files go with the next start."""
    end(up)
    assert living_runs() == []
    assert [run.name for run in dead_runs()] == ["one"]
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


# --- which one is meant ---------------------------------------------------------------------


def test_the_only_one(up: RunFiles) -> None:
    """Where one is up, nobody has to name it."""
    assert find_run(None).folder == up.folder
    assert find_run("one").folder == up.folder


def test_none_is_up() -> None:
    """Without any, the message says how to start one."""
    with pytest.raises(CachesimError, match=r"^no topology is up. Start one with `cachesim up`.$"):
        find_run(None)


def test_several_are_up(up: RunFiles) -> None:
    """Of several one has to be named, and they are told."""
    RunFiles("two", b"", "").save_env({})
    with pytest.raises(CachesimError, match=r"several topologies are up.*--name: one, two"):
        find_run(None)
    assert find_run("one").folder == up.folder


@pytest.mark.usefixtures("up")
def test_another_name() -> None:
    """A wrong name is told with the names that there are."""
    with pytest.raises(CachesimError, match=r"no topology named 'ohne' .argument. is up, .*: one"):
        find_run("ohne")


@pytest.mark.usefixtures("up")
def test_name_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name one too, and where they do is told."""
    monkeypatch.setenv("CACHESIM_NAME", "ohne")
    with pytest.raises(CachesimError, match=r"'ohne' .environment CACHESIM_NAME. is up"):
        find_run(None)


@pytest.mark.parametrize("name", [None, "early"])
def test_one_that_starts(name: str | None) -> None:
    """One that is being started is told apart from none."""
    RunFiles("early", b"", "")
    with pytest.raises(CachesimError, match=f"'early' is not up: process {os.getpid()} is still"):
        find_run(name)


def test_one_that_died(up: RunFiles) -> None:
    """A dead one is told with the next step, also beside one that lives."""
    end(up)
    with pytest.raises(CachesimError, match=r"'one' .* has ended .* `cachesim gc` removes"):
        find_run(None)
    # Not by RunFiles, which would remove it.
    other = up.folder.with_name("two-x")
    other.mkdir(0o700)
    (other / "owner").write_text(str(Owner.current()))
    (other / "env.json").write_text("{}")
    with pytest.raises(CachesimError, match=r"'one' .* has ended .* `cachesim gc` removes"):
        find_run("one")
    assert find_run(None).folder == other


# --- two at a time, and killed ones ---------------------------------------------------------

STARTER = """
import sys, time
from pathlib import Path
from cachesim.errors import NameInUse
from cachesim.runs.files import RunFiles
print("ready", flush=True)
sys.stdin.readline()
try:
    run = RunFiles("same", b"", "")
except NameInUse:
    print("in use", flush=True)
else:
    print("mine", flush=True)
sys.stdin.read()
"""


def starter(folder: Path, script: str = STARTER) -> "subprocess.Popen[str]":
    """A process that makes a run when it is told to."""
    return python(folder, script)


def test_one_name_at_one_moment(alone: Path) -> None:
    """Of processes that start under one name at one moment, one gets it."""
    processes = [starter(alone) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in processes if process.stdout]
    finally:
        for process in processes:
            process.communicate()
    assert sorted(answers) == ["in use\n"] * 3 + ["mine\n"]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and locks are POSIX's")
@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_while_it_writes(alone: Path, after: int) -> None:
    """What a process leaves that is killed before it has written all is removed."""
    die = f"""
import os, signal
from cachesim.runs import files
write, written = files.write_private, []
def write_or_die(path, content):
    if len(written) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(path)
    write(path, content)
files.write_private = write_or_die
"""
    process = starter(alone, f"{die}{STARTER}")
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    assert list(alone.glob("cachesim/runs/*"))
    assert living_runs() == []
    remove_dead_runs()
    assert list(alone.glob("cachesim/runs/*")) == []


@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX's")
def test_one_that_is_being_written_is_left_alone(alone: Path) -> None:
    """A run without an owner is not removed while its process is still writing."""
    slow = """
from cachesim.runs import files
write = files.write_private
def write_slowly(path, content):
    print("writing", flush=True)
    sys.stdin.readline()
    write(path, content)
files.write_private = write_slowly
"""
    process = starter(alone, STARTER.replace("print(", f"import sys{slow}\nprint(", 1))
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "writing\n"
    with starter(alone, "from cachesim.runs.files import *; remove_dead_runs()") as other:
        process.stdin.write("\n" * 9)
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(4)]
        other.communicate()
    assert lines == ["writing\n"] * 3 + ["mine\n"]
    assert [run.name for run in living_runs()] == ["same"]
    process.communicate()


# --- where they can't be --------------------------------------------------------------------


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
    with pytest.raises(StartError, match=r"runs: is not a folder of this user alone; .*nowhere"):
        RunFiles("two", b"", "")


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user that its system does not know."""
    if os.name != "posix":
        pytest.skip("users are POSIX's")
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert RunFiles("one", b"", "").folder.exists()


def full(path: Path, _content: bytes) -> None:
    """A disk without room."""
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_full_disk(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for its files a run says where and what to do, and leaves nothing."""
    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(StartError, match=r"runs: No space left .*cachesim-.* Make room, or set"):
        RunFiles("one", b"", "")
    assert [path for path in alone.rglob("*") if not path.is_dir() or path.name == "one"] == []


def test_full_disk_at_the_end(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one whose last file has no room any more."""
    run = RunFiles("one", b"", "")
    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(StartError, match=r"one-\w+: No space left on device. Make room"):
        run.save_env({})
    run.remove()
    assert list(alone.glob("cachesim/runs/*")) == []


# --- sockets elsewhere ----------------------------------------------------------------------


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
