"""The commands of `cachesim fault`: one for each fault of the catalogue, and those for all.

A fault's required fields are arguments, in their order. A list takes all remaining words, so fields
after it are options, like all other fields.
"""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import click

from cachesim.cli import options
from cachesim.errors import InvalidFault
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.fields import (
    Field,
    Flag,
    Name,
    Names,
    Number,
    OneToxic,
    Part,
    Seconds,
    Streams,
    Text,
    Whole,
)
from cachesim.faults.spec import FaultSpec
from cachesim.faults.word_fields import Choice, Words
from cachesim.topology import production
from cachesim.toxiproxy.toxics import BOTH, TOXICS

_METAVARS = {
    Part.LINK: "LINK",
    Part.NODE: "NODE",
    Part.REDIS_NODE: "NODE",
    Part.ZONE: "ZONE",
    Part.ENDPOINT: "ENDPOINT",
}

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _ToxicType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """`slicer,average_size=64,delay=10`, as JSON has it."""

    name = "toxic"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        kind, *pairs = str(value).split(",")
        attributes = {}
        for pair in pairs:
            name, _, number = pair.partition("=")
            if not number.isdecimal():
                self.fail(f"{pair!r} should be a name and a number, such as delay=10", param, ctx)
            if name in attributes:
                self.fail(f"{name} is there twice", param, ctx)
            attributes[name] = int(number)
        return {"type": kind, "attributes": attributes}


def fault_commands(catalogue: Catalogue) -> dict[str, click.Command]:
    """Return the commands of `cachesim fault` by name, for the faults of a catalogue."""
    commands = [_command(fault) for fault in catalogue]
    commands += [_apply(catalogue), _list(), _schema(catalogue)]
    return {str(command.name): command for command in commands}


def _command(fault: type[FaultSpec]) -> click.Command:
    def apply(
        name: str | None,
        heal_after: float | None,
        as_json: bool,
        over: float | None = None,
        flap: tuple[float, float] | None = None,
        **given: Any,
    ) -> None:
        from cachesim.cli import commands

        values = {key: value for key, value in given.items() if value not in (None, ())}
        times = {"seconds": heal_after, "over": over, "flap": flap}
        try:
            it = fault(**values)
        except InvalidFault as error:
            raise click.UsageError(str(error)) from error
        commands.fault(name, it, times, as_json=as_json)

    grows = (options.over,) if fault.strength is not None else ()
    shared = (options.heal_after, *grows, options.flap, options.name, options.as_json)
    for parameter in reversed((*_parameters(fault), *shared)):
        apply = parameter(apply)
    return click.command(fault.name, help=fault.help(), epilog=_example(fault))(apply)


def _example(fault: type[FaultSpec]) -> str:
    """Return an example with the required fields."""
    words, zones = ["cachesim", "fault", fault.name], iter("ab")
    open_end = False
    for name in fault.required():
        field = fault.fields()[name]
        if open_end:
            words.append(f"--{name.replace('_', '-')}")
        open_end = open_end or isinstance(field, Names)
        words.append(_sample(field, zones))
    return f"Example: {' '.join(words)}"


def _sample(field: Field, zones: Iterator[str]) -> str:
    match field:
        case Name(part=Part.ZONE) | Names(part=Part.ZONE):
            return next(zones)
        case Name(part=Part.LINK) | Names(part=Part.LINK):
            return "client-to-redis-a"
        case Name() | Names():
            return "redis-a"
        case Seconds():
            return "5s"
        case Whole():
            return str(int(max(field.least, min(200, field.most))))
        case Number():
            return f"{max(field.least, min(0.1, field.most)):g}"
        case OneToxic():
            return "slicer,average_size=64,delay=10"
        case Text():
            return shlex.quote(field.sample)
        case _:
            return ""


def _parameters(fault: type[FaultSpec]) -> Iterator[_Decorator]:
    open_end = False
    for name, field in fault.fields().items():
        if name in fault.required() and not open_end:
            open_end = isinstance(field, Names)
            yield _argument(name, field)
        else:
            yield _option(name, field, fault)


def _argument(name: str, field: Field) -> _Decorator:
    several = isinstance(field, Names)
    return click.argument(
        name,
        metavar=f"{_metavar(name, field)}{'...' if several else ''}",
        type=_type(field),
        nargs=-1 if several else 1,
        required=True,
        shell_complete=_completion(field),
    )


def _option(name: str, field: Field, fault: type[FaultSpec]) -> _Decorator:
    several = isinstance(field, Names | Streams | Words)
    word = (name.removesuffix("s") if several else name).replace("_", "-")
    default = fault.defaults().get(name)
    is_told = default is not None and not isinstance(field, Flag)
    text = f"  [default: {_text(field.as_json(default))}]" if is_told else ""
    return click.option(
        f"--{word}",
        name,
        metavar=_metavar(name, field) if isinstance(field, Name | Names | OneToxic) else None,
        type=_type(field),
        is_flag=isinstance(field, Flag) or None,
        multiple=several,
        required=name in fault.required(),
        shell_complete=_completion(field),
        help=f"{field.help}{text}",
    )


def _metavar(name: str, field: Field) -> str:
    match field:
        case Name() | Names():
            return _METAVARS[field.part]
        case OneToxic():
            return "TYPE[,ATTRIBUTE=NUMBER...]"
        case _:
            return name.upper()


def _type(field: Field) -> "click.ParamType[Any] | None":
    match field:
        case Seconds():
            return options.Duration()
        case Whole():
            return options.Numeral("integer")  # the fault checks its bounds
        case Number():
            return options.Numeral("float")
        case Streams():
            return click.Choice([str(stream) for stream in BOTH])
        case OneToxic():
            return _ToxicType()
        case Choice():
            return click.Choice(field.words)
        case Flag():
            return None
        case _:
            return click.STRING


def _completion(field: Field) -> options.Completion | None:
    match field:
        case Name() | Names():
            return options.complete(lambda: field.part.names(production()))
        case Seconds():
            return options.durations
        case OneToxic():
            return options.complete(lambda: [toxic.type for toxic in TOXICS])
        case _:
            return None


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _apply(catalogue: Catalogue) -> click.Command:
    @click.command("apply", epilog="Example: cachesim fault apply faults.json --for 30s")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
    @options.heal_after
    @options.over
    @options.flap
    @options.name
    @options.as_json
    def apply(
        file: str,
        heal_after: float | None,
        over: float | None,
        flap: tuple[float, float] | None,
        name: str | None,
        as_json: bool,
    ) -> None:
        """Apply the faults of FILE, all or none. FILE may be - for stdin.

        FILE has one fault as JSON, or a list of faults. `cachesim fault schema` prints the form.

        \b
        {"fault": "partition", "a": "a", "b": "b"}
        """  # noqa: D301  # click's mark for lines to keep
        from cachesim.cli import commands

        times = {"seconds": heal_after, "over": over, "flap": flap}
        commands.apply_faults(name, file, catalogue, times, as_json=as_json)

    return apply


def _list() -> click.Command:
    @click.command("list", epilog="Example: cachesim fault list --links")
    @click.option("--links", is_flag=True, help="List the links instead.")
    @options.name
    @options.as_json
    def list_(links: bool, name: str | None, as_json: bool) -> None:
        """List the faults that are active."""
        from cachesim.cli import commands

        commands.faults(name, links=links, as_json=as_json)

    return list_


def _schema(catalogue: Catalogue) -> click.Command:
    @click.command("schema", epilog="Example: cachesim fault schema > faults.schema.json")
    def schema() -> None:
        """Print the JSON Schema of what `cachesim fault apply` takes."""
        import json

        click.echo(json.dumps(catalogue.schema(), indent=2))

    return schema
