"""`peerd doctor`: a node looked at as an operator would."""

import json
import sys
from dataclasses import asdict

import click

from app.cli.help import ExampleCommand
from app.cli.node_option import json_option, node_option
from app.cli.settings_options import settings_options
from app.client.node import Node
from app.doctor import Verdict
from app.doctor.checks import examine
from app.doctor.observe import observe
from app.settings import Settings

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


@click.command(
    cls=ExampleCommand,
    short_help="Check a node, and say what to do.",
    examples={
        "peerd doctor --config /etc/peerd.yaml": "with the options that the node runs with",
        "peerd doctor --hosts docker.io": "is docker.io asked for here first?",
    },
)
@node_option
@settings_options(
    "hosts",
    "hosts_dir",
    "containerd_config",
    "containerd_socket",
    "http_addr",
    "node_name",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "cache_dir",
    "cache_size",
)
@json_option
def command(*, settings: Settings, node: Node, as_json: bool) -> None:
    """Check this machine's containerd, its mirror files, the node, its members' ports, certificate, clock and disk.

    A line for each: ok, warning or failed, and what to do. Exit 1 when something failed.
    """
    findings = examine(observe(settings, node))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            verdict, line = finding.verdict, str(finding)
            click.echo(click.style(verdict, fg=_COLOURS[verdict]) + line.removeprefix(verdict))
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        sys.exit(1)
