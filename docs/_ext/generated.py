"""The directive `generated`: Markdown that is made from the code, so it is never out of date.

Each function in `PIECES` makes one piece of a page. The directive's argument is its name.
"""

import ast
import dataclasses
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING
from inspect import cleandoc
from pathlib import Path
from typing import Any, Self, cast

import click
import pytest
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import pytest_cachesim
from cachesim.cli import app as cli
from cachesim.control_plane.states import TRANSITIONS, State
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import Field, Name, Names
from cachesim.faults.spec import FaultSpec
from cachesim.monitoring.architecture import THRESHOLDS
from cachesim.monitoring.metrics import METRICS, Count, Gauge, Share
from cachesim.runs.env import SERVICE, SWITCHES
from cachesim.scenarios.schema import form as scenario_form
from cachesim.settings import Settings, variable
from cachesim.topology import CLIENT, production
from cachesim.toxiproxy.toxics import TOXICS
from docs._ext import scenario_pages

ROOT = Path(__file__).parents[2]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    columns = list(head)
    for cells in (columns, ["---"] * len(columns), *rows):
        escaped = (cell.replace("|", r"\|") for cell in cells)
        yield f"| {' | '.join(escaped)} |"


def code(text: object) -> str:
    """Return a text in backticks; "" for None or ""."""
    return f"`{text}`" if text not in ("", None) else ""


# --- tables -----------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    """List every setting, with its default and its variable."""
    yield from table(
        ("name", "default", "variable", "meaning"),
        (
            (code(name), _written(field.default), code(variable(name)), description)
            for name, field in Settings.model_fields.items()
            if (description := field.description)
        ),
    )


def _written(default: object) -> str:
    match default:
        case None:
            return "none"
        case tuple():
            return code("-".join(f"{number:g}" for number in default))
        case float():
            return code(f"{default:g}")
        case _:
            return code(default)


def variables() -> Iterator[str]:
    """List the variables that `cachesim env` prints."""
    rows = ((code(name), text) for name, text in SERVICE.items())
    yield from table(("variable", "meaning"), rows)


def switches() -> Iterator[str]:
    """List the variables that the plugin reads besides the settings."""
    rows = ((code(name), text) for name, text in SWITCHES.items())
    yield from table(("variable", "meaning"), rows)


# --- faults -----------------------------------------------------------------------------------


def faults(catalogue: Catalogue = CATALOGUE) -> Iterator[str]:
    """List every fault, with what it is on and what a client sees."""
    yield from table(
        ("fault", "on", "what a client sees"),
        ((code(fault.name), _parts(fault), fault.effect) for fault in catalogue),
    )


def _parts(fault: type[FaultSpec]) -> str:
    for field in fault.fields().values():
        if isinstance(field, Names):
            return f"{field.part}s"
        if isinstance(field, Name):
            same = [it for it in fault.fields().values() if it == field]
            return f"a {field.part}" if len(same) == 1 else f"{len(same)} {field.part}s"
    return ""


def fault_fields(catalogue: Catalogue = CATALOGUE) -> Iterator[str]:
    """List every field of every fault, with its type, unit, bounds and default."""
    yield from table(
        ("fault", "field", "type", "bounds", "default", "meaning"),
        (
            (
                code(fault.name),
                code(name),
                field.type,
                f"{field.bounds} {field.unit}".strip(),
                _default(fault, name, field),
                field.help,
            )
            for fault in catalogue
            for name, field in fault.fields().items()
        ),
    )


def _default(fault: type[FaultSpec], name: str, field: Field) -> str:
    if name in fault.required():
        return ""
    default = fault.defaults()[name]
    return "none" if default is None else code(json.dumps(field.as_json(default)))


def toxic_attributes() -> Iterator[str]:
    """List every attribute of every toxic, with its bound and its default."""
    yield from table(
        ("toxic", "attribute", "at most", "default"),
        (
            (
                code(toxic.type),
                code(field.name),
                str(toxic.largest),
                "" if field.default is MISSING else code(field.default),
            )
            for toxic in TOXICS
            for field in dataclasses.fields(toxic)
        ),
    )


def fault_schema(catalogue: Catalogue = CATALOGUE) -> Iterator[str]:
    """Include the JSON Schema of faults, folded."""
    yield from ("<details><summary>The schema</summary>", "", "```json")
    yield from json.dumps(catalogue.schema(), indent=2).splitlines()
    yield from ("```", "", "</details>")


# --- scenarios --------------------------------------------------------------------------------


def scenario_keys() -> Iterator[str]:
    """List the keys of scenario files, a table for each form."""
    forms: list[tuple[str, Mapping[str, Any]]] = []
    made = scenario_form()
    for name, form in (("Scenario", made), *made["$defs"].items()):
        if name not in ("Choice", "Target") and "properties" in form:
            forms.append((name, form))
    for name, form in forms:
        title = re.sub(r"(?<=.)([A-Z])", r" \1", name).capitalize()
        yield from ("", f"### {title}", "", form["description"], "")
        required = form.get("required", ())
        rows = (
            (
                code(key),
                "required" if key in required else code(it.get("default")),
                it["description"],
            )
            for key, it in form["properties"].items()
        )
        yield from table(("key", "default", "meaning"), rows)
    yield from ("", "The fields of a fault are keys of its step: see [faults](faults.md).")


def scenario(name: str) -> Iterator[str]:
    """Describe a scenario."""
    yield from scenario_pages.page(name)


def scenarios(kind: str) -> Iterator[str]:
    """List the scenarios that are `shipped`, or those that are `examples`."""
    yield from table(("scenario", "what happens"), scenario_pages.titles(kind))


# --- metrics ----------------------------------------------------------------------------------


def metrics() -> Iterator[str]:
    """List the metrics of each engine, with what they are made of."""
    for service, some in METRICS.items():
        yield from ("", f"### {service.capitalize()}", "")
        yield from table(
            ("metric", "unit", "made of"),
            ((code(it.name), it.unit, _made_of(it.source)) for it in some),
        )


def _made_of(source: Gauge | Count | Share) -> str:
    def plus(names: Iterable[str]) -> str:
        return " + ".join(map(code, names))

    match source:
        case Gauge(of, minus, per):
            less = f" - {plus(minus)}" if minus else ""
            return f"{plus(of)}{less}{f' / {plus(per)}' if per else ''}"
        case Count(of, instead):
            return f"growth of {plus(of)}{f', or of {plus(instead)}' if instead else ''}"
        case Share(of, per):
            return f"growth of {plus(of)} / growth of {plus(per) if per else 'time'}"


def thresholds() -> Iterator[str]:
    """List the architecture's table of thresholds."""
    yield from table(
        ("alarms", "of", "warning", "critical"),
        (
            (
                code(f"{service}-{row.name}-..."),
                code(math),
                *(f"{'>' if row.is_upper else '<'} {it:,}" for it in (row.warning, row.critical)),
            )
            for row in THRESHOLDS
            for service, math in row.metrics.items()
        ),
    )


# --- the command ------------------------------------------------------------------------------


def checkers(folder: Path = ROOT / "cachesim/scenarios/checkers") -> Iterator[str]:
    """Explain each gate and each checker, as its module's docstring does."""
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        head, *sections = (ast.get_docstring(tree) or "").split("\n\n")
        if any(section.startswith("Rule") for section in sections):
            # Modules are not linked to: `survey` in a text is a module beside it.
            yield f"### {re.sub(r'^Gate: (.)', lambda it: it[1].upper(), head).rstrip('.')}"
            for section in sections:
                text = re.sub(r"\s\(see\s`\w+`\)", "", section)
                yield from ("", re.sub(r"^(Rule|Bound|Unknown)\b", r"**\1**", text))
            yield ""


def commands() -> Iterator[str]:
    """Describe `cachesim` and its commands, in alphabetical order."""
    yield from _command(click.Context(cli.main, info_name="cachesim"))


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    level = max(2, 1 + context.command_path.count(" "))
    yield from ("", f"{'#' * level} {context.command_path}", "", "```text", usage, "```", "")
    yield from (*_plain(command.help), "")
    records = [option.get_help_record(context) for option in command.params]
    if any(records):
        rows = ((code(record[0]), *_plain(record[1])) for record in records if record)
        yield from table(("option", "meaning"), rows)
    yield from ("", *_plain(command.epilog))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            if sub is not None and not sub.hidden:
                yield from _command(click.Context(sub, context, name))


def exit_codes() -> Iterator[str]:
    """Explain the exit codes."""
    _, head, text = (cli.__doc__ or "").partition("Exit codes:")
    yield from _plain(head + text)


def _plain(text: str | None) -> list[str]:
    # Help is not Markdown. A line with only a backspace tells click not to wrap the next paragraph.
    escaped = re.sub(r"[*<]", r"\\\g<0>", cleandoc(text or "").replace("\b\n", ""))
    return escaped.splitlines()


# --- the plugin -------------------------------------------------------------------------------


def fixtures() -> Iterator[str]:
    """List every fixture, with its scope, its type and its docstring."""
    source = ast.parse(Path(pytest_cachesim.__file__).read_text(encoding="utf-8"))
    yield from table(
        ("fixture", "scope", "type", "meaning"),
        (
            (code(function.name), _scope(decorator), code(_type(function)), _docstring(function))
            for function in source.body
            if isinstance(function, ast.FunctionDef)
            for decorator in function.decorator_list
            if ast.unparse(decorator).startswith("pytest.fixture")
        ),
    )


def _scope(decorator: ast.expr) -> str:
    given = decorator.keywords if isinstance(decorator, ast.Call) else []
    scopes = [ast.literal_eval(keyword.value) for keyword in given if keyword.arg == "scope"]
    return str(scopes[0]) if scopes else "function"


def _type(function: ast.FunctionDef) -> str:
    match function.returns:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            pass
        case annotation:
            text = ast.unparse(annotation)
    return re.sub(r"^(?:Async)?(?:Iterator|Generator)\[(\w+).*", r"\1", text)


def _docstring(function: ast.FunctionDef) -> str:
    return (ast.get_docstring(function) or "").replace("\n", " ")


class _Recorder:
    """Records the plugin's options, in place of pytest's parser."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def getgroup(self, *_arguments: object) -> Self:
        return self

    def addoption(self, *names: str, help: str = "", **_keywords: object) -> None:
        self.options[names[-1]] = help

    def addini(self, name: str, help: str = "", *_arguments: object, **_keywords: object) -> None:
        self.values[name] = help


def options() -> Iterator[str]:
    """List every option of the plugin, with its configuration value."""
    recorder = _Recorder()
    pytest_cachesim.pytest_addoption(cast(pytest.Parser, recorder))
    rows = []
    for option, text in recorder.options.items():
        value = option.removeprefix("--").replace("-", "_")
        rows.append((code(option), code(value) if recorder.values.pop(value, "") else "", text))
    rows += [("", code(value), text) for value, text in recorder.values.items()]
    yield from table(("option", "configuration value", "meaning"), rows)


def marker() -> Iterator[str]:
    """Describe the marker of settings."""
    yield from _marker(pytest_cachesim.MARKER)


def fault_marker() -> Iterator[str]:
    """Describe the marker of faults."""
    yield from _marker(pytest_cachesim.FAULT_MARKER)


def _marker(line: str) -> Iterator[str]:
    call, _, text = line.partition(": ")
    yield f"`@pytest.mark.{call}`: {text}."


# --- files of this repository -----------------------------------------------------------------


def file(path: str) -> Iterator[str]:
    """Include a file of this repository: Markdown as a section, others as code.

    A missing file gives nothing. Links to other files become plain text, as they are relative to
    another folder.
    """
    found = ROOT / path
    if not found.is_file():
        return
    text = found.read_text(encoding="utf-8")
    if found.suffix != ".md":
        yield from (f"```{found.suffix.removeprefix('.')}", *text.splitlines(), "```")
        return
    in_code = False
    for line in re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", text).splitlines():
        in_code ^= line.lstrip().startswith("```")
        yield f"#{line}" if line.startswith("#") and not in_code else line


# --- pictures ---------------------------------------------------------------------------------

_STYLE = """<style>
.picture { max-width: 100%; height: auto; font: 13px var(--font-stack, sans-serif); }
.picture text { fill: var(--color-foreground-primary, #444); text-anchor: middle; }
.picture .code { font-family: var(--font-stack--monospace, monospace); font-size: 12px; }
.picture .label { paint-order: stroke; stroke: var(--color-background-primary, #fff);
  stroke-width: 8px; }
.picture .quiet { fill: var(--color-foreground-secondary, #777); }
.picture rect { fill: var(--color-background-secondary, #eee);
  stroke: var(--color-foreground-border, #999); }
.picture rect.inner { fill: var(--color-background-primary, #fff); }
.picture path { fill: none; stroke: var(--color-brand-primary, #0a58ca); stroke-width: 1.5; }
.picture marker path { fill: var(--color-brand-primary, #0a58ca); stroke: none; }
</style>
<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"
 orient="auto-start-reverse"><path d="M0 0 10 5 0 10z"/></marker></defs>"""


def _picture(width: int, height: int, label: str, parts: Iterable[str]) -> Iterator[str]:
    # Inline SVG with the theme's colours, so that it is readable in light and in dark mode.
    yield "<div>"
    yield f'<svg class="picture" viewBox="0 0 {width} {height}" width="{width}" role="img"'
    yield f' xmlns="http://www.w3.org/2000/svg" aria-label="{html.escape(label)}">'
    yield _STYLE
    yield from parts
    yield "</svg></div>"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{html.escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, style: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{style}"/>'


def _arrow(path: str) -> str:
    return f'<path d="{path}" marker-end="url(#arrow)"/>'


def address_plan() -> Iterator[str]:
    """Draw the links to the primary: one address, another link from each place."""
    topology = production()
    target = topology.node(topology.shards[0].first_primary)
    links = [k for k in topology.links if k.target == target.name and k.service is target.service]
    width, step, proxies, servers = 226, 257, 112, 232
    left = {zone.name: 10 + i * step for i, zone in enumerate(topology.zones)}
    here = left[target.zone] + width / 2

    def parts() -> Iterator[str]:
        yield _box(10, 8, width + 2 * step, 34)
        yield _text(10 + width / 2 + step, 30, "this machine: your tests and your service")
        for zone in topology.zones:
            yield _box(left[zone.name], 84, width, 232)
            yield _text(left[zone.name] + 28, 103, str(zone), "quiet")
            yield _box(left[zone.name] + 12, proxies, width - 24, 74, "inner")
            yield _text(left[zone.name] + width / 2, proxies + 20, "Toxiproxy")
        for node in topology.nodes:
            y = servers + 40 * (node.service is not target.service)
            yield _box(left[node.zone] + 12, y, width - 24, 30, "inner")
            yield _text(left[node.zone] + width / 2, y + 20, node.name, "code")
        for link in links:
            x = left[link.home]
            yield _text(x + width / 2, proxies + 42, f"127.0.0.1:P({target})", "code")
            yield _text(x + width / 2, proxies + 62, link.name, "code")
            if link.source == CLIENT:
                yield _arrow(f"M{here} 42 V{proxies - 2}")
                yield _text(here, 68, f"127.0.0.1:P({target})", "code label")
                yield _arrow(f"M{here} {proxies + 74} V{servers - 2}")
            else:  # from a replica to its own zone's proxy, and from there to the primary
                order = 1 + list(left).index(link.home)
                end, bend = here + 20 * order, proxies + 78 + 9 * order
                yield _arrow(f"M{x + 170} {servers} V{proxies + 76}")
                yield _arrow(f"M{x + 50} {proxies + 74} V{bend} H{end} V{servers - 2}")

    label = f"The address of {target}: from each place it uses another link"
    yield from _picture(760, 324, label, parts())


def transitions() -> Iterator[str]:
    """Draw the control plane's states and transitions, and list them in a table."""
    step, middle, high, wide = 200, 150, 34, 110
    centres = {state: 75 + step * i for i, state in enumerate(State)}

    def parts() -> Iterator[str]:
        for (state, signal), target in TRANSITIONS.items():
            yield from arc(centres[state], centres[target], signal.value)
        for state, x in centres.items():
            yield _box(x - wide / 2, middle - high / 2, wide, high)
            yield _text(x, middle + 5, state.value)

    def arc(start: int, end: int, signal: str) -> Iterator[str]:
        side = -1 if end > start else 1  # forward above, back below
        steps = abs(end - start) // step
        begin, stop = start - side * (58 - 18 * steps), end + side * (58 - 18 * steps)
        edge = middle + side * high / 2
        peak = edge + side * (10 + 52 * steps)
        yield _arrow(f"M{begin} {edge:g} C{begin} {peak:g} {stop} {peak:g} {stop} {edge:g}")
        # The peak of the curve is three quarters of the way to its control points.
        yield _text((begin + stop) / 2, edge + 0.75 * (peak - edge) + 4, signal, "label")

    yield from _picture(750, 300, "The states of the control plane", parts())
    yield ""
    yield from table(
        ("state", "signal", "next state"),
        ((code(s), signal, code(target)) for (s, signal), target in TRANSITIONS.items()),
    )


# --- the directive ----------------------------------------------------------------------------

PIECES: Mapping[str, Callable[..., Iterator[str]]] = {
    piece.__name__.replace("_", "-"): piece
    for piece in (
        settings,
        variables,
        switches,
        faults,
        fault_fields,
        toxic_attributes,
        fault_schema,
        scenario_keys,
        scenario,
        scenarios,
        metrics,
        thresholds,
        checkers,
        commands,
        exit_codes,
        fixtures,
        options,
        marker,
        fault_marker,
        file,
        address_plan,
        transitions,
    )
}


class Generated(SphinxDirective):
    """Put a piece into the page. Arguments: the piece's name, and for `file` a path."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the piece again in each build."""
        self.env.note_reread()
        piece, *rest = self.arguments
        lines = "\n".join(PIECES[piece](*rest))
        return self.parse_text_to_nodes(lines, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True}
