"""`peerd hosts`: containerd's mirror files."""

import sys
from collections.abc import Sequence

import click

from app.cli.help import ExampleCommand
from app.cli.settings_options import settings_options
from app.containerd.mirrors import Done, install_mirrors, mirror_folder, restore_mirrors
from app.errors import BadRequest
from app.settings import Settings


@click.group(short_help="Write, put back or show containerd's mirror files.")
def command() -> None:
    """Write, put back or show the hosts.toml files by which containerd asks this node first.

    containerd reads them at each pull: it need not be restarted. What else is in a file stays, and its original is kept
    beside it.
    """


@command.command(
    cls=ExampleCommand,
    short_help="Make this node the first host of registries.",
    examples={
        "peerd hosts install --hosts docker.io --hosts ghcr.io": "images of two registries are asked for here first",
        "peerd hosts install --hosts _default": "images of every registry that has no folder of its own",
    },
)
@settings_options("hosts", "hosts_dir", "containerd_config", "http_addr", "registry")
def install(*, settings: Settings) -> None:
    """Make this node (at --http-addr) the first host of each registry of --hosts; what is so already is left alone.

    Exit 1 when a file could not be written; the others are.
    """
    if not settings.hosts:
        raise BadRequest("which registries? Right would be --hosts docker.io, or --hosts _default for all")
    _report(settings, install_mirrors(settings))


@command.command(
    cls=ExampleCommand,
    short_help="Put back what was there.",
    examples={
        "peerd hosts restore": "every file, before peerd is removed",
        "peerd hosts restore --hosts docker.io": "one",
    },
)
@settings_options("hosts", "hosts_dir", "containerd_config")
def restore(*, settings: Settings) -> None:
    """Put back the files of --hosts, or all, as they were before; of one edited since, only this node's part is taken out.

    Exit 1 when a file could not be put back; the others are.
    """
    done = restore_mirrors(settings)
    if not done:
        click.echo(f"{mirror_folder(settings).path}: no mirror file is peerd's")
    _report(settings, done)


@command.command(
    cls=ExampleCommand, short_help="Show the files.", examples={"peerd hosts show": "what containerd reads"}
)
@settings_options("hosts_dir", "containerd_config")
def show(*, settings: Settings) -> None:
    """Show every hosts.toml in --hosts-dir, and which of them name peerd."""
    folder = mirror_folder(settings)
    files = folder.files()
    if not files:
        click.echo(f"{folder.path}: no mirror files")
    for file in files:
        click.secho(f"{folder.path / file.folder / 'hosts.toml'}: {_whose(file.installed)}", bold=True)
        click.echo(file.text if file.text.endswith("\n") else f"{file.text}\n")


def _whose(installed: bool) -> str:
    return "peerd is the first host" if installed else "peerd is not in it"


def _report(settings: Settings, done: Sequence[Done]) -> None:
    folder = mirror_folder(settings).path
    for one in done:
        if one.outcome is not None:
            click.echo(f"{one.name}: {one.outcome} ({folder})")
        else:
            click.echo(f"{one.name}: {one.refusal}", err=True)
    if any(one.refusal for one in done):
        sys.exit(1)
