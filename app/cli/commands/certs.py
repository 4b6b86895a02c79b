"""`peerd certs`: a cluster's CA and its nodes' certificates."""

import datetime as dt
import ipaddress
from pathlib import Path

import click

from app.cli.authority import Credentials, IpAddress, issue, new_authority
from app.cli.help import ExampleCommand
from app.errors import BadRequest
from app.settings.values import parse_node_name

_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


def _node_name(ctx: click.Context, parameter: click.Parameter, value: str) -> str:  # noqa: ARG001 - click's signature
    try:
        return parse_node_name(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}; right would be letters, digits, dots and dashes") from error


def _addresses(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[IpAddress]:  # noqa: ARG001
    try:
        return [ipaddress.ip_address(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(f"{error}; right would be 10.0.0.7 or fd00::7") from error


@click.group(short_help="Make a cluster CA and node certificates.")
def command() -> None:
    """Make a cluster's CA and its nodes' certificates.

    Members prove themselves to each other with a certificate of the cluster's CA; give each node the three files that
    --tls-ca, --tls-cert and --tls-key name. The CA's key is needed to issue certificates, and on no node.
    """


@command.command(
    cls=ExampleCommand,
    short_help="Make a cluster CA.",
    examples={"peerd certs init --out certs": "certs/ca.crt and certs/ca.key"},
)
@click.option("--out", required=True, type=_DIRECTORY, metavar="DIR", help="Where ca.crt and ca.key are put.")
@click.option("--days", default=3650, type=click.IntRange(min=1), show_default=True, help="How long it is valid.")
@click.option("--force", is_flag=True, help="Replace a CA that is there; its certificates are worth nothing then.")
def init(*, out: Path, days: int, force: bool) -> None:
    """Make a CA for a cluster: ca.crt, and ca.key that only its owner can read."""
    certificate, key = out / "ca.crt", out / "ca.key"
    if there := [path for path in (certificate, key) if path.exists() and not force]:
        raise BadRequest(f"{there[0]} exists, and certificates of it would be worth nothing; --force replaces it")
    new_authority(days=days, now=dt.datetime.now(dt.UTC)).write(certificate, key)
    click.echo(f"{certificate}\n{key}")


@command.command(
    "issue",
    cls=ExampleCommand,
    short_help="Issue a node's certificate.",
    examples={
        "peerd certs issue --name node-a --ip 10.0.0.7 --out certs": "certs/node-a.crt and certs/node-a.key",
        "peerd certs issue --name node-a --ip 10.0.0.7 --ip fd00::7 --ca ca.crt --ca-key ca.key --out .": "a CA from elsewhere",
    },
)
@click.option(
    "--name", required=True, callback=_node_name, help="The node's --node-name; its certificate is for NAME.peerd."
)
@click.option(
    "--ip", "addresses", multiple=True, callback=_addresses, metavar="ADDRESS", help="The node's; may be repeated."
)
@click.option("--out", required=True, type=_DIRECTORY, metavar="DIR", help="Where NAME.crt and NAME.key are put.")
@click.option("--days", default=365, type=click.IntRange(min=1), show_default=True, help="How long it is valid.")
@click.option("--ca", type=_FILE, metavar="FILE", help="The CA's certificate. [default: ca.crt in --out]")
@click.option("--ca-key", type=_FILE, metavar="FILE", help="The CA's key. [default: ca.key in --out]")
def issue_command(
    *, name: str, addresses: list[IpAddress], out: Path, days: int, ca: Path | None, ca_key: Path | None
) -> None:
    """Issue a certificate for one node, in place of an older one; a running node takes the new files by itself."""
    authority = Credentials.read(ca or out / "ca.crt", ca_key or out / "ca.key")
    certificate, key = out / f"{name}.crt", out / f"{name}.key"
    issued = issue(authority, name, addresses, days=days, now=dt.datetime.now(dt.UTC))
    issued.write(certificate, key)
    click.echo(f"{certificate}\n{key}")
