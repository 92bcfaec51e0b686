"""What a failing test's report says of the topology: the events and node logs of its time."""

import re
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_cachesim import chosen
from pytest_cachesim._artifacts import Artifacts

if TYPE_CHECKING:
    from cachesim.events import Event
    from cachesim.simulator.simulator import Simulator
    from pytest_cachesim._run import Run

_PROPERTY = "cachesim event"
Section = tuple[str, str]
"""A title and its text."""
OPTION = "cachesim_report_lines"
_DEFAULT, _FEWEST = 40, 10
_READ = 1000  # lines of a node's log, at most
_LOG = ": log"
_DATE = re.compile(r"\d+:\w (\d+) (\w{3}) (\d{4}) ([\d:]{8}\.\d{3}) ")  # in each line of Redis
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
"""Not those of `strptime`: a test may set another locale."""


class Reports:
    """Adds what happened in the topology to the reports of failing tests; a plugin.

    Attributes:
        mark: where in the event log the present test begins.
    """

    def __init__(self, config: pytest.Config, run: "Run") -> None:
        self._run = run
        self._lines = lines_of(config)
        self._artifacts = Artifacts.of(config)
        self.mark, self._began = 0, datetime.now(UTC)

    @property
    def told(self) -> list[str]:
        """Lines for the end of the run."""
        return self._artifacts.told if self._artifacts else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Remember when the test begins, and where in the event log."""
        _forget_events(item)  # of a run before, if it is run again
        self._began = datetime.now(UTC)
        self.mark = self._run.sim.events.mark() if self._run.sim else 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add events and node logs to a failing test's report, and events to JUnit's."""
        report = yield
        is_user = item is self._run.user or "cachesim_session" in getattr(item, "fixturenames", ())
        sim = self._run.sim
        if report.failed and is_user and sim is not None:
            events = sim.events.since(self.mark)
            report.sections += fitted(self._sections(sim, events), self._lines)
            if self._artifacts:
                nodes = logs(sim, self._began, undated=True) if self._run.is_up else ()
                observed = self._run.observed.sections()
                self._artifacts.keep(report, events, nodes, (text for _, text in observed))
            _forget_events(item)
            item.user_properties += [(_PROPERTY, str(it)) for it in events]
            report.user_properties = list(item.user_properties)
        return report

    def _sections(self, sim: "Simulator", events: "list[Event]") -> Iterator[Section]:
        yield "cachesim events", "\n".join(map(str, events)) or "none since the test began"
        yield from self._run.observed.sections()
        if self._run.is_up:
            for node, text in logs(sim, self._began, undated=self._lines is None):
                yield f"cachesim {node}{_LOG}", text


def _forget_events(item: pytest.Item) -> None:
    item.user_properties[:] = [it for it in item.user_properties if it[0] != _PROPERTY]


def lines_of(config: pytest.Config) -> int | None:
    """Return how many lines a report may have; None: all.

    Raises:
        pytest.UsageError: it is neither a number that is large enough, nor `all`.
    """
    word = str(chosen(config, OPTION) or _DEFAULT)
    if word == "all":
        return None
    if not word.isdecimal() or int(word) < _FEWEST:
        raise pytest.UsageError(
            f"{OPTION} = {word!r}: should be `all`, or a number from {_FEWEST} on"
        )
    return int(word)


def logs(sim: "Simulator", began: datetime, *, undated: bool) -> Iterator[tuple[str, str]]:
    """Yield each node, with what it has logged since a moment; nothing of those that were silent.

    Args:
        undated: whether to yield lines without a date, too, such as Memcached's.
    """
    from cachesim.errors import NotRunning

    try:
        # Emulated nodes have this machine's time zone, containers have none.
        zone = None if sim.backend == "embedded" else UTC
        nodes = list(sim.nodes.values())
    except NotRunning:  # the test has stopped it
        return
    for node in nodes:
        try:
            text = "\n".join(_since(began, node.logs(_READ), zone, undated=undated))
        except NotRunning as error:  # the same would be said of all others
            yield node.name, f"could not be read: {error}"
            return
        except Exception as error:  # a report without a log is better than none
            text = f"could not be read: {error!r}"
        if text:
            yield node.name, text


def _since(began: datetime, log: str, zone: object, *, undated: bool) -> Iterator[str]:
    is_shown = undated
    for line in log.splitlines():
        if match := _DATE.match(line):
            day, month, year, clock = match.groups()
            date = f"{year}-{_MONTHS.index(month) + 1:02}-{int(day):02}"
            at = datetime.fromisoformat(f"{date} {clock}")
            at = at.replace(tzinfo=UTC) if zone else at.astimezone()
            is_shown = at >= began.replace(microsecond=began.microsecond // 1000 * 1000)
        if is_shown:  # a line without a date belongs to the one before it
            yield line


def fitted(sections: Iterable[Section], most: int | None) -> list[Section]:
    """Return the sections, the shortest first, cut to a number of lines, titles included.

    Those that tell what happened get theirs before the logs, but for two lines of each log.
    """
    given = [(title, text.splitlines()) for title, text in sections]
    if most is not None:
        logs = [it for it in given if it[0].endswith(_LOG)]
        stories = _cut([it for it in given if it not in logs], most - 3 * len(logs))
        given = stories + _cut(logs, most - sum(1 + len(lines) for _, lines in stories))
    given.sort(key=lambda it: len(it[1]))
    return [(title, "\n".join(lines)) for title, lines in given]


def _cut(sections: list[tuple[str, list[str]]], most: int) -> list[tuple[str, list[str]]]:
    """Return sections with the same share of lines for each, of which the last ones are kept.

    What short ones leave, longer ones may use.
    """
    found, left = [], most
    given = sorted(sections, key=lambda it: len(it[1]))
    for number, (title, lines) in enumerate(given):
        share = max(left // (len(given) - number) - 1, 1)
        if len(lines) > share:
            option = f"--{OPTION.replace('_', '-')}=all"
            kept = lines[len(lines) - share + 1 :]
            gone = len(lines) - len(kept)
            lines = [f"... {gone} lines before: {option} shows them", *kept]
        left -= 1 + len(lines)
        found.append((title, lines))
    return found
