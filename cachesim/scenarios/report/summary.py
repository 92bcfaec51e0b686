"""The summary of a run in Markdown, for a pull request or a job's page."""

from collections.abc import Iterator

from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Finding, Record

_TOLD = 2
"""So many verdicts, or reasons, are told in the headline."""
MARKS = {"pass": "✅", "fail": "❌", "unknown": "❔"}


def summary(record: Record) -> str:
    """Return the summary, Markdown."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: Record) -> Iterator[str]:
    it = record.run
    yield f"## {MARKS[it.result]} {record.scenario.name}: {it.result}"
    yield ""
    yield _cell(headline(record))
    yield ""
    yield from _table(record)
    if record.splits:
        yield ""
        yield "**The longest outages**"
        yield ""
        for split in record.splits[:3]:
            parts = ", ".join(
                f"{part.title.lower()} {_figure(part.length.low, part.length.high)}"
                for part in split.parts
            )
            total = _figure(split.total.low, split.total.high)
            yield f"- `{split.name}`, {_cell(split.what)}: {total} = {parts}. {split.shorten}"
    if record.costs:
        yield ""
        yield "**What they cost at production's rates**"
        yield ""
        yield from (f"- {cost_line(record, number)}" for number in range(len(record.costs)))
    if record.causes:
        yield ""
        yield "**Why, and what helps**"
        yield ""
        for cause in record.causes:
            yield f"- `{cause.constant}` ({cause.service}): {cause.observed} {cause.remedy}"
    yield ""
    yield "<details><summary>Not tested</summary>"
    yield ""
    yield from (f"- {_cell(it)}" for it in record.untested)
    yield ""
    yield "</details>"
    yield ""
    yield f"Again: `{record.again}`"


def headline(record: Record) -> str:
    """Return the verdict on the run in a sentence."""
    decisive = [it for it in (*record.gates, *record.verdicts) if it.result == record.run.result]
    if record.run.result == "fail" and decisive:
        return " ".join(it.meaning for it in decisive[:_TOLD])
    if record.run.result == "pass":
        return f"All that was expected holds: {figures.several(len(record.verdicts), 'verdict')}."
    reasons: dict[str, list[str]] = {}
    for it in (*record.gates, *record.verdicts):
        if it.result == "unknown":
            reasons.setdefault(it.reason.removeprefix("the generator: "), []).append(it.title)
    told = [f"{reason} ({', '.join(titles)})" for reason, titles in reasons.items()]
    cut = f"Cut short: {record.interrupted}. " if record.interrupted else ""
    return f"{cut}Not decided: {'; '.join(told[:_TOLD]) or record.run.reason}."


def cost_line(record: Record, number: int) -> str:
    """Return what the outages of one class cost, in a sentence."""
    cost = record.costs[number]
    rates = "production's" if cost.is_production else "the run's own"
    size = figures.interval(cost.seconds.low, cost.seconds.high, "s")
    requests = figures.interval(round(cost.requests.low), _whole(cost.requests.high), "requests")
    share = figures.interval(cost.budget_share.low, cost.budget_share.high, "share")
    return (
        f"{cost.name}: {size} = {requests} at {rates} {figures.count(cost.rate)}/s, and {share} of "
        "what 99.9 % allows in a month."
    )


def _whole(value: float | None) -> float | None:
    return None if value is None else round(value)


def _table(record: Record) -> Iterator[str]:
    yield "| | what | measured | allowed | what it means |"
    yield "| --- | --- | --- | --- | --- |"
    gates = [it for it in record.gates if it.result != "pass"]
    for it in (*gates, *record.verdicts):
        cells = (MARKS[it.result], it.title, measured(it), allowed(it), it.meaning)
        yield f"| {' | '.join(map(_cell, cells))} |"


def measured(it: Finding) -> str:
    """Return the figure of a verdict as text; empty if it has none."""
    return "" if it.low is None else _figure(it.low, it.high, it.unit)


def allowed(it: Finding) -> str:
    """Return the threshold of a verdict as text; empty if it has none."""
    return "" if it.threshold is None else figures.amount(it.threshold, it.unit)


def _figure(low: float, high: float | None, unit: str = "s") -> str:
    return figures.interval(low, high, unit)


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")
