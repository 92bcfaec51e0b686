"""`cachesim up --dashboard` and `cachesim dashboard`: the page's address, and the end."""

import json
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from cachesim.cli.app import main
from cachesim.dashboard.serving import served
from cachesim.errors import CachesimError
from cachesim.simulator.simulator import Simulator
from tests.processes import environment

LIMIT = 60.0  # seconds


def begun(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """A command that goes on."""
    env = environment(folder, PYTHONUNBUFFERED="1")
    return subprocess.Popen(
        [sys.executable, "-m", "cachesim", *words],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def url_in(process: "subprocess.Popen[str]") -> str:
    """The address that a command prints."""
    assert process.stdout
    for line in process.stdout:
        if match := re.search(r'http://127\.0\.0\.1:\d+/\?token=[^\s"]+', line):
            return match.group()
    raise AssertionError(process.communicate())


def status_of(url: str) -> int:
    """What the page answers."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=LIMIT)
    try:
        connection.request("GET", f"/?{parts.query}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_until_the_end(alone: Path) -> None:
    """Both serve a page of one topology, and end with it, without an error."""
    up = begun(
        alone, "up", "--dashboard", "--name", "seen", "--backend", "embedded", "--speed", "100"
    )
    own = url_in(up)
    beside = begun(alone, "dashboard", "--name", "seen", "--no-open", "--json")
    try:
        assert beside.stdout
        told = json.loads(beside.stdout.readline())
        assert told["name"] == "seen"
        assert urlsplit(told["url"]).netloc != urlsplit(own).netloc
        assert [status_of(url) for url in (own, told["url"])] == [303, 303]
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=LIMIT)
        assert up.returncode == 0, said
        said = beside.communicate(timeout=LIMIT)
        assert beside.returncode == 0, said
    finally:
        for process in (up, beside):
            if process.poll() is None:
                process.kill()
            process.communicate()


def test_not_detached() -> None:
    """The page of a detached topology is another command."""
    result = CliRunner().invoke(main, ["up", "-d", "--dashboard"])
    assert result.exit_code == 2
    assert "run `dashboard`" in result.output


def test_port_that_is_taken() -> None:
    """The error says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        serving = served(cast(Simulator, None), port)
        with (
            pytest.raises(CachesimError, match=rf"port {port} .*in use\. Choose another\."),
            serving,
        ):
            pass
