"""pytest-timeout beside the start of a topology."""

from collections.abc import Callable

import pytest

from tests.plugin.fake_simulator import FakeSimulator

RunPytest = Callable[..., pytest.RunResult]

# What pytest-timeout does, without time.
TIMEOUT = """
    import pytest

    from tests.plugin.fake_simulator import FakeSimulator

    class Hooks:
        @pytest.hookspec(firstresult=True)
        def pytest_timeout_set_timer(item, settings): ...
        @pytest.hookspec(firstresult=True)
        def pytest_timeout_cancel_timer(item): ...

    def pytest_addhooks(pluginmanager):
        pluginmanager.add_hookspecs(Hooks)

    def pytest_timeout_set_timer(item, settings):
        FakeSimulator.timers.append(f"set {settings} for {item.name}")
        return True

    def pytest_timeout_cancel_timer(item):
        FakeSimulator.timers.append("cancel")
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(item):
        item.ihook.pytest_timeout_set_timer(item=item, settings=5)
        yield
        item.ihook.pytest_timeout_cancel_timer(item=item)
"""


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_start(
    pytester: pytest.Pytester,
    fake: type[FakeSimulator],
    run_pytest: RunPytest,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    """The timer of the test that starts the topology begins again after the start."""
    timers: list[str] = []
    monkeypatch.setattr(FakeSimulator, "timers", timers, raising=False)
    start = fake.start

    def slow_start(*args: object) -> None:
        timers.append("start")
        start(*args)  # type: ignore[arg-type]
        timers.append("started")
        if error:
            raise error

    monkeypatch.setattr(fake, "start", slow_start)
    pytester.makeconftest(TIMEOUT)
    pytester.makepyfile(
        """
        def test_1(cachesim): pass
        def test_2(cachesim): pass
        """
    )
    run_pytest("--cachesim", "-p", "no:timeout")
    first = ["set 5 for test_1", "cancel", "start", "started", "set 5 for test_1", "cancel"]
    assert timers[: len(first)] == first
    if error is None:
        assert timers[len(first) :] == ["set 5 for test_2", "cancel"]
