"""Which runs there are, and which one is meant."""

import os

import pytest

from cachesim.errors import CachesimError
from cachesim.runs.files import RunFiles
from cachesim.runs.owner import Owner
from cachesim.runs.registry import dead_runs, find_run, living_runs
from tests.runs.helpers import end


def test_starting_run_is_not_up() -> None:
    """A run that has no env file yet is known, but not as up."""
    RunFiles("early", b"", "")
    assert [(it.name, it.env()) for it in living_runs()] == [("early", None)]


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


def test_the_only_one(up: RunFiles) -> None:
    """If one topology is up, no name is needed."""
    assert find_run(None).folder == up.folder
    assert find_run("one").folder == up.folder


def test_none_is_up() -> None:
    """If none is up, the message says how to start one."""
    with pytest.raises(CachesimError, match=r"^no topology is up. Start one with `cachesim up`.$"):
        find_run(None)


def test_several_are_up(up: RunFiles) -> None:
    """If several are up, the message names them and asks for a choice."""
    RunFiles("two", b"", "").save_env({})
    with pytest.raises(CachesimError, match=r"several topologies are up.*--name: one, two"):
        find_run(None)
    assert find_run("one").folder == up.folder


def test_of_another_program(up: RunFiles) -> None:
    """The topology of a test run or a script is found by its name only, until it is detached."""
    other = RunFiles("other", b"", "")
    other.save_user("process 7")
    other.save_env({})
    assert find_run(None).folder == up.folder
    assert find_run("other").user == "process 7"
    other.save_user(None)
    with pytest.raises(CachesimError, match="several"):
        find_run(None)


def test_leased(up: RunFiles) -> None:
    """A topology that somebody has leased is found by its name only, until it is returned."""
    other = RunFiles("other", b"", "")
    other.save_env({})
    up.save_holder("process 7")
    assert find_run(None).folder == other.folder
    assert find_run("one").holder == "process 7"
    up.save_holder(None)
    with pytest.raises(CachesimError, match="several"):
        find_run(None)


def test_none_is_free(up: RunFiles) -> None:
    """If no command may choose any of them, the message says why not, and what to do."""
    up.save_holder("process 7")
    other = RunFiles("other", b"", "")
    other.save_user("process 8")
    other.save_env({})
    with pytest.raises(CachesimError) as error:
        find_run(None)
    assert str(error.value) == (
        "no topology is free: 'one' is leased by process 7; 'other' belongs to process 8, such as "
        "a test run or a script. Choose one with --name, or start another with `cachesim up`."
    )


@pytest.mark.usefixtures("up")
def test_another_name() -> None:
    """For a wrong name the message has the names of those that are up."""
    with pytest.raises(CachesimError, match=r"no topology named 'ohne' .argument. is up, .*: one"):
        find_run("ohne")


@pytest.mark.usefixtures("up")
def test_name_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings can name one, and the message says where they do."""
    monkeypatch.setenv("CACHESIM_NAME", "ohne")
    with pytest.raises(CachesimError, match=r"'ohne' .environment CACHESIM_NAME. is up"):
        find_run(None)


@pytest.mark.parametrize("name", [None, "early"])
def test_one_that_starts(name: str | None) -> None:
    """A topology that is starting is not reported as missing."""
    RunFiles("early", b"", "")
    with pytest.raises(CachesimError, match=f"'early' is not up: process {os.getpid()} is still"):
        find_run(name)


def test_one_that_died(up: RunFiles) -> None:
    """For a dead run the message has the next step, also while another one lives."""
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
