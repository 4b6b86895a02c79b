"""`peerd preheat`: content onto nodes before it is asked for."""

import time
from typing import Any

import click
import rich.progress
from rich.console import Console

from app.api.models import Preheat, PreheatNode
from app.cli.help import ExampleCommand
from app.cli.node_option import json_option, node_option
from app.cli.units import bytes_text
from app.client import api
from app.client.node import Node
from app.client.reference import ImageReference, is_url
from app.errors import Unobtainable

_ASK_EVERY_SECONDS = 0.3


def _nodes(ctx: click.Context, parameter: click.Parameter, value: str) -> int | str:  # noqa: ARG001 - click's signature
    if value != "all" and not (value.isdecimal() and int(value) > 0):
        raise click.BadParameter(f"{value!r} is neither `all` nor a number of nodes above 0")
    return value if value == "all" else int(value)


@click.command(
    cls=ExampleCommand,
    short_help="Bring content onto nodes before it is asked for.",
    examples={
        "peerd preheat ghcr.io/org/app:v1": "an image onto all nodes",
        "peerd preheat --nodes 3 ghcr.io/org/app:v1 ghcr.io/org/base:v7": "two images onto three nodes",
    },
)
@click.argument("references", nargs=-1, required=True, metavar="IMAGE_OR_URL...")
@node_option
@click.option("--nodes", metavar="N|all", default="all", show_default=True, callback=_nodes, help="How many nodes.")
@json_option
def command(*, references: tuple[str, ...], node: Node, nodes: int | str, as_json: bool) -> None:
    """Bring images and files onto nodes, all at the same time, from one upstream copy; ends when the last node has them.

    Exit 1 when a node failed.
    """
    wanted = [text if is_url(text) else str(ImageReference.parse(text)) for text in references]
    began = api.start_preheat(node, wanted, nodes)
    console = Console(stderr=True)
    ended = _watch(node, began, console) if console.is_terminal and not as_json else _wait(node, began)
    if as_json:
        click.echo(ended.model_dump_json(indent=2))
    else:
        for one in ended.nodes:
            console.print(_line(one), markup=False, highlight=False)
    if failed := [one for one in ended.nodes if one.state == "failed"]:
        raise Unobtainable("\n".join(f"{one.name} failed: {one.error}" for one in failed))


def _wait(node: Node, preheat: Preheat) -> Preheat:
    while preheat.state == "running":
        time.sleep(_ASK_EVERY_SECONDS)
        preheat = api.preheat(node, preheat.id)
    return preheat


def _watch(node: Node, preheat: Preheat, console: Console) -> Preheat:
    columns: tuple[Any, ...] = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(binary_units=True),
        rich.progress.TransferSpeedColumn(),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}
        while True:
            for one in preheat.nodes:
                task = tasks.setdefault(one.name, rich.progress.TaskID(-1))
                if task == -1:
                    task = tasks[one.name] = bar.add_task(one.name, total=one.total_bytes)
                bar.update(task, completed=one.done_bytes, total=one.total_bytes)
            if preheat.state != "running":
                return preheat
            time.sleep(_ASK_EVERY_SECONDS)
            preheat = api.preheat(node, preheat.id)


def _line(one: PreheatNode) -> str:
    return f"{one.name}: {one.state}, {bytes_text(one.done_bytes)}" + (f": {one.error}" if one.error else "")
