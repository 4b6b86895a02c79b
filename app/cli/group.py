"""The command `peerd` and how its commands are found: a module `NAME.py` in `commands` holds the command `NAME`.

A command's module is imported when it is called, or for its line in the help: what one command needs costs the others
nothing.
"""

import importlib
import pkgutil
from typing import Any, Final

import click

import app.cli.commands as commands_package
from app import __version__
from app.cli.help import write_examples
from app.errors import BadRequest, PeerdError
from app.settings import SettingsError

_EXAMPLES: Final = {
    "peerd demo": "see it work on this machine",
    "peerd serve --config /etc/peerd.yaml": "run a node",
    "peerd pull docker.io/library/alpine:3.20": "fetch an image through the node on this machine",
    'eval "$(_PEERD_COMPLETE=bash_source peerd)"': "complete commands and options in bash; zsh_source and fish_source likewise",
}
_WRONG_USE: Final = (BadRequest, SettingsError)


class Failed(click.ClickException):
    """Ends the command with a reason on stderr."""

    def __init__(self, error: PeerdError, command: str) -> None:
        super().__init__("\n".join(f"{command}: {line}" for line in str(error).splitlines()))
        self.exit_code = 2 if isinstance(error, _WRONG_USE) else 1

    def show(self, file: Any = None) -> None:
        """The reason as it is."""
        click.echo(self.message, file=file, err=True)


class Commands(click.Group):
    """Commands by the modules that hold them; errors of ours become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, sorted."""
        return sorted(
            {*super().list_commands(ctx), *(module.name for module in pkgutil.iter_modules(commands_package.__path__))}
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{commands_package.__name__}.{cmd_name}").command
        command.name = cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown name is told which are known."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            error.message += f" Right would be one of {', '.join(self.list_commands(ctx))}."
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except PeerdError as error:
            name = " ".join(part for part in (ctx.info_name, ctx.invoked_subcommand) if part)
            raise Failed(error, name) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Examples, and how to get completion."""
        write_examples(formatter, _EXAMPLES)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", prog_name="peerd", message="%(prog)s %(version)s")
def main() -> None:
    """Nodes of a cluster take image layers and files from each other instead of all from one registry."""
