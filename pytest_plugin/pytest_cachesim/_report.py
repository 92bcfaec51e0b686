"""What a failing test's report says of the topology: the events and node logs of its time."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_cachesim import chosen

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator

OPTION = "cachesim_report_lines"
_DEFAULT, _FEWEST = 40, 10
_READ = 1000  # lines of a node's log, at most
_LOG = ": log"
_DATE = re.compile(r"\d+:\w (\d+ \w{3} \d{4} \d\d:\d\d:\d\d\.\d{3}) ")  # in each line of Redis

Section = tuple[str, str]
"""A title and its text."""


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


def logs(sim: "Simulator", began: datetime, *, undated: bool) -> Iterator[Section]:
    """Yield what each node has logged since a moment; nothing of those that were silent.

    Args:
        undated: whether to yield lines without a date, too, such as Memcached's.
    """
    # Emulated nodes have this machine's time zone, containers have none.
    zone = None if sim.backend == "embedded" else UTC
    for node in sim.nodes.values():
        try:
            text = "\n".join(_since(began, node.logs(_READ), zone, undated=undated))
        except Exception as error:  # a report without a log is better than none
            text = f"could not be read: {error!r}"
        if text:
            yield f"cachesim {node.name}{_LOG}", text


def _since(began: datetime, log: str, zone: object, *, undated: bool) -> Iterator[str]:
    is_shown = undated
    for line in log.splitlines():
        if match := _DATE.match(line):
            at = datetime.strptime(match[1], "%d %b %Y %H:%M:%S.%f")
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
