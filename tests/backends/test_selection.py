"""The choice of a backend."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cachesim.backends import selection
from cachesim.backends.selection import choose, no_engine_configured
from cachesim.settings import Settings

pytestmark = pytest.mark.usefixtures("alone")


def test_choice_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no engine answers, it is the embedded backend, and the reason has the error."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    backend, reason = choose(Settings())
    assert backend == "embedded"
    assert "refused" in reason


@pytest.mark.usefixtures("require_docker")
def test_choice_with_an_engine() -> None:
    """An engine with the images is chosen; if one is missing, only if it may be pulled."""
    assert choose(Settings())[0] == "docker"
    lacking: dict[str, Any] = {"memcached_image": "cachesim.invalid/nothing:1"}
    assert choose(Settings(**lacking))[0] == "docker"
    backend, reason = choose(Settings(**lacking, pull_images="never"))
    assert backend == "embedded"
    assert "cachesim.invalid/nothing:1 is missing" in reason


@pytest.mark.usefixtures("require_docker")
def test_choice_with_a_bad_name_of_an_image() -> None:
    """The engine that refuses it answers: it is chosen, and the start says what is wrong."""
    assert choose(Settings(redis_image=":::"))[0] == "docker"


def test_what_was_chosen_is_taken() -> None:
    """A backend that the settings name is chosen without a check."""
    assert choose(Settings(backend="docker"))[0] == "docker"
    assert choose(Settings(backend="embedded"))[0] == "embedded"


@pytest.mark.skipif(os.name != "posix", reason="users are POSIX's")
def test_choice_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user without a home, testcontainers can't be imported: the backend is embedded."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    for module in [it for it in sys.modules if it.partition(".")[0] == "testcontainers"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(selection, "_SOCKET", Path("/nowhere"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert choose(Settings()) == ("embedded", no_engine_configured())
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    backend, reason = choose(Settings())
    assert backend == "embedded"
    assert reason.endswith("Set HOME to a folder.")
