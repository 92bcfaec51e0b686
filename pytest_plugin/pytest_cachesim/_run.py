"""The topology of one pytest process, and the hooks that go with it."""

import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cachesim import SETTINGS

if TYPE_CHECKING:
    from cachesim.config import LoadedSettings
    from cachesim.simulator import Simulator

_SPEED = 30
_SEED = "cachesim_seed"
_LOG_LINES = 20
_LEFT = "What is left, the next start of a topology removes."


class Run:
    """The settings of a pytest run, and its topology once a test has asked for it; a plugin.

    Raises:
        pytest.UsageError: a setting is wrong.

    Attributes:
        seed: one for the whole run, its workers included.
    """

    def __init__(self, config: pytest.Config) -> None:
        settings = _load(config).settings
        # The controller of xdist has drawn for its workers.
        shared: dict[str, int] = getattr(config, "workerinput", {})
        seed = shared.get(_SEED, settings.seed)
        self.seed = secrets.randbits(32) if seed is None else seed
        # The name is never given: each worker starts one, and the user's shell may name another.
        name = f"pytest-{secrets.token_hex(3)}"
        self._settings = settings.model_copy(update={"seed": self.seed, "name": name})
        self._sim: Simulator | None = None
        self._is_up = False
        self._mark = 0
        self._user: pytest.Item | None = None

    def __str__(self) -> str:
        it = self._settings
        return f"backend {it.backend}, engine {it.engine}, speed {it.speed:g}, seed {it.seed}"

    @contextmanager
    def topology(self) -> Iterator["Simulator"]:
        """The topology; skips or fails the tests that need it if it does not come up."""
        from cachesim.errors import BackendUnavailable, CachesimError, ImageMissing
        from cachesim.simulator import Simulator

        sim = Simulator(self._settings)
        try:
            sim.start()
        except (BackendUnavailable, ImageMissing) as error:
            if os.environ.get("CACHESIM_REQUIRE_DOCKER", "") in ("", "0"):
                pytest.skip(f"cachesim: {error}")
            pytest.fail(f"CACHESIM_REQUIRE_DOCKER is set, but {error}", pytrace=False)
        except CachesimError as error:
            pytest.fail(f"cachesim: the topology did not start: {error}", pytrace=False)
        self._sim, self._is_up = sim, True
        yield sim
        self._is_up = False
        try:
            sim.stop()
        except Exception as error:
            _fail(f"the topology could not be taken down: {error!r}. {_LEFT}")

    @contextmanager
    def test(self, item: pytest.Item, sim: "Simulator") -> Iterator["Simulator"]:
        """The topology for one test, as new before it and healed after it."""
        self._user = item
        try:
            sim.reset(draws=item.nodeid)
        except Exception as error:
            _fail(f"the topology could not be reset before the test: {error}")
        yield sim
        try:
            sim.heal()
        except Exception as error:
            _fail(f"the topology could not be healed after the test: {error}")

    # --- hooks ------------------------------------------------------------------------------

    def pytest_report_header(self) -> str:
        """Show the settings."""
        return f"cachesim: {self}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist the seed."""
        node.workerinput[_SEED] = self.seed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Remember where the event log of a test begins."""
        self._mark = self._sim.events.mark() if self._sim else 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to a failing test's report what happened in the topology."""
        report = yield
        if report.failed:
            report.sections += self._sections(item)
        return report

    def _sections(self, item: pytest.Item) -> Iterator[tuple[str, str]]:
        """Nothing, unless the test uses the topology."""
        is_user = item is self._user or "cachesim_session" in getattr(item, "fixturenames", ())
        if self._sim is None or not is_user:
            return
        events = self._sim.events.since(self._mark)
        yield "cachesim events", "\n".join(map(str, events)) or "none since the test began"
        for node in self._sim.nodes.values() if self._is_up else ():
            try:
                log = node.logs(_LOG_LINES) or "empty"
            except Exception as error:  # a report without a log is better than none
                log = f"could not be read: {error!r}"
            yield f"cachesim {node.name}: last {_LOG_LINES} log lines", log


def _load(config: pytest.Config) -> "LoadedSettings":
    """Load the settings: option > environment > ini option > file > the plugin's default."""
    from cachesim.config import load_settings
    from cachesim.errors import SettingsError

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
        message = str(error)
        for key, origin in origins.items():
            value = f"{key} = {given[key]!r}"
            message = message.replace(f"{value} (argument)", f"{value} ({origin})")
        raise pytest.UsageError(message) from error
    return loaded


def _fail(message: str) -> None:
    pytest.fail(f"cachesim: {message}", pytrace=False)
