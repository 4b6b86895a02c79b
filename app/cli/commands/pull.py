"""`peerd pull`: images and files through a node, verified."""

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from app.cli.help import ExampleCommand
from app.cli.node_option import json_option, node_option
from app.cli.progress import accounted, summary_line, watcher
from app.client.layout import OciLayout
from app.client.manifest import Platform
from app.client.node import Node
from app.client.pull import Pulled, pull_file, pull_image
from app.client.reference import ImageReference, is_url
from app.client.tally import Tally
from app.errors import PeerdError


@click.command(
    cls=ExampleCommand,
    short_help="Fetch images or files through a node.",
    examples={
        "peerd pull ghcr.io/org/app:v1": "see that an image can be had, and from where",
        "peerd pull --oci-layout app --all-platforms example.local/app:v1": "keep it, all platforms of it",
        "peerd pull --output layer.tar 'https://account.blob.core.windows.net/layers/layer.tar'": "keep a file",
    },
)
@click.argument("references", nargs=-1, required=True, metavar="IMAGE_OR_URL...")
@node_option
@click.option(
    "--platform", metavar="OS/ARCH[/VARIANT]", help="Which manifest of an image index. [default: this machine's]"
)
@click.option("--all-platforms", is_flag=True, help="Every manifest of an image index.")
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Keep the file of a URL."
)
@click.option(
    "--oci-layout",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep images in an OCI layout.",
)
@click.option(
    "--parallel", metavar="N", type=click.IntRange(1, 64), default=4, show_default=True, help="Blobs at once."
)
@json_option
def command(
    *,
    references: tuple[str, ...],
    node: Node,
    platform: str | None,
    all_platforms: bool,
    output: Path | None,
    oci_layout: Path | None,
    parallel: int,
    as_json: bool,
) -> None:
    """Fetch through this node and verify every digest; without --output or --oci-layout the bytes are dropped.

    A body that breaks off is gone on with at the same byte. Exit 1 when bytes can not be had or do not verify.
    """
    images, urls = _told_apart(references)
    if output and (len(urls) != 1 or images):
        raise click.UsageError("--output keeps the file of one URL; an image is kept by --oci-layout DIR.")
    if oci_layout and not images:
        raise click.UsageError("--oci-layout keeps images; the file of a URL is kept by --output FILE.")
    if platform and all_platforms:
        raise click.UsageError("--platform and --all-platforms exclude each other.")
    meant = None if all_platforms else Platform.parse(platform) if platform else Platform.here()
    layout = OciLayout(oci_layout) if oci_layout else None
    console = Console(stderr=True)
    summaries: list[dict[str, Any]] = []
    try:
        for reference in references:
            began = time.monotonic()
            with watcher(console, silent=as_json) as tally, accounted(node, tally):
                if reference in images:
                    pulled = pull_image(node, images[reference], tally, platform=meant, layout=layout, at_once=parallel)
                else:
                    pulled = pull_file(node, reference, tally, output=output)
            seconds = time.monotonic() - began
            summaries.append(_summary(pulled, tally, seconds))
            if not as_json:
                console.print(summary_line(pulled.name, tally, seconds), markup=False, highlight=False, soft_wrap=True)
    except PeerdError as error:
        if as_json:
            click.echo(json.dumps({"pulled": summaries, "error": str(error)}, indent=2))
        raise
    if as_json:
        click.echo(json.dumps({"pulled": summaries, "error": None}, indent=2))


def _told_apart(references: tuple[str, ...]) -> tuple[dict[str, ImageReference], list[str]]:
    """Images and URLs; all are parsed before the first is asked for."""
    images = {text: ImageReference.parse(text) for text in references if not is_url(text)}
    return images, [text for text in references if is_url(text)]


def _summary(pulled: Pulled, tally: Tally, seconds: float) -> dict[str, Any]:
    return {
        "reference": pulled.name,
        "digest": str(pulled.root.digest),
        "size_bytes": pulled.size,
        "seconds": round(seconds, 3),
        "bytes_by_source": tally.by_source(),
        "resumed": tally.resumptions,
        "verified": pulled.root.wanted.digest is not None or bool(pulled.parts),
        "parts": [{"digest": str(part.digest), "size_bytes": part.size} for part in pulled.parts],
    }
