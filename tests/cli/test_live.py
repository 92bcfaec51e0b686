"""The live view of `cachesim up`: what fits on a terminal, and what stays on it."""

import contextlib
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from cachesim import Simulator
from cachesim.cli.live import state, told
from cachesim.dashboard.picture import FaultPicture, Picture, picture
from cachesim.events import Event
from cachesim.topology import production
from tests.cli import screenshots
from tests.processes import Process, call

WIDTHS = screenshots.WIDTHS
NODES = [node.name for node in production().nodes]


def seen(*faults: tuple[str, str, float | None], stopped: str = "redis-a") -> Picture:
    """A topology with faults: their kinds, targets and seconds."""
    now = picture(
        production(),
        {
            "name": "demo",
            "backend": "embedded",
            "engine": "redis",
            "speed": 30,
            "seed": 7,
            "folder": None,
            "pid": 1,
            "uptime_seconds": 0,
            "owned_by": None,
            "leased_by": None,
            "toxiproxy": {},
            "control_plane": "promoting",
            "nodes": [
                {
                    "name": name,
                    "zone": name[-1],
                    "role": "replica" if name.startswith("redis") else None,
                    "state": "stopped" if name == stopped else "running",
                    "endpoint": f"127.0.0.1:5432{number}",
                }
                for number, name in enumerate(NODES)
            ],
            "faults": [],
        },
    )
    now["faults"] = [fault(str(number), *it) for number, it in enumerate(faults, 1)]
    return now


def fault(number: str, kind: str, target: str, seconds: float | None) -> FaultPicture:
    """An active fault."""
    return {
        "id": number,
        "name": kind.split()[0],
        "kind": kind,
        "target": target,
        "seconds": seconds,
        "zones": [],
        "nodes": [],
        "links": [],
        "endpoints": [],
    }


def lines(now: Picture, width: int, height: int = 24) -> list[str]:
    """The view as text."""
    return [line.plain for line in state(now, width, height)]


TWO = (("latency of 200 ms", "client-to-redis-a and 5 more", 88.2), ("kill", "redis-a", None))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(width: int) -> None:
    """Two faults and a failover fit, with each name, address and time in one piece."""
    shown = lines(seen(*TWO), width)
    assert len(shown) < 24
    assert max(map(cell_len, shown)) <= width
    assert shown[1] == "shard promoting, 1 of 6 nodes NOT RUNNING, 2 faults"
    for number, name in enumerate(NODES):
        (line,) = (it for it in shown if it.startswith(f"{name} "))
        assert line.endswith(f" 127.0.0.1:5432{number}")
        assert (" STOPPED " if name == "redis-a" else " running ") in line
    text = " ".join(shown)
    assert "1   latency of 200 ms on client-to-redis-a and 5 more," in text
    assert "healed in 1m29s" in text
    assert "2   kill on redis-a" in shown


def test_no_power_is_said() -> None:
    """The nodes of a zone without power have no power, whatever their processes do."""
    now = seen()
    for node in now["nodes"]:
        node["has_power"] = node["zone"] != "c"
    shown = lines(now, 80)
    assert [it.split()[0] for it in shown if "NO POWER" in it] == ["redis-c", "memcached-c"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("number", [12, 13, 14, 15, 60])
def test_more_faults_than_lines(number: int, width: int) -> None:
    """If there is no room for all faults, the last line says how many are left out."""
    shown = lines(seen(*[("kill", "redis-a", None)] * number), width)
    assert len(shown) <= 24
    told = sum(it.endswith("kill on redis-a") for it in shown)
    assert told == (number if number <= 13 else 12)
    if told < number:
        assert shown[-2] == f"and {number - told} more: cachesim fault list"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_event_breaks_between_words(width: int) -> None:
    """A message that is too long begins on a line of its own; no name is broken."""
    message = "Failover from primary node redis-a to replica node redis-b completed"
    event = Event(0, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "failover", "redis-b", message)
    shown = [line.plain for line in told(event, width)]
    assert max(map(cell_len, shown)) <= width
    assert " ".join(" ".join(shown).split()) == f"03:04:05.000 failover redis-b {message}"
    assert shown[0].startswith("03:04:05.000  failover    redis-b")
    if width < 100:
        assert shown[1].startswith(" " * 14 + "Failover from primary node redis-a to replica")
    else:
        assert len(shown) == 1


def test_screenshots(tmp_path: Path) -> None:
    """A running topology is shown whole at each width, with its faults and its failover."""
    with Simulator(backend="embedded", speed=30, seed=7) as sim:
        screenshots.break_(sim)
        files = screenshots.take(sim, tmp_path)
        endpoints = [node.endpoint for node in sim.nodes.values()]
    for file, width in zip(files, WIDTHS, strict=True):
        rows: dict[float, str] = {}
        texts = ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314
        for element in texts:
            if "textLength" in element.attrib:  # the others are the frame's
                x, y, length = (float(element.attrib[it]) for it in ("x", "y", "textLength"))
                assert round((x + length) / CHARACTER) <= width + 1  # with the end of the line
                text = (element.text or "").replace("\N{NO-BREAK SPACE}", " ")
                rows[y] = rows.get(y, "").ljust(round(x / CHARACTER)) + text
        shown = [row.rstrip() for row in rows.values()]
        for endpoint in endpoints:
            assert sum(row.endswith(f" {endpoint}") for row in shown) == 1, shown
        text = " ".join(" ".join(shown).split())
        assert "latency of 200 ms on client-to-" in text
        assert "kill on redis-a" in text
        assert "Failover from primary node redis-a to replica node redis-" in text


CHARACTER = 12.2
"""The width of one in a screenshot."""


@pytest.mark.usefixtures("alone")
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_story_stays(tmp_path: Path) -> None:
    """Events are above the state as it was last; Ctrl-C erases neither."""
    ours, theirs = os.openpty()
    name, printed, grown = f"cli-{os.urandom(3).hex()}", bytearray(), threading.Condition()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while data := os.read(ours, 65536):
                with grown:
                    printed.extend(data)
                    grown.notify_all()

    def is_shown(text: bytes) -> None:
        with grown:
            assert grown.wait_for(lambda: text in printed, 60), bytes(printed)

    words = ["up", "--name", name, "--backend", "embedded"]
    variables = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with Process(tmp_path, *words, stdout=theirs, **variables) as process:
        os.close(theirs)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        is_shown(b"shard available")
        assert call(tmp_path, "-m", "cachesim", "kill", "memcached-b").returncode == 0
        is_shown(b"STOPPED")
        process.interrupt()
        assert process.end() == 0
    reader.join(60)
    os.close(ours)
    text = printed.decode()
    assert "\x1b[?1049h" not in text  # no alternate screen, which would vanish
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text[text.rindex("\x1b[1A") :])
    assert "1 of 6 nodes NOT RUNNING, 1 fault" in last
    assert re.search(r"^memcached-b +az-b +STOPPED +127", last, re.M)
    assert re.search(r"fault +memcached-b +kill", text)
    assert process.err.endswith("Taking everything down.\nEverything is down.\n")
