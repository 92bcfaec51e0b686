"""The files of a run: private, whole, and one run a name."""

import contextlib
import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from cachesim.errors import NameInUse, StartError
from cachesim.runs import files
from cachesim.runs.directory import write_private
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import living_runs, remove_dead_runs
from tests.processes import python


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


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_another_token(up: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces the one before, is as private, and leaves the one before if it can't be saved."""
    up.save_token("another")
    up.save_token("third")
    assert up.token.read_text() == "third"
    assert up.token.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(files, "write_private", full)
    with pytest.raises(OSError, match="No space left"):
        up.save_token("fourth")
    assert up.token.read_text() == "third"
    assert not list(up.folder.glob("*.new"))


def test_two_writers_at_once(up: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is in the other's way: the one that ends last has written the file."""
    write, once = write_private, iter([1])

    def interrupted(path: Path, content: bytes) -> None:
        write(path, content)
        if next(once, None):
            up.save_token("another")

    monkeypatch.setattr(files, "write_private", interrupted)
    up.save_token("last")
    assert up.token.read_text() == "last"
    assert not list(up.folder.glob("*.new"))


def test_one_run_a_name(up: RunFiles) -> None:
    """A second run of the name is refused, and the first one's files are left alone."""
    before = sorted(up.folder.iterdir())
    with pytest.raises(NameInUse, match="'one' is running already"):
        RunFiles("one", b"", "")
    assert sorted(up.folder.iterdir()) == before


# --- two at a time, and killed ones ---------------------------------------------------------

STARTER = """
import sys, time
from pathlib import Path
from cachesim.errors import NameInUse
from cachesim.runs.directory import write_private
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
    """The files of a process that was killed while writing them are removed."""
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
    remove = "from cachesim.runs.registry import remove_dead_runs; remove_dead_runs()"
    with starter(alone, remove) as other:
        process.stdin.write("\n" * 9)
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(4)]
        other.communicate()
    assert lines == ["writing\n"] * 3 + ["mine\n"]
    assert [run.name for run in living_runs()] == ["same"]
    process.communicate()


# --- without room ---------------------------------------------------------------------------


def full(path: Path, _content: bytes) -> None:
    """A disk without room."""
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize("unreadable", ["owner", "stat"])
def test_too_many_open_files(
    up: RunFiles, monkeypatch: pytest.MonkeyPatch, unreadable: str
) -> None:
    """A process that can't read a file just now takes no living run for one without an owner."""
    read_text = Path.read_text

    def read(path: Path) -> str:
        if path.name == unreadable:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return read_text(path)

    monkeypatch.setattr(Path, "read_text", read)
    with contextlib.suppress(OSError):
        remove_dead_runs()
    assert up.folder.exists()


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
