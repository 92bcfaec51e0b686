"""The history: what is recorded is read again, from a file that others may still write to."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachesim.history.reader import History, Span
from cachesim.history.recorder import Recorder
from cachesim.history.rows import (
    TABLES,
    Beat,
    EventRow,
    FinalRead,
    GeneratorReading,
    Operation,
    Sample,
    Step,
)

NEVER = 3600.0

Reopen = Callable[[], History]

FIRST = Operation("p1", 3, "sessions", "write", "k", 1.0, 1.1, 1.2, "ok", "redis-a", "c", "p1", 7)
SECOND = Operation("p1", 3, "sessions", "read", "k", 2.0, 2.0, None, "info", error="TimeoutError")
BEAT = Beat("redis-a", "read", 1.0, 1.0, 1.001, 1)
EVENT = EventRow(4, 5.0, "failover", "redis-b", "done", {"lost_bytes": 3})
STEP = Step("s", {"fault": "kill"}, "redis-a", 3.0, None, None, None, {"seen": True}, "applied")
SAMPLE = Sample(1.0, "redis-a", "offset", 17.0)
FINAL = FinalRead("k", "redis-a", "primary", 9.0, None, None)
READING = GeneratorReading(1.0, "p1", 0.001, 0.5, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the history goes."""
    return tmp_path / "a folder" / "history.sqlite"


@pytest.fixture
def recorder(path: Path) -> Iterator[Recorder]:
    """A recorder whose thread does not write during a test."""
    path.parent.mkdir()
    with Recorder(path, interval=NEVER) as made:
        yield made


@pytest.fixture
def reopen(path: Path) -> Iterator[Reopen]:
    """Read the file anew."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(History(path))


def test_rows_come_back(reopen: Reopen, recorder: Recorder) -> None:
    """Rows of every table are read as they were recorded, in the order of their times."""
    recorder.add(SECOND, FIRST, BEAT, EVENT, STEP, SAMPLE, FINAL, READING)
    recorder.close(seal=True)
    history = reopen()
    assert list(history.operations()) == [FIRST, SECOND]
    assert list(history.operations("kind = ? AND due > ?", "read", 1)) == [SECOND]
    assert list(history.beats()) == [BEAT]
    assert history.events() == history.events("lost", "failover") == [EVENT]
    assert history.events("lost") == []
    assert history.steps() == [STEP]
    assert history.samples("offset") == history.samples("offset", "redis-a") == [SAMPLE]
    assert history.samples("role") == history.samples("offset", "redis-b") == []
    assert list(history.final_reads()) == [FINAL]
    assert list(history.generator()) == [READING]


def test_a_step_is_recorded_again(reopen: Reopen, recorder: Recorder) -> None:
    """What is recorded under a step's id later replaces what was there."""
    healed = STEP._replace(end_call=4.0, end_confirmed=4.1)
    recorder.add(STEP)
    recorder.flush()
    recorder.add(healed)
    recorder.flush()
    assert reopen().steps() == [healed]


def test_facts(reopen: Reopen, recorder: Recorder) -> None:
    """Facts come back, the last of each; what is missing has its default."""
    history = reopen()
    assert (history.speed, history.deadline, history.patience) == (1, 1, float("inf"))
    assert history.baseline is None
    assert history.heal_at is None
    assert history.end_at == 0
    recorder.set("speed", 2)
    recorder.set("speed", 30)
    recorder.set("deadline", 0.5)
    recorder.set("client", {"patience": 6, "comeback": None})
    recorder.set("baseline", {"begin": 1.0, "end": 9.0})
    recorder.set("heal_at", 12.5)
    history = reopen()
    assert (history.speed, history.deadline) == (30, 0.5)
    assert (history.patience, history.comeback) == (6, float("inf"))
    assert history.baseline == Span(1.0, 9.0)
    assert history.heal_at == 12.5


def test_a_killed_run(reopen: Reopen, recorder: Recorder) -> None:
    """Without an end, the run was killed, and ended with the last operation that was due."""
    recorder.add(FIRST, SECOND)
    recorder.flush()
    history = reopen()
    assert history.end_at == SECOND.due
    assert history.interrupted == "the run was killed"
    recorder.set("end_at", 8.0)
    assert reopen().interrupted is None
    recorder.set("interrupted", "Ctrl-C")
    assert reopen().interrupted == "Ctrl-C"
    assert reopen().end_at == 8.0


def test_rows_wait_until_they_are_written(reopen: Reopen, recorder: Recorder) -> None:
    """A row is in the file after a flush, not before."""
    recorder.add(FIRST)
    assert list(reopen().operations()) == []
    recorder.flush()
    assert list(reopen().operations()) == [FIRST]


def test_a_kill_loses_the_last_rows_alone(path: Path, reopen: Reopen) -> None:
    """What a recorder wrote before its process was killed can be read."""
    path.parent.mkdir()
    code = """
import os, pathlib, signal, sys
from cachesim.history.reader import History
from cachesim.history.recorder import Recorder
from cachesim.history.rows import Sample
path = pathlib.Path(sys.argv[1])
recorder = Recorder(path, interval=0.01)
recorder.add(Sample(1.0, "redis-a", "offset", 17.0))
while not History(path).samples("offset"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, path], timeout=30)
    assert reopen().samples("offset") == [SAMPLE]


def test_several_recorders(path: Path, reopen: Reopen, recorder: Recorder) -> None:
    """Several recorders write to one file."""
    with Recorder(path, interval=NEVER) as other:
        recorder.add(FIRST)
        other.add(SECOND)
        recorder.flush()
        other.flush()
        assert list(reopen().operations()) == [FIRST, SECOND]


def test_sealed_is_one_file(path: Path, reopen: Reopen, recorder: Recorder) -> None:
    """A sealed history is one file, and has what was not yet written."""
    recorder.add(FIRST)
    recorder.close(seal=True)
    recorder.close()
    assert list(path.parent.iterdir()) == [path]
    assert list(reopen().operations()) == [FIRST]


def test_a_wrong_row_is_told(path: Path) -> None:
    """What the tables refuse is raised by the next call, not lost in silence."""
    path.parent.mkdir()
    recorder = Recorder(path, interval=NEVER)
    wrong: Any = "odd"
    recorder.add(FIRST._replace(outcome=wrong))
    with pytest.raises(sqlite3.IntegrityError):
        recorder.flush()
    with pytest.raises(sqlite3.IntegrityError):
        recorder.add(FIRST)
    with pytest.raises(sqlite3.IntegrityError):
        recorder.close()


def test_no_history(path: Path) -> None:
    """A file that is missing is not made."""
    with pytest.raises(sqlite3.Error):
        History(path)
    assert not path.parent.exists()


@pytest.mark.parametrize("opened", [History, Recorder])
def test_what_is_no_history_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[Path], object]
) -> None:
    """Nothing stays open of a file that is something else."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*args: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*args, **options))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    (file := tmp_path / "other").write_text("no history\n" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        opened(file)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


def test_a_history_is_not_written_to(reopen: Reopen, recorder: Recorder) -> None:
    """Who reads a history can't change it."""
    recorder.flush()
    with pytest.raises(sqlite3.OperationalError):
        reopen().rows("DELETE FROM operations")


@pytest.mark.usefixtures("recorder")
def test_columns_are_the_fields(reopen: Reopen) -> None:
    """Every table has the fields of its rows, and operations their id."""
    history = reopen()
    for kind, table in TABLES.items():
        columns = [name for _, name, *_ in history.rows(f"PRAGMA table_info({table})")]
        assert [name for name in columns if (table, name) != ("operations", "id")] == list(
            kind._fields
        )


@pytest.mark.usefixtures("recorder")
def test_computes_once(reopen: Reopen) -> None:
    """What is made of a history is made once for each function."""
    history, calls = reopen(), []

    def size(of: History) -> int:
        calls.append(of)
        return len(of.meta)

    assert history.compute(size) == history.compute(size) == 0
    assert history.compute(id) == id(history)
    assert calls == [history]


def test_recorders_that_begin_together(tmp_path: Path) -> None:
    """Several may make the file at the same moment."""
    together = threading.Barrier(4)

    def begin(path: Path) -> None:
        together.wait(10)
        Recorder(path).close()

    with ThreadPoolExecutor(4) as threads:
        for number in range(20):
            list(threads.map(begin, [tmp_path / f"{number}.sqlite"] * 4))


def test_a_row_that_can_not_be_written(tmp_path: Path) -> None:
    """It is an error of the next call, not a silent loss."""
    recorder = Recorder(tmp_path / "history.sqlite", NEVER)
    recorder.add(FIRST._replace(written=2**63))
    with pytest.raises(OverflowError):
        recorder.flush()
    with pytest.raises(OverflowError):
        recorder.add(FIRST)
    with pytest.raises(OverflowError):
        recorder.close()
