"""`--node`: which node a command talks to."""

from collections.abc import Callable
from typing import Any

import click

from app.client.node import Node


def _node(ctx: click.Context, parameter: click.Parameter, value: str) -> Node:  # noqa: ARG001 - click's signature
    return Node(value.rstrip("/"))


def node_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--node`; it is called with `node`."""
    return click.option(
        "--node",
        envvar="PEERD_NODE",
        default="http://127.0.0.1:5000",
        metavar="URL",
        show_default=True,
        show_envvar=True,
        callback=_node,
        help="The node to talk to.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json`; it is called with `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(function)
