"""Owners: whether the process that a run belongs to has ended."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cachesim.runs.owner import Owner


@contextmanager
def child() -> Iterator[Owner]:
    """A process that ends with the block."""
    wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE) as process:
        yield Owner.of(process.pid)


def test_this_process() -> None:
    """This process is known by its pid, and is not gone."""
    owner = Owner.current()
    assert owner.pid == os.getpid()
    assert not owner.is_gone


def test_living_process() -> None:
    """Another process that runs is not gone."""
    with child() as owner:
        assert not owner.is_gone


def test_finished_process() -> None:
    """A process that has ended is gone."""
    with child() as owner:
        pass
    assert owner.is_gone


def test_other_host() -> None:
    """Of another host's process nothing is known, so it never counts as gone."""
    with child() as owner:
        pass
    assert not replace(owner, host="elsewhere").is_gone


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_pid_used_again(seconds: float) -> None:
    """A process with the same pid that began at another time is not the same process."""
    owner = Owner.current()
    assert replace(owner, started=owner.started + seconds).is_gone


@pytest.mark.parametrize("seconds", [-1, 1])
def test_clock_that_was_set(seconds: float) -> None:
    """A small difference in time, such as a clock that was set makes, is no other process."""
    owner = Owner.current()
    assert not replace(owner, started=owner.started + seconds).is_gone


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the clock decides")
def test_clock_that_is_set_by_much() -> None:
    """The time counts from the boot, so that no process seems to have ended when a clock is set."""
    assert sys.platform == "linux"
    assert 0 < Owner.current().started <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_round_trip() -> None:
    """An owner that was written is read as the same process."""
    owner = Owner.current()
    read = Owner.parse(str(owner))
    assert read is not None
    assert (read.host, read.pid) == (owner.host, owner.pid)
    assert read.started == pytest.approx(owner.started, abs=0.01)
    assert not read.is_gone


def test_host_with_spaces() -> None:
    """A host's name may have spaces."""
    owner = Owner("my host pid:[4026531836]", 7, 1.25)
    assert Owner.parse(str(owner)) == owner


@pytest.mark.parametrize("text", ["", "host", "host 7", "host seven 1.0", "host 7 soon"])
def test_something_else(text: str) -> None:
    """Text that is no owner is read as None."""
    assert Owner.parse(text) is None
