"""What a run does not tell: what it left out, and what would tell it."""

from collections.abc import Iterator, Mapping
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers import expectations
from cachesim.scenarios.checkers.faults import all_nodes, applied, touched
from cachesim.scenarios.checkers.survey import begin_of, survey
from cachesim.scenarios.report import figures
from cachesim.scenarios.report.costs import PRODUCTION


def untested(history: History, expect: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was not tested, a sentence each.

    Args:
        expect: what was expected, by checker.
    """
    if history.interrupted:
        yield f"All that would have followed: {history.interrupted}."
    if history.speed != 1:
        yield (
            f"What clients do in windows of production's length: at speed {history.speed:g} they "
            "were that much shorter. `--speed 1` or `--quiet-cut` measures it."
        )
    for step in history.steps():
        if step.outcome == "skipped":
            why = step.witness.get("why", "it had no target")
            yield f"Step {step.id}: {why}, and was left out."
    known = (*expectations.OF_THE_RUN, *expectations.OF_A_SERVICE, *expectations.OF_CLASSES)
    missing = [name.replace("_", " ") for name in known if not expect.get(name)]
    if missing:
        yield f"Nothing was expected of {_listed(missing)}."
    steps = history.compute(applied)
    spared = history.compute(all_nodes) - history.compute(touched)
    if steps and spared:
        yield f"Faults of {_listed(sorted(spared))}: no step touched {_them(spared)}."
    yield from _rates(history)
    if history.meta.get("backend") == "embedded":
        yield "Real servers: these were emulated. `--backend docker` runs the same against them."
    if cuts := history.meta.get("cuts"):
        cut = figures.seconds(sum(it["seconds"] for it in cuts))
        yield f"What {cut} of idle holds would have shown, which were cut: TTLs, hit rate, alarms."
    yield f"Other draws: {_draws(history)}. `--repeat 10` makes ten."


def _draws(history: History) -> str:
    """Return what the seed drew, and from where."""
    settings = history.meta.get("settings") or {}
    ranges = [
        f"{name} takes {figures.interval(span[0], span[1], 's')}"
        for name in ("detection", "promotion")
        if (span := settings.get(f"{name}_seconds"))
    ]
    told = f", and {' and '.join(ranges)} in production" if ranges else ""
    return f"one run is one draw of detection, promotion and targets{told}"


def _rates(history: History) -> Iterator[str]:
    length = max(history.end_at - begin_of(history), 1e-9)
    due: dict[str, int] = {}
    for name, it in history.compute(survey).items():
        due[name.service] = due.get(name.service, 0) + it.all.due
    low = [
        f"{service} had {figures.count(round(due[service] / length))} operations a second instead "
        f"of {figures.count(rate)}"
        for service, rate in PRODUCTION.items()
        if service in due and due[service] / length < rate / 2
    ]
    if low:
        yield f"Production's load: {_listed(low)}."
    for service in PRODUCTION:
        if service not in due:
            yield f"The traffic of {service}: there was none."


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _them(nodes: frozenset[str]) -> str:
    return "it" if len(nodes) == 1 else "them"
