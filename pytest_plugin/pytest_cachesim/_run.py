"""The topologies of one pytest process, and its hooks."""

import itertools
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from cachesim.settings import CHANGEABLE
from pytest_cachesim import _settings, switch
from pytest_cachesim._faults import BodyFaults
from pytest_cachesim._observed import Observed
from pytest_cachesim._report import Reports
from pytest_cachesim._scenario import SCENARIO, Beside, fail, scenario_of
from pytest_cachesim._signals import Signals, held
from pytest_cachesim._timer import Timer

if TYPE_CHECKING:
    from cachesim.settings import Settings
    from cachesim.simulator.launching import DaemonProcess
    from cachesim.simulator.simulator import Simulator

_SEED, _TOLD = "cachesim_seed", "cachesim_told"  # the keys of what xdist sends to and from workers
_LEFT = "`cachesim gc`, or the next start of a topology, removes what is left."
_KEPT = """The topology {0} is kept as the last test has left it:
    cachesim status --name {0}
    pytest --cachesim --cachesim-attach {0}
    cachesim down --name {0}"""


class Run:
    """The settings of a pytest run, and its topology once a test has asked for it; a plugin.

    Raises:
        pytest.UsageError: a setting is wrong.

    Attributes:
        seed: the seed of the whole run, including its workers.
        observed: what the present test has observed.
        user: the last test that was given a topology.
        sim: the present topology; None: there is none yet.
        is_up: whether it can be asked.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        loaded = _settings.load(config)
        settings = loaded.settings
        # xdist's controller chooses the seed of its workers.
        shared: dict[str, int] = getattr(config, "workerinput", {})
        seed = shared.get(_SEED, settings.seed)
        self.seed = secrets.randbits(32) if seed is None else seed
        # No name and no ports: each worker starts a topology, and the user's shell may name another
        # one, which `cachesim up` runs.
        own = {"seed": self.seed, "name": None, "ports": None}
        self._settings = settings.model_copy(update=own)
        self._demand = _settings.demand(loaded)
        self._is_attached, self._attach_to = _settings.attached(config)
        self._reason = "" if self._is_attached else self._choose()
        self._is_kept = switch(config, "cachesim_keep") and not self._is_attached
        # The settings that an attached topology must have.
        self._asked = {
            key: getattr(settings, key)
            for key in ("backend", "engine")
            if loaded.sources[key] == "argument"
        }
        self._marked: dict[str, Settings] = {}
        self._owns: dict[Settings, Settings] = {}
        self._main_settings = _named(self._settings)
        self._process: DaemonProcess | None = None
        self._main: Simulator | None = None
        self.sim: Simulator | None = None
        self._own: Settings | None = None
        self.is_up = False
        self.user: pytest.Item | None = None
        self.observed = Observed()
        self._reports = Reports(config, self)
        self._timer = Timer()
        for name, plugin in (
            ("observed", self.observed),
            ("faults", BodyFaults()),
            ("reports", self._reports),
            ("timer", self._timer),
        ):
            config.pluginmanager.register(plugin, f"cachesim-{name}")
        self._beside: Beside | None = None
        self._told: list[str] = []
        self._signals = Signals()
        self._signals.install()

    def __str__(self) -> str:
        it = self._settings
        what = f"backend {it.backend}{self._reason}, engine {it.engine}"
        if self._is_attached:
            what = f"attached to {self._attach_to or 'the topology that is up'}"
        end = ", kept" if self._is_kept else ""
        return f"{what}, speed {it.speed:g}, seed {it.seed}{end}"

    def _choose(self) -> str:
        """Choose a backend, once for all topologies; return why it was chosen."""
        from cachesim.backends.selection import choose

        if self._settings.backend != "auto":
            return ""
        backend, reason = ("docker", "required") if self._demand else choose(self._settings)
        self._settings = self._settings.model_copy(update={"backend": backend})
        return f" ({reason})"

    # --- topologies -------------------------------------------------------------------------

    @contextmanager
    def topology(self, request: pytest.FixtureRequest) -> Iterator["Simulator"]:
        """Enter the run's topology, or another one for tests that need their own.

        If it does not start, the tests that need it are skipped or fail.

        Args:
            request: its parameter, if any, has the settings of tests that need their own topology.
        """
        own: Settings | None = getattr(request, "param", None)
        with ExitStack() as life:
            if own is not None:
                sim = self._start(partial(self._new, own), life)
            elif self._main is not None:
                sim = self._main
                self._reports.mark = sim.events.mark()
            else:
                # It stays up while tests have their own.
                session = life.pop_all()
                request.session.addfinalizer(session.close)
                sim = self._main = self._start(self._make_main, session)
            self.sim, self._own, self.is_up = sim, own, True
            yield sim
            self.is_up = False

    def _new(self, settings: "Settings") -> "Simulator":
        from cachesim.simulator.simulator import Simulator

        return Simulator(_named(settings))

    def _make_main(self) -> "Simulator":
        from cachesim.simulator.simulator import Simulator

        if self._is_attached:
            mine = self._asked | _settings.changeable(self._settings)
            return Simulator.attach(self._attach_to, **mine)
        process, self._process = self._process, None
        if process is None:
            return Simulator(self._main_settings)
        return Simulator.prepared(process, self._main_settings)

    def _start(self, make: "Callable[[], Simulator]", life: ExitStack) -> "Simulator":
        from cachesim.errors import BackendUnavailable, CachesimError, ImageMissing

        self.sim, self._reports.mark = None, 0  # another one's events are no part of a report
        try:
            sim = make()
            life.callback(self._stop, sim)
            with ExitStack() as quiet:
                steps = itertools.count(1)

                def step(_line: str) -> None:
                    quiet.close()
                    # The first step pulls the images, which may take minutes. The second creates
                    # containers; an interrupt there would leave unknown ones behind.
                    if next(steps) == 2:
                        quiet.enter_context(held())

                with self._timer.stopped():
                    sim.start(step)
                    if not self._is_attached:
                        sim.lease()
        except (BackendUnavailable, ImageMissing) as error:
            if self._demand is None:
                pytest.skip(f"cachesim: {_settings.told(error)}")
            message = f"{self._demand}, but {_settings.told(error)}"
            raise pytest.fail.Exception(message, pytrace=False) from None
        except CachesimError as error:
            fail(f"the topology did not start: {_settings.told(error)}")
        self._told.append(
            f"Ran on {sim.backend}, engine {sim.settings.engine}. "
            f"--cachesim-seed={self.seed} repeats the random draws."
        )
        return sim

    def _stop(self, sim: "Simulator") -> None:
        self.is_up = False
        is_attached = sim is self._main and self._is_attached
        try:
            try:
                if is_attached:
                    sim.reset()
            finally:
                with held():
                    if sim is self._main and self._is_kept:
                        sim.detach()
                        self._told.append(_KEPT.format(sim.name))
                    else:
                        sim.stop()
        except Exception as error:
            if is_attached:
                fail(f"the attached topology could not be reset at the end: {error!r}")
            fail(f"the topology could not be taken down: {error!r}. {_LEFT}")

    # --- tests ------------------------------------------------------------------------------

    @contextmanager
    def test(self, item: pytest.Item, sim: "Simulator") -> Iterator["Simulator"]:
        """Reset the topology before a test, and heal it after the test."""
        from cachesim.control_plane.timing import Timing

        self.user = item
        wanted = self._wanted(item)
        self._check_topology(wanted)
        if self._own is None and self._is_attached:
            for key in _changes(item).keys() - set(CHANGEABLE):
                mine, theirs = getattr(wanted, key), getattr(sim.settings, key)
                if mine != theirs:
                    fail(
                        f"this test needs {key} = {mine!r}, but the attached topology has "
                        f"{theirs!r}. Run it without --cachesim-attach."
                    )
        timing = Timing.of(sim.settings.model_copy(update=_settings.changeable(wanted)))
        # Not the item's id: xdist may add the name of a group to it.
        draws = f"{item.parent.nodeid}::{item.name}" if item.parent else item.nodeid
        try:
            sim.reset(draws, timing=timing, seed=wanted.seed)
        except Exception as error:
            fail(f"the topology could not be reset before the test: {error}")
        if (name := scenario_of(item)) is not None:
            self._beside = Beside.of(name, item, sim, wanted.seed or 0)
        yield sim
        self._beside = None
        try:
            sim.heal()
        except Exception as error:
            fail(f"the topology could not be healed after the test: {error}")

    def _check_topology(self, wanted: "Settings") -> None:
        """Let a test fail whose settings the present topology does not have, and can't adopt."""
        if _settings.own(wanted, self._settings) != self._own:
            fail(
                "the marker of this test needs another topology. Make the fixture an argument of "
                "the test function, and put the marker on the function, its class or its module. A "
                "unittest.TestCase can't have another topology: use a class without it."
            )

    def _wanted(self, item: pytest.Item) -> "Settings":
        """Return the settings of a test: the run's, with those of its markers."""
        from cachesim.errors import SettingsError

        changes = _changes(item)
        if not changes:
            return self._settings
        key = repr(changes)
        if key not in self._marked:
            try:
                self._marked[key] = _settings.marked(self._config, self._settings, changes)
            except SettingsError as error:
                fail(f"{item.nodeid}: {error}")
        return self._marked[key]

    # --- hooks ------------------------------------------------------------------------------

    def pytest_report_header(self) -> str:
        """Show the settings."""
        return f"cachesim: {self}"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize tests whose markers need another topology with its settings.

        So pytest sets up the topology and all fixtures on it again for them. Tests with the same
        settings share a topology.
        """
        if "cachesim_session" in metafunc.fixturenames:
            self._start_process()
        if metafunc.definition.get_closest_marker("cachesim") is None:
            return
        own = _settings.own(self._wanted(metafunc.definition), self._settings)
        if own is not None and "cachesim_session" in metafunc.fixturenames:
            own = self._owns.setdefault(own, own)  # pytest 8 compares parameters by identity
            # Hidden, so that the ids of tests do not depend on --cachesim.
            hidden: Any = getattr(pytest, "HIDDEN_PARAM", "cachesim")  # since pytest 8.4
            metafunc.parametrize(
                "cachesim_session", [own], indirect=True, ids=[hidden], scope="session"
            )

    def _start_process(self) -> None:
        """Start the topology's process, which gets ready while pytest collects the other tests."""
        if self._process or self._is_attached or self._config.getoption("collectonly"):
            return
        from cachesim.errors import StartError
        from cachesim.simulator.launching import DaemonProcess

        with suppress(StartError):  # the first test that needs it says so
            self._process = DaemonProcess()
            self._process.order({"settings": self._main_settings.model_dump(mode="json")})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Run the scenario of a test beside it."""
        if self._beside is None:
            if scenario_of(item) is not None:
                fail("a scenario runs on the fixture `cachesim`: make it an argument of the test")
            self._refuse_settings(item)
            return (yield)
        with self._beside.running():
            return (yield)

    def _refuse_settings(self, item: pytest.Item) -> None:
        """Let a test without `cachesim` fail whose topology has not the settings of its marker."""
        if self.user is item or "cachesim_session" not in getattr(item, "fixturenames", ()):
            return
        self._check_topology(self._wanted(item))
        if unused := sorted(_changes(item).keys() & set(CHANGEABLE)):
            fail(
                f"the fixture `cachesim` sets the marker's {' and '.join(unused)}: make it, or one "
                "that uses it, an argument of the test"
            )

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Send the lines of the summary to xdist's controller."""
        try:
            # After pytest.exit(), what is up is taken down here.
            return (yield)
        finally:
            if (output := getattr(self._config, "workeroutput", None)) is not None:
                output[_TOLD] = [*self._told, *self._reports.told]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print what the tests ran on, how to repeat the run, and what is still up."""
        told = dict.fromkeys([*self._told, *self._reports.told])
        if told:
            terminalreporter.write_sep("=", "cachesim")
        for text in told:
            terminalreporter.write_line(text)

    def pytest_unconfigure(self) -> None:
        """Restore the signal handlers, and end the process that no test has used."""
        if self._process is not None:
            self._process.close()
        self._signals.restore()

    # --- with xdist -------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        """Refuse to attach several workers to one topology."""
        if self._is_attached and len(specs) > 1:
            raise pytest.UsageError(
                f"--cachesim-attach: one process at a time can attach to a topology, and there "
                f"would be {len(specs)} workers. Run with -n0, or without --cachesim-attach: then "
                "each worker starts its own topology."
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send a worker of xdist the seed."""
        node.workerinput[_SEED] = self.seed

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Remember a worker, which is to end with this process."""
        if (pid := _pid(node)) is not None:
            self._signals.workers.add(pid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Forget a worker, and keep its lines for the summary."""
        self._signals.workers.discard(_pid(node) or 0)
        self._told += getattr(node, "workeroutput", {}).get(_TOLD, [])


def _changes(item: pytest.Item) -> dict[str, Any]:
    """Return the settings of a test's markers by name; the closest marker wins.

    Those that are None are left out: they are as for the run.
    """
    marks = list(item.iter_markers("cachesim"))
    if any(mark.args for mark in marks):
        fail(f"{item.nodeid}: the marker cachesim takes settings by name, such as speed=60")
    changes: dict[str, Any] = {}
    for mark in reversed(marks):
        changes |= mark.kwargs
    changes.pop(SCENARIO, None)
    return {key: value for key, value in changes.items() if value is not None}


def _pid(node: Any) -> int | None:
    """Return the pid of a worker on this machine; None if it is unknown."""
    # execnet has no public name for this. Without the pid, the worker ends some seconds later.
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    return getattr(process, "pid", None) if node.gateway.spec.popen else None


def _named(settings: "Settings") -> "Settings":
    return settings.model_copy(update={"name": f"pytest-{secrets.token_hex(3)}"})
