"""`peerd purge`: forget content."""

import click
from rich.console import Console
from rich.table import Table

from app.cli.help import ExampleCommand
from app.cli.node_option import json_option, node_option
from app.cli.units import bytes_text
from app.client import api
from app.client.node import Node
from app.client.reference import ImageReference, is_url
from app.content.digest import Digest
from app.errors import BadRequest, Unobtainable


@click.command(
    cls=ExampleCommand,
    short_help="Forget content.",
    examples={
        "peerd purge ghcr.io/org/app:v1": "forget an image here",
        "peerd purge --all-nodes sha256:c3229003e05185baa8b2ef8e9cca3c84f2827acc4dd50bcf888ea48a5a67aa90": "a blob everywhere",
    },
)
@click.argument("target", metavar="DIGEST_IMAGE_OR_URL")
@node_option
@click.option("--all-nodes", is_flag=True, help="Forget it on every live member.")
@json_option
def command(*, target: str, node: Node, all_nodes: bool, as_json: bool) -> None:
    """Forget content in the cache of this node; what containerd holds stays there.

    Exit 1 when no node held it, or one could not be asked.
    """
    purge = api.purge(node, _normal(target), all_nodes=all_nodes)
    if as_json:
        click.echo(purge.model_dump_json(indent=2))
    else:
        table = Table("node", "contents", "bytes", "")
        for one in purge.nodes:
            table.add_row(
                one.name, str(one.forgotten_contents), bytes_text(one.forgotten_bytes), one.error or "forgotten"
            )
        Console().print(table)
    if unasked := [one.name for one in purge.nodes if one.error]:
        raise Unobtainable(f"not asked, so perhaps still held: {', '.join(unasked)}; repeat it once they answer")


def _normal(target: str) -> str:
    """A digest, a content key or a URL as it is; an image by its full name."""
    if is_url(target) or target.startswith("url:"):
        return target
    try:
        Digest.parse(target.partition("@")[0])
    except BadRequest:
        return str(ImageReference.parse(target))
    return target
