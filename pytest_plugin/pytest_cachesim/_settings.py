"""The settings of a run, from its options, and of a test, from its markers."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cachesim.runs.env import REQUIRE_DOCKER, SWITCHES
from cachesim.settings import CHANGEABLE, variable
from pytest_cachesim import SETTINGS, chosen, is_yes
from pytest_cachesim._scenario import SCENARIO

if TYPE_CHECKING:
    from cachesim.settings import LoadedSettings, Settings

_SPEED = 30
_MARKER = "marker cachesim"


def load(config: pytest.Config) -> "LoadedSettings":
    """Load the settings: option > environment > ini option > file > the plugin's default.

    Raises:
        pytest.UsageError: a setting is wrong, or a variable that only pytest reads is misspelt.
    """
    from cachesim.errors import SettingsError
    from cachesim.settings import load_settings, misspelt

    if mistakes := misspelt(os.environ, SWITCHES.keys() - {"CACHESIM"}):
        raise pytest.UsageError("\n".join(mistakes))
    given: dict[str, object] = {}
    origins = {}
    for key in SETTINGS:
        option, ini = config.getoption(f"cachesim_{key}"), config.getini(f"cachesim_{key}")
        if option is not None:
            given[key], origins[key] = option, f"--cachesim-{key}"
        elif ini and not os.environ.get(variable(key), "").strip():
            given[key], origins[key] = ini, f"ini option cachesim_{key}"
    try:
        loaded = load_settings(given, directory=config.rootpath)
        if loaded.sources["speed"] == "default":
            loaded = load_settings({**given, "speed": _SPEED}, directory=config.rootpath)
    except SettingsError as error:
        raise pytest.UsageError(_told(error, given, origins)) from error
    return loaded


def marked(config: pytest.Config, base: "Settings", changes: Mapping[str, Any]) -> "Settings":
    """Return the settings of a test.

    Args:
        base: the settings of the run.
        changes: the settings of the test's markers, by name.

    Raises:
        SettingsError: a setting is wrong.
    """
    from cachesim.errors import SettingsError
    from cachesim.settings import Settings, load_settings

    if "name" in changes:
        raise SettingsError(f"name ({_MARKER}): it is random for each topology. Leave it out.")
    for key in changes.keys() - Settings.model_fields.keys():
        if get_close_matches(key, [SCENARIO]):  # the marker has it besides the settings
            raise SettingsError(f"{key} ({_MARKER}): unknown key; did you mean {SCENARIO}?")
    try:
        loaded = load_settings({**base.model_dump(), **changes}, directory=config.rootpath)
    except SettingsError as error:
        raise SettingsError(_told(error, changes, dict.fromkeys(changes, _MARKER))) from error
    kept = {key: getattr(base, key) for key in ("name", "ports") if key not in changes}
    return loaded.settings.model_copy(update=kept)


def changeable(settings: "Settings") -> dict[str, Any]:
    """Return the settings that a running topology can change, by name."""
    return {key: getattr(settings, key) for key in CHANGEABLE}


def own(settings: "Settings", base: "Settings") -> "Settings | None":
    """Return the settings of a test that needs a topology of its own; None if it needs none."""
    needed = settings.model_copy(update=changeable(base))
    return None if needed == base else needed


def demand(loaded: "LoadedSettings") -> str | None:
    """Return why tests fail without a Docker engine; None if they are skipped.

    Raises:
        pytest.UsageError: the variable means neither yes nor no.
    """
    if word := os.environ.get(REQUIRE_DOCKER, "").strip():
        if (answer := is_yes(word)) is None:
            raise pytest.UsageError(f"environment {REQUIRE_DOCKER} = {word!r}: should be 1 or 0")
        if answer:
            return f"{REQUIRE_DOCKER} is set"
    is_asked = loaded.settings.backend == "docker" and loaded.sources["backend"] != "default"
    return "the backend is docker" if is_asked else None


def told(error: Exception) -> str:
    """Return the message of an error, with pytest's options in place of the shell's."""
    ours = rf"(?<=`)--(?=(?:{'|'.join(SETTINGS)})\b)"
    message = re.sub(ours, "--cachesim-", str(error))
    return re.sub(r"(?<=hoose one with )--name", "--cachesim-attach=NAME", message)


def attached(config: pytest.Config) -> tuple[bool, str | None]:
    """Return whether to attach to a topology that runs already, and its name, if one was given.

    Raises:
        pytest.UsageError: the name is a path.
    """
    value = chosen(config, "cachesim_attach")
    name = str(value) if value else "0"
    answer = is_yes(name)
    if answer is not None:
        return answer, None
    if _is_path(name, config.invocation_params.dir):
        raise pytest.UsageError(
            f"--cachesim-attach took {name!r} for the name of a topology: write paths before the "
            f"option, or --cachesim-attach=1 {name} for the only topology that is up"
        )
    return True, name


def _is_path(name: str, folder: Path) -> bool:
    """Return whether this is a test's path rather than the name of a topology."""
    from cachesim.runs.registry import living_runs

    path = folder / name.partition("::")[0]
    return path.exists() and all(run.name != name for run in living_runs())


def _told(error: Exception, given: Mapping[str, object], origins: Mapping[str, str]) -> str:
    """Return the message of a SettingsError, with the options and markers in place of arguments."""
    message = str(error)
    for key, origin in origins.items():
        for text in (key, f"{key} = {given[key]!r}"):
            message = message.replace(f"{text} (argument)", f"{text} ({origin})")
    return message
