"""Commands that load when they are called: `dsched --help` imports none, and a command imports only its own module.

Also here, once: the options that every command has, and the reading of plain values. Typer would build a pydantic
adapter for each option, which costs 80 ms; text, numbers and flags need none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup

from dsched.scheduler.cli.contract import FORMATS, TEXT

if TYPE_CHECKING:
    from dsched.scheduler.cli.terminal import Terminal

COMPLETE: Final = "_DSCHED_COMPLETE"  # set by the shell's completion script


@dataclass(frozen=True, slots=True)
class Entry:
    """A command in the help."""

    name: str
    section: str
    module: str
    help: str  # the first line of the function's docstring
    process: bool = False  # the module runs as a process of its own


def here(ctx: typer.Context) -> Terminal:
    """The terminal that the command writes to."""
    return cast("Terminal", ctx.obj)


class Command(TyperCommand):
    """A command with the common options; they become its Terminal."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common())

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        from dsched.scheduler.cli.terminal import Terminal

        given = {name: ctx.params.pop(name) for name in _NAMES}
        columns = [name.strip() for name in (given["columns"] or "").split(",") if name.strip()]
        ctx.obj = Terminal(
            output=given["output"],
            names=columns,
            quiet=given["quiet"],
            yes=given["yes"],
            server=given["server"],
            no_color=given["no_color"],
        )
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None


class ReaderGone(Exception):
    """Who read the output has enough of it (`| head`)."""


class Group(TyperGroup):
    """The commands of a table, imported one at a time."""

    entries: Sequence[Entry] = ()

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in self.entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = next((e for e in self.entries if e.name == cmd_name), None)
        if entry is None:
            return None
        if entry.process:
            return build(entry.name, lambda: None, entry.help)
        return build(entry.name, getattr(import_module(entry.module), entry.name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = get_close_matches(args[0], names, 1)
            ctx.fail(
                f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else " See dsched --help.")
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for section in dict.fromkeys(entry.section for entry in self.entries):
            with formatter.section(section):
                formatter.write_dl([(e.name, e.help) for e in self.entries if e.section == section])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names and their help from the table: completing a command's name imports no command."""
        from typer._click.shell_completion import CompletionItem

        return [CompletionItem(e.name, help=e.help) for e in self.entries if e.name.startswith(incomplete)]


def build(name: str, function: Callable[..., Any], help: str | None = None) -> Any:
    """A function as a command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=Command, help=help, context_settings={"help_option_names": ["-h", "--help"]})(function)
    return typer.main.get_command(app)


def root(entries: Sequence[Entry], help: str) -> Any:
    """The `dsched` command."""
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    group = type("Dsched", (Group,), {"entries": tuple(entries)})
    app = typer.Typer(
        cls=group,
        help=help,
        epilog=TEXT,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return typer.main.get_command(app)


def _root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=lambda v: _version(v))] = False,
) -> None:
    """Filled by `help` above."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"dsched {version('dsched')}\n")
        raise typer.Exit


def _options(
    output: Annotated[str, typer.Option("-o", "--output", metavar="FORMAT", help=" | ".join(FORMATS))] = "table",
    columns: Annotated[str, typer.Option(metavar="A,B", help="only these columns, in this order")] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="only results, of lists only the names")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="do not ask")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="like NO_COLOR=1")] = False,
    server: Annotated[
        str, typer.Option(metavar="ADDR", help="the daemon's socket [DSCHED_SERVER, DSCHED_STATE]", show_default=False)
    ] = "",
) -> None:
    """What every command takes."""


_NAMES: Final = ("output", "columns", "quiet", "yes", "no_color", "server")


def _common() -> list[Any]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_options)
    return [param for param in typer.main.get_command(app).params if param.name in _NAMES]


def _plain(params: list[Any]) -> list[Any]:
    """The same, each with the light reader where its kind has one."""
    for param in params:
        convert = _PLAIN.get(param.type_descriptor.annotation)
        if convert is not None:
            param._runtime_param = _Plain(convert)
    return params


class _Plain:
    """Reads one kind of plain value; has the one method that typer calls on its own readers."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: typer.Context) -> Any:
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        try:
            return tuple(map(self._convert, value)) if many else self._convert(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not a number", ctx=ctx, param=param) from None


_PLAIN: Final[dict[Any, Callable[[Any], Any]]] = {str: str, int: int, float: float, bool: bool, list[str]: str}
