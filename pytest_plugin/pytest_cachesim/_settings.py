"""What was chosen: by options for a run, and by markers for a test."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cachesim.settings import CHANGEABLE
from pytest_cachesim import SETTINGS, chosen, is_yes

if TYPE_CHECKING:
    from cachesim.settings import LoadedSettings, Settings

_SPEED = 30
_MARKER = "marker cachesim"


def load(config: pytest.Config) -> "LoadedSettings":
    """Load the settings: option > environment > ini option > file > the plugin's default.

    Raises:
        pytest.UsageError: one is wrong.
    """
    from cachesim.errors import SettingsError
    from cachesim.settings import load_settings

    given: dict[str, object] = {}
    origins = {}
    for key in SETTINGS:
        option, ini = config.getoption(f"cachesim_{key}"), config.getini(f"cachesim_{key}")
        if option is not None:
            given[key], origins[key] = option, f"--cachesim-{key}"
        elif ini and not os.environ.get(f"CACHESIM_{key.upper()}", "").strip():
            given[key], origins[key] = ini, f"ini option cachesim_{key}"
    try:
        loaded = load_settings(given, directory=config.rootpath)
        if loaded.sources["speed"] == "default":
            loaded = load_settings({**given, "speed": _SPEED}, directory=config.rootpath)
    except SettingsError as error:
        raise pytest.UsageError(_told(error, given, origins)) from error
    return loaded


def marked(config: pytest.Config, base: "Settings", changes: Mapping[str, Any]) -> "Settings":
    """The settings of a test.

    Args:
        base: those of the run.
        changes: what its markers say, by name.

    Raises:
        SettingsError: one of them is wrong.
    """
    from cachesim.errors import SettingsError
    from cachesim.settings import load_settings

    if "name" in changes:
        raise SettingsError(f"name ({_MARKER}): is drawn for each topology, and can't be chosen")
    try:
        loaded = load_settings({**base.model_dump(), **changes}, directory=config.rootpath)
    except SettingsError as error:
        raise SettingsError(_told(error, changes, dict.fromkeys(changes, _MARKER))) from error
    return loaded.settings.model_copy(update={"name": base.name})


def changeable(settings: "Settings") -> dict[str, Any]:
    """Those that a running topology can change, by name."""
    return {key: getattr(settings, key) for key in CHANGEABLE}


def own(settings: "Settings", base: "Settings") -> "Settings | None":
    """The settings of the topology that a test needs for itself; None: the run's will do."""
    needed = settings.model_copy(update=changeable(base))
    return None if needed == base else needed


def borrowed(config: pytest.Config) -> tuple[bool, str | None]:
    """Whether the topology is one that runs already, and its name, if one was given.

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
            f"--cachesim-attach took {name!r} for the name of a topology: write paths before it, "
            f"or --cachesim-attach=1 {name} for the only topology that is up"
        )
    return True, name


def _is_path(name: str, folder: Path) -> bool:
    """Whether this is a test's path rather than the name of a topology."""
    from cachesim.runs.registry import living_runs

    path = folder / name.partition("::")[0]
    return path.exists() and all(run.name != name for run in living_runs())


def _told(error: Exception, given: Mapping[str, object], origins: Mapping[str, str]) -> str:
    """The message of a SettingsError, with the places that its reader knows."""
    message = str(error)
    for key, origin in origins.items():
        for text in (key, f"{key} = {given[key]!r}"):
            message = message.replace(f"{text} (argument)", f"{text} ({origin})")
    return message
