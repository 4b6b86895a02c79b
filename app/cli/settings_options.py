"""A node's options on a command line, made from `app.settings`; a value is parsed there, wherever it was written."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import click
from pydantic.fields import FieldInfo

from app.cli.help import ExampleCommand
from app.settings import Settings, load_settings
from app.settings.loading import is_list, option_of, shown_default, spelled
from app.settings.options import GROUPS

_Function = Callable[..., Any]


class SettingsCommand(ExampleCommand):
    """A command whose help shows a node's options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for each group, then what the command has besides."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                rows.setdefault(_heading(parameter.name or ""), []).append(record)
        for heading, records in rows.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def settings_options(*names: str) -> Callable[[_Function], _Function]:
    """Give a command these options of a node (all without names) and `--config`; it is called with `settings`."""
    chosen = names or tuple(Settings.model_fields)

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def command(config: str | None, **values: Any) -> Any:
            given = {name: values.pop(name) for name in chosen}
            return function(settings=load_settings({"config": config, **given}, os.environ), **values)

        config = click.option("--config", metavar="FILE", help="YAML file with options, by name. [env PEERD_CONFIG]")
        decorated: _Function = config(command)
        for option in reversed([*_options(chosen)]):
            decorated = option(decorated)
        return decorated

    return decorate


def _options(names: tuple[str, ...]) -> Iterator[Callable[[_Function], _Function]]:
    for group in GROUPS:
        for name in group.__annotations__:
            if name in names:
                yield _option(name, Settings.model_fields[name])


def _option(name: str, field: FieldInfo) -> Callable[[_Function], _Function]:
    """A value stays text here, so that a wrong one gets the same message wherever it was written."""
    option = option_of(name)
    text = f"{field.description} [default: {shown_default(field)}]"
    if field.annotation is bool:
        return click.option(f"{option}/--no-{option[2:]}", name, default=None, help=text)
    return click.option(option, name, metavar=spelled(field).metavar, multiple=is_list(field), default=None, help=text)


def _heading(name: str) -> str:
    for group in GROUPS:
        if name in group.__annotations__:
            return str(group.__doc__).rstrip(".")
    return "Options"
