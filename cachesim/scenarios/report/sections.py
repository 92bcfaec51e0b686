"""The parts of the HTML report that a record makes: verdicts, splits, costs, causes, tables."""

import json
from collections.abc import Iterator, Sequence

from cachesim.scenarios.report import figures
from cachesim.scenarios.report.markup import Markup, element
from cachesim.scenarios.report.record import Finding, Interval, Record, Split, SplitPart
from cachesim.scenarios.report.summary import allowed, cost_line, headline, measured

_ROOM = 1.18
"""The width of an interval's scale, times its largest figure."""
_NARROW = 0.12
"""The share of a bar below which its text has no room."""


def header(record: Record) -> Markup:
    """Return the verdict on the run, what was run, and the command that does it again."""
    title = record.scenario.description.partition("\n")[0]
    return element(
        "header",
        element(
            "div",
            element("span", record.run.result, class_="chip"),
            element("h1", record.scenario.name),
            class_="top",
        ),
        element("p", headline(record), class_="headline"),
        element("p", title, class_="muted"),
        element("div", list(_facts(record)), class_="facts"),
        element(
            "div",
            element("code", record.again, class_="command", id="again"),
            element("button", "Copy", id="copy", title="Copy the command that does it again"),
            class_="again",
        ),
        class_="run",
    )


def _facts(record: Record) -> Iterator[Markup]:
    settings = record.environment.settings
    length = figures.seconds(record.end - record.begin)
    facts = {
        "backend": record.environment.backend,
        "engine": settings.get("engine"),
        "speed": f"{record.environment.speed:g}{', idle holds cut' * record.environment.is_cut}",
        "seed": record.scenario.seed,
        "pods": record.environment.pods,
        "deadline": figures.seconds(record.environment.deadline),
        "patience": _declared(record, "patience"),
        "comeback": _declared(record, "comeback"),
        "took": length,
        "begun": record.begun and f"{record.begun[:16].replace('T', ' ')} UTC",
        "cut short": record.interrupted,
    }
    for name, value in facts.items():
        if value is not None:
            yield element("span", f"{name} ", element("b", str(value)))


def _declared(record: Record, name: str) -> str | None:
    """Return what the clients declare: of each service, where they differ."""
    environment = record.environment
    clients = environment.clients or {"": environment.client}
    told = [
        f"{service} {figures.seconds(client[name])}".strip()
        for service, client in clients.items()
        if client.get(name) is not None
    ]
    return ", ".join(told) or None


# --- verdicts ---------------------------------------------------------------------------------


def verdicts(record: Record) -> Markup:
    """Return the verdicts, each with its interval against its threshold."""
    gates = [it for it in record.gates if it.result != "pass"]
    order = {"fail": 0, "unknown": 1, "pass": 2}
    found = sorted((*gates, *record.verdicts), key=lambda it: order[it.result])
    calm = [f"{it.title.lower()} ({it.reason})" for it in record.gates if it.result == "pass"]
    return element(
        "section",
        element("h2", "Verdicts"),
        [_verdict(it) for it in found],
        element("p", f"Also checked: {', '.join(calm)}.", class_="muted calm") if calm else None,
    )


def _verdict(it: Finding) -> Markup:
    figure = None
    if it.low is not None:
        figure = element(
            "div",
            element(
                "div",
                element("span", "measured ", element("b", measured(it))),
                element("span", f"allowed {allowed(it)}") if allowed(it) else None,
                class_="figure",
            ),
            _interval(it, it.low) if it.threshold is not None else None,
        )
    return element(
        "div",
        element("span", it.result, class_="chip"),
        element("div", element("h3", it.title), element("p", it.meaning)),
        figure or element("div"),
        class_=f"verdict {it.result}",
    )


def _interval(it: Finding, low: float) -> Markup:
    """Return an interval against its threshold, as a bar on a scale that begins at 0."""
    high, limit = it.high if it.high is not None else None, it.threshold or 0
    largest = max(low, high or 0, limit) * _ROOM or 1
    left = low / largest * 100
    right = 100.0 if high is None else high / largest * 100
    x = f"{limit / largest * 100:.2f}%"
    return element(
        "svg",
        element("line", x1="1%", x2="99%", y1=15, y2=15, class_="track"),
        element(
            "rect", x=f"{left:.2f}%", width=f"{max(right - left, 1.2):.2f}%", y=9, height=12, rx=3,
            class_="range",
        ),
        element("line", x1=x, x2=x, y1=2, y2=28, class_="limit"),
        element("title", f"measured {measured(it)}, allowed {allowed(it)}"),
        class_="interval",
        role="img",
    )  # fmt: skip


# --- where the time went ----------------------------------------------------------------------


def splits(record: Record) -> Markup | None:
    """Return the longest outage of each class, split into its parts."""
    if not record.splits:
        return None
    return element(
        "section",
        element("h2", "Where the time went"),
        [_split(group) for group in _alike(record.splits)],
    )


def _alike(splits: list[Split]) -> list[list[Split]]:
    """Return splits in groups of those that read the same."""
    groups: dict[tuple[object, ...], list[Split]] = {}
    for it in splits:
        lengths = [(part.title, _size(part.length)) for part in it.parts]
        groups.setdefault((it.what, _size(it.total), *lengths), []).append(it)
    return list(groups.values())


def _size(length: Interval) -> str:
    return figures.interval(length.low, length.high, "s")


def _split(group: list[Split]) -> Markup:
    split = group[0]
    sizes = [max(it.length.low, it.length.high or 0) for it in split.parts]
    whole = sum(sizes) or 1
    bars = []
    for it, size in zip(split.parts, sizes, strict=True):
        bars += _bars(it, size / whole, whole)
    names = ", ".join(it.name for it in group)
    return element(
        "div",
        element(
            "div",
            element("h3", f"{names}: {_size(split.total)}"),
            element("span", split.what, class_="muted"),
            class_="title",
        ),
        element("div", bars, class_="stack"),
        element("div", [_part(it) for it in split.parts], class_="parts"),
        element("p", _with_code(split.shorten), class_="advice"),
        class_="split",
    )


def _bars(part: SplitPart, share: float, whole: float) -> list[Markup]:
    """Return the bars of a part: what is sure, and hatched what is not."""
    sure = part.length.low / whole
    narrow = " narrow" if share < _NARROW else ""
    bars = [element("div", part.title, class_=f"{part.name}{narrow}", style=_width(sure))]
    perhaps = 1 - sure if part.length.high is None and not share else share - sure
    if perhaps > 0.005:
        bars.append(element("div", class_="perhaps", style=_width(perhaps)))
    return [bar for bar, size in zip(bars, (sure, perhaps), strict=False) if size > 0]


def _width(share: float) -> str:
    return f"flex: 0 0 {min(share, 1) * 100:.2f}%"


def _part(part: SplitPart) -> Markup:
    return element(
        "span",
        element("i", class_=f"key {part.name}"),
        f"{part.title} ",
        element("b", _size(part.length)),
        f", {part.note}",
    )


# --- costs and causes -------------------------------------------------------------------------


def costs(record: Record) -> Markup:
    """Return what the outages cost at production's rates."""
    lines = []
    for number, cost in enumerate(record.costs):
        size = figures.interval(cost.seconds.low, cost.seconds.high, "s")
        high = cost.requests.high
        requests = figures.interval(
            round(cost.requests.low), None if high is None else round(high), "requests"
        )
        text = cost_line(record, number).partition(" at ")[2]
        lines.append(
            element(
                "div",
                element("b", f"{size} = {requests}"),
                element("p", f"{cost.name}, at {text}", class_="muted"),
                class_="cost",
            )
        )
    none = element("p", "Nothing: no class was unserved for a time.", class_="muted")
    return element("section", element("h2", "What it costs in production"), lines or none)


def causes(record: Record) -> Markup:
    """Return the client's constants that made it so, with remedies."""
    found = [
        element(
            "div",
            element("code", it.constant),
            element("span", f" {it.service}", class_="muted"),
            element("p", it.observed, class_="muted"),
            element("p", _with_code(it.remedy), class_="remedy"),
            class_="cause",
        )
        for it in record.causes
    ]
    none = element("p", "No constant of the clients stands out.", class_="muted")
    return element("section", element("h2", "Why, and what helps"), found or none)


def _with_code(text: str) -> list[str | Markup]:
    """Return a text with what stands in backticks as code."""
    return [element("code", it) if n % 2 else it for n, it in enumerate(text.split("`"))]


# --- tables -----------------------------------------------------------------------------------


def classes(record: Record) -> Markup:
    """Return the classes of operations, with the worst pod beside the average."""
    head = ("operations", "due", "bad", "average pod", "worst pod", "its longest outage",
            "p50", "p99", "slowest", "errors")  # fmt: skip
    rows = []
    for it in record.classes:
        worst = it.worst_pod
        share = worst.bad / max(worst.due, 1) if worst and worst.bad else None
        errors = ", ".join(f"{name} {figures.count(n)}" for name, n in it.errors.items())
        rows.append(
            (
                it.name,
                figures.count(it.due),
                figures.share(it.bad / max(it.due, 1)),
                figures.share(it.average_pod),
                f"{worst.pod}: {figures.share(share)}" if worst and share is not None else "",
                figures.seconds(worst.longest_outage) if worst and worst.bad else "",
                *(figures.seconds(at) if at is not None else "" for at in (it.p50, it.p99)),
                figures.seconds(it.slowest) if it.slowest is not None else "",
                errors,
            )
        )
    return element(
        "section",
        element("h2", "Operations"),
        element("div", _table(head, rows, numbers=range(1, 9)), class_="scroll"),
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: range) -> Markup:
    def css(column: int) -> str | None:
        return "number" if column in numbers else None

    return element(
        "table",
        element("thead", element("tr", [_cell("th", it, css(n)) for n, it in enumerate(head)])),
        element(
            "tbody",
            [element("tr", [_cell("td", it, css(n)) for n, it in enumerate(row)]) for row in rows],
        ),
    )


def _cell(name: str, text: str, css: str | None) -> Markup:
    return element(name, text, class_=css)


def steps(record: Record) -> Markup:
    """Return the steps as they happened, with what was seen of each."""
    rows = []
    for it in record.steps:
        if it.begin is None:
            when = it.outcome
        else:
            end = "the end" if it.end is None else f"{it.end:.1f} s"
            when = f"{it.begin:.1f} s to {end}"
        seen = it.problem or it.witness or "its effect was seen, and gone after the heal"
        rows.append((it.id, f"{it.fault.get('fault', '')} on {it.target}", when, seen))
    head = ("step", "fault", "when, real", "what was seen")
    return element("section", element("h2", "Faults"), _table(head, rows, numbers=range(0)))


def untested(record: Record) -> Markup:
    """Return what was not tested."""
    items = [element("li", _with_code(it)) for it in record.untested]
    return element("section", element("h2", "Not tested"), element("ul", items))


def log(record: Record) -> Markup:
    """Return what is folded: the gates, events, the timeline, settings and versions."""
    events = "\n".join(
        f"{it.at:9.3f}  {it.kind:<14} {it.source:<16} {it.message}" for it in record.events
    )
    environment = record.environment
    return element(
        "section",
        element("h2", "In full"),
        _folded("Checked beforehand", "\n".join(f"{it.title}: {it.reason}" for it in record.gates)),
        _folded(f"Events ({len(record.events)})", events),
        _folded("Timeline, with its draws", json.dumps(record.scenario.timeline, indent=2)),
        _folded("Settings", json.dumps(environment.settings, indent=2)),
        _folded("Versions", json.dumps(environment.versions, indent=2)),
    )


def _folded(title: str, text: str) -> Markup:
    return element("details", element("summary", title), element("pre", text))
