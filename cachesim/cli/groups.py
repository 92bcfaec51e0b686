"""The groups of commands: how errors are shown, and the commands that are made of the catalogue."""

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import MutableMapping
from typing import IO, Any

import click

from cachesim.daemon.signals import INTERRUPTED

_AS_JSON = "cachesim.as_json"


class _Unusable(click.ClickException):
    """Mistakes in a file, printed as they are."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print one a line."""
        click.echo(self.message, file, err=file is None)


class _AsJson(click.ClickException):
    """An error that is printed as JSON on stdout, where a program reads."""

    exit_code: int  # type: ignore[misc]  # that of the error

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(error.format_message())
        self.exit_code = error.exit_code
        self._kind = type(error.__cause__ or error).__name__

    def show(self, file: IO[Any] | None = None) -> None:
        """Print `{"error": {"kind": ..., "message": ...}}`."""
        it = {"kind": self._kind, "message": self.message}
        click.echo(json.dumps({"error": it}), file)


class Group(click.Group):
    """Prints an error as one line, or with `--json` as JSON. Unwritten output is an error too.

    On an interrupt it exits as shells expect it.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See click."""
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="replace")  # not every encoding has each character
        try:
            return super().main(*args, **kwargs)
        finally:
            _flush()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        words = args[: args.index("--")] if "--" in args else args
        ctx.meta[_AS_JSON] = "--json" in words
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click. A fault without `fault` before it gets a hint."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            faults = self.get_command(ctx, "fault")
            if isinstance(faults, FaultGroup) and args[0] in faults.commands:
                hint = f"It is a fault: `cachesim fault {' '.join(args)}`."
                raise click.UsageError(f"No such command '{args[0]}'. {hint}", ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> object:
        """See click."""
        try:
            return self._invoke(ctx)
        except click.ClickException as error:
            if not ctx.meta[_AS_JSON]:
                raise
            raise _AsJson(error) from error

    def _invoke(self, ctx: click.Context) -> object:
        from cachesim.errors import CachesimError, InvalidScenario

        try:
            return super().invoke(ctx)
        except InvalidScenario as error:
            raise _Unusable(str(error)) from error
        except CachesimError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:  # click handles a reader that has left
                raise
            _flush()  # if it is stdout that can't be written, this says so
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


class FaultGroup(click.Group):
    """Has a command for each fault, created on first use, as creating them is slow."""

    _commands: MutableMapping[str, click.Command]

    @property
    def commands(self) -> MutableMapping[str, click.Command]:
        """The commands by name."""
        if not self._commands:
            from cachesim.cli.fault_commands import fault_commands
            from cachesim.faults.catalogue import CATALOGUE

            self._commands = fault_commands(CATALOGUE)
        return self._commands

    @commands.setter
    def commands(self, commands: MutableMapping[str, click.Command]) -> None:
        self._commands = commands


def _flush() -> None:
    """Write what is still to be written to stdout; if that fails, exit with 1."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # else the interpreter tries it once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE and sys.stderr is not None:
            print(f"Error: stdout: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None
