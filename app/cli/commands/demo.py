"""`peerd demo`: a cluster on this machine, and a table of where the bytes came from."""

import os
import random
import signal
import tempfile
from pathlib import Path

import click
import rich.box
from rich.console import Console
from rich.table import Table

from app.cli.help import ExampleCommand
from app.cli.units import bytes_text, share_text
from app.client.manifest import Platform
from app.client.reference import ImageReference
from app.demo.acts import Act, faults, pull_at_once, pull_in_turn, read_ranges
from app.demo.image import Document, make_image
from app.demo.nodes import Cluster, NodeFailed, RunningNode
from app.demo.registry import Registry, serving
from app.settings.values import parse_size

_REGISTRY = "demo.example"
_REPOSITORY = "shop/app"


def _size(ctx: click.Context, parameter: click.Parameter, value: str) -> int:  # noqa: ARG001 - click's signature
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}; right would be 64MiB") from error


@click.command(
    cls=ExampleCommand,
    short_help="See it work on this machine.",
    examples={
        "peerd demo": "three nodes",
        "peerd demo --nodes 5 --keep": "five, and keep them to look at the page and the API",
    },
)
@click.option("--nodes", "count", type=click.IntRange(2, 50), default=3, show_default=True, help="How many nodes.")
@click.option("--keep", is_flag=True, help="Leave it running after the table, until Ctrl-C, and print the addresses.")
@click.option("--image-size", metavar="SIZE", default="64MiB", show_default=True, callback=_size, help="Of each image.")
def command(*, count: int, keep: bool, image_size: int) -> None:
    """Start a cluster on this machine with a registry of its own, and show where the bytes come from.

    An image is pulled through each node in turn, as the nodes join; a fresh one through all at once; and ranges of a file
    are read as overlaybd reads them. Exit 0 when every byte was right, all nodes but the first took at least 95 % of the first image
    from peers, and the registry sent each of its blobs once.
    """
    # A demo that is told to end takes its nodes down as if it were interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    platform = Platform.here()
    registry = Registry()
    with tempfile.TemporaryDirectory(prefix="peerd-demo-") as directory, serving(registry):
        console.print(f"Starting {count} nodes and a registry on this machine …")
        with Cluster(Path(directory), _REGISTRY, registry.port) as cluster:
            for _ in range(count):
                cluster.grow()
            found = _play(cluster, registry, image_size, platform, console)
            if keep:
                _keep(cluster.nodes, registry, Path(directory), console)
    if found:
        raise NodeFailed("\n".join(found))
    console.print(
        "[green]All digests verified; every node but the first took its image from peers; the registry sent each blob once.[/]"
    )


def _play(cluster: Cluster, registry: Registry, image_size: int, platform: Platform, console: Console) -> list[str]:
    first, second = make_image(image_size, platform), make_image(image_size, platform)
    registry.push(_REPOSITORY, "v1", first)
    registry.push(_REPOSITORY, "v2", second)
    file = Document.of("application/octet-stream", os.urandom(image_size // 4))
    registry.push_blob(file)
    image = f"{_REGISTRY}/{_REPOSITORY}"
    in_turn = pull_in_turn(cluster, registry, ImageReference.parse(f"{image}:v1"), first, platform)
    _show(in_turn, console)
    _show(pull_at_once(cluster.nodes, registry, ImageReference.parse(f"{image}:v2"), second, platform), console)
    url = f"http://127.0.0.1:{registry.port}/v2/{_REPOSITORY}/blobs/{file.digest}"
    _show(read_ranges(cluster.nodes, registry, file, url, random.Random(file.digest.hex)), console)  # noqa: S311 - no secret
    return faults(in_turn)


def _show(act: Act, console: Console) -> None:
    table = _table(act.title, "node", "seconds", "bytes", "cache", "peers", "upstream", "peers %", "verified")
    for row in act.rows:
        table.add_row(
            row.node,
            f"{row.seconds:.2f}",
            bytes_text(row.size),
            *(bytes_text(row.served.get(source, 0)) for source in ("cache", "peer", "upstream")),
            share_text(row.served.get("peer", 0), row.size),
            row.checked,
        )
    console.print(table)
    sent = _table("What the registry sent for it", "blob", "size", "requests", "sent", "copies")
    for blob in act.blobs:
        sent.add_row(blob.name, bytes_text(blob.size), str(blob.requests), bytes_text(blob.sent), f"{blob.copies:.2f}")
    console.print(sent)
    console.print(
        f"Upstream copies: {act.copies:.2f}. The nodes took {bytes_text(act.received('upstream'))} from upstream and "
        f"{bytes_text(act.received('peer'))} from each other.\n"
    )


def _table(title: str, first: str, *numbers: str) -> Table:
    """Narrow enough for 80 columns: a name, then numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _keep(nodes: list[RunningNode], registry: Registry, directory: Path, console: Console) -> None:
    table = Table("node", "page and API", "pid", "log", title="still running", box=rich.box.SIMPLE_HEAD)
    for node in nodes:
        table.add_row(node.name, f"http://{node.http_address}/", str(node.process.pid), str(node.log))
    console.print(table)
    console.print(f"registry: http://127.0.0.1:{registry.port}, as {_REGISTRY}; caches in {directory}")
    console.print(
        f"Try: peerd status --node http://{nodes[0].http_address}\n"
        f"     peerd pull --node http://{nodes[0].http_address} {_REGISTRY}/{_REPOSITORY}:v1\n"
        f"Stop: Ctrl-C here, or kill {os.getpid()}"
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("Stopping …")
