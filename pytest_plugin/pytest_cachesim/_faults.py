"""Faults that are there while the body of a test runs, from its markers and its parameters."""

from collections.abc import Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_cachesim import FAULT, _settings
from pytest_cachesim._scenario import fail

if TYPE_CHECKING:
    from cachesim.faults.spec import FaultSpec


class BodyFaults:
    """Checks the faults of tests at collection, and applies them around their bodies; a plugin."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(self) -> Generator[None, object, object]:
        """Check the faults of the tests that a function makes, one for each of its parameters."""
        found = yield
        for item in found if isinstance(found, list) else ():
            if isinstance(item, pytest.Function):
                parameters = getattr(getattr(item, "callspec", None), "params", {})
                _faults_of(item, parameters.get(FAULT))
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Apply the faults of a test when its fixtures are there, and heal them after its body."""
        from cachesim.errors import CachesimError

        values = getattr(item, "funcargs", {})
        faults = _faults_of(item, values.get(FAULT))
        with ExitStack() as applied:
            if faults:
                sim = values["cachesim"]
                try:
                    for fault in sim.faults.apply(faults):
                        applied.enter_context(fault)
                except CachesimError as error:
                    fail(f"the faults of this test could not be applied: {_settings.told(error)}")
            return (yield)


def _faults_of(item: pytest.Item, own: object) -> "list[FaultSpec]":
    """Return the faults of a test: those of its markers, the outermost first, then its own.

    The test, or its collection, fails if one is wrong.

    Args:
        own: the value of the fixture `cachesim_fault`, which may be the user's; None: none.
    """
    given: list[object] = []
    for mark in reversed(list(item.iter_markers(FAULT))):
        if len(mark.args) != 1 or "fault" in mark.kwargs:
            fail(
                f"{item.nodeid}: the marker {FAULT} takes a fault's name, and its fields by name, "
                'such as ("latency", links="client-to-*", ms=200)'
            )
        given.append({"fault": mark.args[0], **mark.kwargs})
    if own is not None:
        given.append(own)
    if not given:
        return []

    from cachesim.errors import InvalidFault
    from cachesim.faults.catalogue import CATALOGUE
    from cachesim.topology import production

    if "cachesim" not in getattr(item, "fixturenames", ()):
        fail(
            f"{item.nodeid}: {FAULT} works on the fixture `cachesim`: make it, or one that uses "
            "it, an argument of the test"
        )
    topology = production()
    try:
        return [CATALOGUE.read(fault).resolve(topology) for fault in given]
    except InvalidFault as error:
        fail(f"{item.nodeid}: {FAULT}: {error}")
